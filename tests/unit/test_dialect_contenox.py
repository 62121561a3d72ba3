"""Reading contenox chains: what each key becomes, both sets of names, and what is wrong or doubtful."""

from __future__ import annotations

import pytest

from engine.control.compiling import compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import CompileError
from engine.core.plan.chains import compile_chain
from engine.core.plan.ir import AgentSnapshot, ToolContract
from engine.core.plan.ops import EmbedOp
from engine.core.spec.dialects.contenox import ChainSpec, ChainTaskSpec, Handler, Operator
from engine.core.spec.dialects.contenox_read import read_chain
from engine.source.parse import parse_source

CONTRACTS = {name: ToolContract(name, "python") for name in ("crm.open", "crm.find", "plain")}


def chain(text: str) -> ChainSpec:
    spec, findings = read_chain(parse_source(text, "chain"))
    assert findings.items == []
    return spec


def task(members: str) -> ChainTaskSpec:
    return chain(f"tasks: [{{id: a, {members}}}]").tasks[0]


def findings_of(text: str) -> list[Diagnostic]:
    spec, read = read_chain(parse_source(text, "chain"))
    _, made = compile_chain(spec, contracts=CONTRACTS, agent=AgentSnapshot())
    return sorted([*read.items, *made.items], key=lambda item: (item.position.line, item.position.column))


def of_task(members: str, others: str = "") -> list[tuple[str, str]]:
    found = findings_of(f"tasks:\n- {{id: a, {members}}}\n{others}")
    return [(item.code, item.path) for item in found]


END = "transition: {branches: [{operator: default, goto: end}]}"


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("prompt_to_string", "raw_string"),
        ("prompt_to_int", "parse_number"),
        ("prompt_to_float", "parse_score"),
        ("prompt_to_range", "parse_range"),
        ("chat_completion", "model_execution"),
        ("text_to_embedding", "embedding"),
    ],
)
def test_old_and_new_names_of_a_handler_mean_the_same(newer: str, older: str) -> None:
    assert task(f"handler: {newer}").handler is task(f"handler: {older}").handler is Handler(older)


def test_a_task_is_read_with_all_its_members() -> None:
    found = task(
        "handler: hook, hook: {name: crm, tool_name: open, args: {q: x}}, input_var: input, timeout: 1m30s,"
        " retry_on_failure: 2, prompt_template: '{{.input}}', output_template: '{{.id}}', print: done,"
        " compose: {with_var: input, strategy: merge_chat_histories}, system_instruction: Be brief.,"
        " execute_config: {model: m, models: [m], temperature: 0.5, hooks: [crm], hide_tools: [crm.x]},"
        " transition: {on_failure: a, branches: [{operator: '>', when: '5', goto: a}, {operator: default, goto: end}]}"
    )
    assert found.hook is not None
    assert (found.hook.name.text, found.hook.tool.text, found.hook.args) == ("crm", "open", {"q": "x"})
    assert (found.timeout_s, found.retries) == (90.0, 2)
    assert found.execute.temperature == 0.5
    assert [model.text for model in found.execute.models] == ["m", "m"]
    assert found.on_failure is not None
    assert found.on_failure.text == "a"
    assert [(branch.operator, branch.when.text, branch.goto.text) for branch in found.branches] == [
        (Operator.GT, "5", "a"),
        (Operator.DEFAULT, "", "end"),
    ]


def test_empty_texts_of_clients_mean_nothing() -> None:
    found = task(
        "handler: noop, prompt_template: '', print: '', input_var: '',"
        " transition: {on_failure: '', branches: [{operator: default, when: '', goto: ''}]}"
    )
    assert (found.prompt_template, found.print, found.on_failure) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[]", "E209"),
        ("{}", "E202"),
        ("tasks: []", "E208"),
        ("tasks: {}", "E203"),
        ("tasks: [5]", "E203"),
        ("{tasks: [{id: a, handler: raise_error}], task: []}", "E201"),
        ("tasks: [{handler: raise_error}]", "E202"),
        ("tasks: [{id: end, handler: raise_error}]", "E406"),
        ("tasks: [{id: input, handler: raise_error}]", "E406"),
        ("tasks: [{id: a, handler: raise_error}, {id: a, handler: raise_error}]", "E404"),
        ("dialect: contenoxx\ntasks: [{id: a, handler: raise_error}]", "E506"),
    ],
)
def test_a_chain_that_is_none_is_an_error(text: str, code: str) -> None:
    assert code in [found.code for found in findings_of(text)]


@pytest.mark.parametrize(
    ("members", "code", "path"),
    [
        ("handler: raw_sting, END", "E506", ".handler"),
        ("handler: route, END", "E207", ".handler"),
        ("END", "E202", ""),
        ("handler: noop, systemInstruction: x, END", "E201", ""),
        ("handler: noop, timeout: soon, END", "E504", ".timeout"),
        ("handler: noop, retry_on_failure: -1, END", "E503", ".retry_on_failure"),
        ("handler: condition_key, END", "E202", ""),
        ("handler: hook, END", "E202", ""),
        ("handler: hook, hook: {name: crm, tool_name: opn}, END", "E402", ".hook.tool_name"),
        ("handler: tools, hook: {name: crm, tool_name: open, args: {n: 1}}, END", "E203", ".hook.args.n"),
        ("handler: chat_completion, execute_config: {hooks: [crn]}, END", "E402", ".execute_config.hooks[0]"),
        ("handler: noop, input_var: nowhere, END", "E401", ".input_var"),
        ("handler: noop, prompt_template: 'x {{.nowhere}}', END", "E401", ".prompt_template"),
        ("handler: noop, prompt_template: '{{.input', END", "E302", ".prompt_template"),
        ("handler: noop, prompt_template: '{{now:2006}}', END", "E207", ".prompt_template"),
        ("handler: noop, compose: {with_var: b}, END", "E401", ".compose.with_var"),
        ("handler: noop, compose: {with_var: input, strategy: mix}, END", "E506", ".compose.strategy"),
        (
            "handler: noop, transition: {on_failure: b, branches: [{operator: default}]}",
            "E421",
            ".transition.on_failure",
        ),
    ],
)
def test_a_mistake_in_a_task_is_said_with_its_place(members: str, code: str, path: str) -> None:
    assert (code, f"tasks[0]{path}") in of_task(members.replace("END", END))


@pytest.mark.parametrize(
    ("branch", "code", "path"),
    [
        ("operator: default, goto: b", "E421", ".goto"),
        ("when: x, goto: a", "E202", ""),
        ("operator: equal, when: x", "E506", ".operator"),
        ("operator: edge_traversed_at_least, when: x", "E207", ".operator"),
        ("operator: gt, when: many", "E506", ".when"),
        ("operator: in_range, when: '-1-5'", "E506", ".when"),
        ("operator: equals", "E202", ".when"),
        ("operator: equals, when: x, go: a", "E201", ".go"),
    ],
)
def test_a_mistake_in_a_branch_is_said_with_its_place(branch: str, code: str, path: str) -> None:
    found = of_task(f"handler: raw_string, transition: {{branches: [{{{branch}}}]}}")
    assert (code, f"tasks[0].transition.branches[0]{path}") in found


@pytest.mark.parametrize(
    ("members", "code"),
    [
        (f"handler: noop, execute_config: {{provider: openai}}, {END}", "W612"),
        (f"handler: noop, compose: {{with_var: input, strategy: override}}, {END}", "W612"),
        ("handler: noop", "W613"),
        ("handler: raw_string, transition: {branches: [{operator: equals, when: x}]}", "W613"),
        ("handler: noop, transition: {branches: [{operator: equals, when: nop}, {operator: default}]}", "W613"),
        ("handler: noop, transition: {branches: [{operator: default}, {operator: default}]}", "W613"),
        ("handler: noop, transition: {branches: [{operator: gt, when: '5'}, {operator: default}]}", "W613"),
        (f"handler: raise_error, {END}", "W613"),
    ],
)
def test_what_is_doubtful_in_a_task_gets_a_warning(members: str, code: str) -> None:
    assert [found for found, _ in of_task(members)] == [code]


def test_a_condition_is_compared_by_what_the_key_means() -> None:
    members = (
        "handler: condition_key, valid_conditions: {urgent: true, later: false},"
        " transition: {branches: [{operator: equals, when: urgent}, {operator: default}]}"
    )
    (found,) = findings_of(f"tasks: [{{id: a, {members}}}]")
    assert (found.code, found.hint) == ("W613", "compare with what the key means: `when: 'true'`")


@pytest.mark.parametrize(
    "members",
    [
        END + ", handler: noop",
        "handler: raise_error",
        "handler: condition_key, valid_conditions: {x: true}, transition: {branches: [{operator: equals, when: 'true'},"
        " {operator: equals, when: 'false'}]}",
        "handler: model_execution, transition: {branches: [{operator: contains, when: c}]}",
        "handler: hook, hook: {name: crm, tool_name: open}, transition: {branches: [{operator: equals, when: ok}]}",
    ],
)
def test_a_task_whose_results_all_lead_on_is_in_order(members: str) -> None:
    assert of_task(members) == []


def test_a_task_that_no_branch_leads_to_gets_a_warning() -> None:
    assert of_task(f"handler: noop, {END}", f"- {{id: b, handler: noop, {END}}}") == [("W602", "tasks[1]")]


def test_a_chain_is_planned_and_the_compiler_says_that_it_does_not_run_yet() -> None:
    compiled = compile_text(f"dialect: contenox\ntasks: [{{id: a, handler: noop, {END}}}]", contracts={})
    (found,) = compiled.warnings
    assert (found.code, found.message) == (
        "W614",
        "a contenox chain is planned, but this engine does not run it yet",
    )
    assert [block.name for block in compiled.plan.blocks] == ["a"]


def test_a_chain_needs_no_key_if_the_caller_says_what_it_is() -> None:
    text = f"tasks: [{{id: a, handler: noop, {END}}}]"
    compiled = compile_text(text, contracts={}, dialect="contenox")
    assert [found.code for found in compiled.warnings] == ["W614"]
    assert compiled.spec["dialect"] == "contenox"


def test_an_embedding_is_planned_as_a_step_that_embeds() -> None:
    members = f"handler: text_to_embedding, execute_config: {{model: minilm}}, {END}"
    embed, vector, *_ = (
        compile_text(f"dialect: contenox\ntasks: [{{id: a, {members}}}]", contracts={}).plan.blocks[0].ops
    )
    assert isinstance(embed, EmbedOp)
    assert (embed.model, vector.label) == ("minilm", "")
    assert of_task(members) == []


def test_a_chain_that_is_read_as_a_task_gets_a_hint() -> None:
    with pytest.raises(CompileError) as caught:
        compile_text("tasks: [{id: a, handler: noop}]", contracts={})
    assert "this looks like a contenox chain; add `dialect: contenox`" in [
        found.hint for found in caught.value.diagnostics
    ]


@pytest.mark.parametrize(
    "members",
    [
        "handler: raw_string, transition: {branches: [{operator: equals, when: LONG, goto: a}, {operator: default}]}",
        f"handler: condition_key, valid_conditions: {{{', '.join(f'k{n}: true' for n in range(101))}}}, END",
        "handler: noop, id: LONG, END",
    ],
)
def test_what_becomes_part_of_an_expression_has_a_limit(members: str) -> None:
    text = members.replace("LONG", "x" * 5_000).replace("END", END)
    name = "" if "id:" in text else "id: a, "
    assert {found.code for found in findings_of(f"tasks: [{{{name}{text}}}]")} & {"E503", "E406"}


def test_long_texts_and_many_tasks_are_planned() -> None:
    long = "x" * 50_000
    tasks = "".join(
        f"- {{id: t{number}, handler: chat_completion, system_instruction: {long if number == 1 else 'x'}, {END}}}\n"
        for number in range(200)
    )
    assert {found.code for found in findings_of(f"tasks:\n{tasks}")} == {"W602"}
