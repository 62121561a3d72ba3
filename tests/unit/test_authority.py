"""`allow` of a task: what is written out is compared when it is compiled, what is computed when the step runs."""

from __future__ import annotations

from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError
from engine.core.plan.codec import plan_from_json, plan_hash, plan_to_json
from engine.core.plan.grant import NOTHING, OPEN, Grant
from engine.core.plan.ir import AgentSnapshot
from engine.core.run.effects import Failed, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from engine.dryrun.running import run_in_memory
from tests.support.lab import plan_of
from tests.support.memory import lookup, pay

FETCH = '{name: fetch, api_call: {method: GET, url: "https://api.example.com/x"}}'


def task(allow: str, *steps: str, more: str = "") -> str:
    lines = "\n".join(f"  - {step}" for step in steps)
    return f"name: t\nallow: {allow}\ntools:\n  - {FETCH}\n{more}main:\n{lines}\n"


def findings(text: str) -> list[Diagnostic]:
    contracts = {tool.contract().name: tool.contract() for tool in (lookup, pay)}
    try:
        return compile_text(text, contracts=contracts).warnings
    except DefinitionError as error:
        return list(error.diagnostics)


def refused(text: str) -> list[tuple[str, str]]:
    found = findings(text)
    assert {item.code for item in found} <= {"E411"}
    return [(item.message, item.path) for item in found]


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "grant"),
    [
        ("[]", NOTHING),
        ("{}", OPEN),
        ("{tools: []}", Grant(tools=())),
        ("{tools: [b, a, b]}", Grant(tools=("a", "b"))),
        ('{hosts: [API.example.com:443, "*.b.org:*"]}', Grant(hosts=("*.b.org:*", "api.example.com"))),
    ],
)
def test_a_kind_that_is_left_out_is_open_and_an_empty_list_is_none(allow: str, grant: Grant) -> None:
    plan = plan_of(f"name: t\nallow: {allow}\nmain: [{{evaluate: 1}}]\n")
    assert plan.allow == grant
    assert plan_from_json(plan_to_json(plan)).allow == grant


def test_a_bound_is_part_of_the_plan_and_its_order_is_not() -> None:
    text = "name: t\n{}main: [{{evaluate: 1}}]\n"
    without, one, same, other = (
        plan_hash(plan_of(text.format(line)))
        for line in ("", "allow: {tools: [a, b]}\n", "allow: {tools: [b, a]}\n", "allow: {tools: [a]}\n")
    )
    assert one == same
    assert len({without, one, other}) == 3


@pytest.mark.parametrize(
    ("allow", "code", "message"),
    [
        ("", "E203", "'allow' must be an object or [], not null"),
        ("[lookup]", "E203", "'allow' must be an object or [], not a list"),
        ("lookup", "E203", "'allow' must be an object or [], not text"),
        ("{tools: }", "E203", "'tools' must be a list of names, not null"),
        ("{tools: lookup}", "E203", "'tools' must be a list of names, not text"),
        ("{tools: [1]}", "E203", "'tools' must be a list of names, not a number"),
        ('{tools: ["*"]}', "E406", "'*' in 'tools' is no name"),
        ("{tols: []}", "E201", "allow has no key 'tols'"),
        ("{hosts: [https://a.example]}", "E406", "'https://a.example' in 'hosts' is no host"),
        ('{hosts: ["*"]}', "E406", "'*' in 'hosts' is no name"),
    ],
)
def test_a_bound_that_cannot_be_read_is_told_at_its_place(allow: str, code: str, message: str) -> None:
    found = findings(f"name: t\nallow: {allow}\nmain: [{{evaluate: 1}}]\n")
    assert [(item.code, item.message, item.position.line) for item in found] == [(code, message, 2)]
    assert found[0].hint


# --- what is written out -------------------------------------------------------------------------------------------


def test_a_tool_beyond_the_bound_is_told_with_its_place_and_the_remedy() -> None:
    (found,) = findings(task("{tools: [lookup]}", "tool: lookup\n    arguments: {name: x}", "tool: pay"))
    assert (found.code, found.path, found.position.line) == ("E411", "main[1].tool", 8)
    assert found.message == "`allow.tools` does not permit to call the tool 'pay'"
    assert found.hint == "add it to `allow.tools`, or leave the step out"


@pytest.mark.parametrize(
    ("allow", "step", "message", "path"),
    [
        ("{models: [small]}", "{prompt: hi, model: big}", "ask the model 'big'", "main[0].model"),
        ("{models: [small]}", "{prompt: hi, settings: {model: big}}", "ask the model 'big'", "main[0].model"),
        ("{hosts: []}", "{tool: fetch, arguments: {}}", "call the host 'api.example.com'", "main[0].tool"),
        (
            "{hosts: [api.example.com]}",
            '{tool: fetch, arguments: {url: "https://api.example.com:8443/"}}',
            "call the host 'api.example.com:8443'",
            "main[0].arguments.url",
        ),
        (
            "{hosts: [api.example.com]}",
            '{tool: fetch, arguments: {url: "https://api.example.com@evil.example/"}}',
            "call the host 'evil.example'",
            "main[0].arguments.url",
        ),
        ("{tasks: [a]}", "{task: b}", "run the task 'b'", "main[0].task"),
    ],
)
def test_every_kind_of_name_is_compared(allow: str, step: str, message: str, path: str) -> None:
    kind = allow[1:].partition(":")[0]
    assert refused(task(allow, step)) == [(f"`allow.{kind}` does not permit to {message}", path)]


def test_steps_in_all_blocks_are_compared() -> None:
    text = """
name: t
allow: {tools: []}
main:
  - if: true
    then: [{over: "$ [1]", map: {tool: lookup, arguments: {name: a}}}]
  - evaluate: 1
    on_error: {tool: lookup, arguments: {name: b}}
    undo: {tool: lookup, arguments: {name: c}}
  - workflow: sub
sub:
  - tool: lookup
    arguments: {name: d}
finally:
  - tool: lookup
    arguments: {name: e}
"""
    assert sorted(path for _, path in refused(text)) == [
        "finally[0].tool",
        "main[0].then[0].map.tool",
        "main[1].on_error.tool",
        "main[1].undo.tool",
        "sub[0].tool",
    ]


def test_a_computed_name_is_refused_only_where_nothing_is_allowed() -> None:
    steps = ("{prompt: hi, model: $ _.m}", "{tool: fetch, arguments: {url: $ _.url}}", "{prompt: hi}")
    assert refused(task('{models: [small], hosts: ["*.example.com"]}', *steps)) == []
    messages = [message for message, _ in refused(task("{models: [], hosts: []}", *steps))]
    assert messages == [
        "the step computes which model it asks, but `allow.models` permits none",
        "the step computes which host it calls, but `allow.hosts` permits none",
        "the step asks the operator's default model, but `allow.models` permits none",
    ]


def test_a_near_name_in_the_bound_is_pointed_at() -> None:
    (found,) = findings(task("{tools: [lokup]}", "tool: lookup\n    arguments: {name: x}"))
    assert "did you mean 'lokup'?" in found.hint


def test_the_agents_model_counts_for_prompts_that_name_none() -> None:
    text = "name: t\nallow: {models: [small]}\nmain: [{prompt: hi}]\n"
    with pytest.raises(DefinitionError, match="ask the model 'big'"):
        compile_text(text, contracts={}, agent=AgentSnapshot(model="big"))


def test_the_tools_and_the_model_of_an_agent_step_are_compared() -> None:
    text = task("{tools: [lookup], models: [small]}", "{agent: go, model: big, tools: [lookup, pay]}")
    found = [(item.message, item.path) for item in findings(text) if item.code == "E411"]
    assert found == [
        ("`allow.models` does not permit to ask the model 'big'", "main[0].model"),
        ("`allow.tools` does not permit to call the tool 'pay'", "main[0].tools[1]"),
    ]


def test_a_secret_is_compared_wherever_it_is_read() -> None:
    # no dialect reads secrets yet: what counts here is that no place is overlooked
    text = """
name: t
allow: {secrets: [mine]}
require: [{if: secrets.other}]
main:
  - evaluate: $ secrets.mine
  - evaluate: {a: "{{ secrets['theirs'] }}"}
  - evaluate: 1
    when: secrets[_.name] == 1
"""
    found = [(item.message, item.path) for item in findings(text) if item.code == "E411"]
    assert found == [
        ("`allow.secrets` does not permit to read the secret 'other'", "require[0]"),
        ("`allow.secrets` does not permit to read the secret 'theirs'", "main[1]"),
        ("the step computes which secret it reads, but `allow.secrets` permits mine", "main[2]"),
    ]


# --- what is computed ----------------------------------------------------------------------------------------------


def run(text: str, given: Any) -> tuple[Any, list[str]]:
    """Run a task in memory; returns its output, or the code and the details of its error, and the calls it made."""
    made: list[str] = []

    def handle(call: Any) -> Answered:
        made.append(getattr(call.params, "model", "") or call.params.tool.name)
        return Answered(Ok(chat_reply("ok") if hasattr(call.params, "model") else {"status_code": 200}))

    finished = run_in_memory(plan_of(text, [lookup, pay]), given, handle).finished
    assert finished is not None
    if isinstance(finished.outcome, Failed):
        return (finished.outcome.error.code, finished.outcome.error.details), made
    assert isinstance(finished.outcome, Ok)
    return finished.outcome.value, made


def test_a_computed_model_beyond_the_bound_ends_the_step_before_the_call() -> None:
    text = task("{models: [small]}", "{prompt: hi, model: $ _.m, unwrap: true}")
    assert run(text, {"m": "small"}) == ("ok", ["small"])
    (code, details), made = run(text, {"m": "big"})
    assert (code, details["kind"], details["name"], details["step"]) == ("authority.denied", "models", "big", "main.0")
    assert made == []


def test_a_computed_host_beyond_the_bound_ends_the_step_before_the_call() -> None:
    text = task('{hosts: ["*.example.com"]}', "{tool: fetch, arguments: {url: $ _}}", "{evaluate: $ _.status_code}")
    assert run(text, "https://a.example.com/") == (200, ["fetch"])
    for url in ("https://evil.example/", "https://example.com/", "https://a.example.com:1/", "http://a.example.com@b/"):
        (code, _), made = run(text, url)
        assert (code, made) == ("authority.denied", [])


def test_a_task_may_catch_the_refusal_and_no_retry_repeats_it() -> None:
    caught = "on_error: {evaluate: {code: $ error.code, attempts: $ error.attempts}}"
    step = f"{{tool: fetch, arguments: {{url: $ _}}, retry: {{attempts: 3}}, {caught}}}"
    assert run(task("{hosts: [a.example]}", step), "https://b.example/") == (
        {"code": "authority.denied", "attempts": 1},
        [],
    )


def test_a_call_carries_of_the_bound_what_only_its_activity_can_compare() -> None:
    seen: list[Any] = []

    def handle(call: Any) -> Answered:
        seen.append(call.params.context.allow)
        return Answered(Ok(chat_reply("ok")))

    steps = (
        "{prompt: hi, model: m}",
        "{prompt: hi}",
        '{tool: fetch, arguments: {url: "https://h/"}}',
        "{tool: pay, arguments: {}}",
    )
    for allow in ("{}", "{models: [m], hosts: [h], tools: [fetch, pay]}"):
        run_in_memory(plan_of(task(allow, *steps), [lookup, pay]), None, handle)
    assert seen == [None] * 4 + [None, Grant(models=("m",)), Grant(hosts=("h",)), None]


def test_the_model_may_be_named_in_either_of_its_places() -> None:
    for step in ("{prompt: hi, model: $ _}", "{prompt: hi, settings: {model: $ _}}"):
        (code, _), made = run(task("{models: [small]}", step), "big")
        assert (code, made) == ("authority.denied", [])
