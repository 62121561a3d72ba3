"""Any text in any dialect: it compiles or is refused with its place, and what compiles reads the same ever after."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from engine.control.compiling import compile_text
from engine.core.errors import CompileError
from engine.core.kinds import Dialect
from engine.core.lang.expression import compile_expression
from engine.core.lang.template import compile_template
from engine.core.plan.chains import compile_chain, variable
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.go_templates import GoTemplateError, translate
from engine.core.plan.ir import AgentSnapshot
from engine.core.spec.dialects.contenox import Handler, Operator
from engine.core.spec.dialects.contenox_read import read_chain
from engine.core.spec.nodes import node_from_json

PIECES = st.sampled_from(
    [
        *["{", "}", "{{", "}}", "{%", "%}", "$ ", "$", "_", "_.x", "steps[0]", "outputs[", "]", "[", "_[", "'", '"'],
        *[
            "topic",
            " ",
            "\n",
            "\\",
            "#",
            "!r",
            ":.2f",
            "if ",
            "for x in _",
            "==",
            "(",
            ")",
            "len(",
            "é",
            "😀",
            "\u2028",
        ],
        *["{{.a", "range ", "end", "else", "$i := ", "|", "eq "],
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@pytest.mark.parametrize("dialect", ["everstep", "julep-2024", "julep-2025"])
@given(data=TEXTS, prompt=TEXTS, condition=TEXTS)
def test_any_text_compiles_or_is_refused_with_its_place(
    dialect: Dialect, data: str, prompt: str, condition: str
) -> None:
    task = {"main": [{"evaluate": {"x": data}}, {"prompt": prompt or "x"}, {"if": condition, "then": {"evaluate": 1}}]}
    text = json.dumps(task)
    made = _outcome(lambda: compile_text(text, contracts={}, dialect=dialect))
    if isinstance(made, CompileError):
        assert made.diagnostics
        assert all(1 <= found.position.column <= len(text) + 1 for found in made.diagnostics)
        return
    plan = made.plan
    body = plan_to_json(plan)
    assert plan_from_json(body) == plan
    for source in _sources(body, "expr"):
        compile_expression(source)
    for source in _sources(body, "tmpl"):
        compile_template(source)


@given(TEXTS)
def test_a_go_template_is_refused_or_gives_a_template_of_ours(text: str) -> None:
    found = _outcome(lambda: translate(text, variable))
    if isinstance(found, GoTemplateError):
        assert 0 <= found.offset <= len(text)
    elif found.literal:
        assert found.source == text
    else:
        compile_template(found.source)


NAMES = st.sampled_from(["a", "b", "end", "", "c d"])
BRANCHES = st.fixed_dictionaries(
    {"operator": st.sampled_from([*Operator, "<", "like"]), "goto": NAMES},
    optional={"when": st.sampled_from(["x", "5", "1-2", "tool-call", "it's", ""])},
)
TASKS = st.fixed_dictionaries(
    {"id": NAMES, "handler": st.sampled_from([*Handler, "chat_completion", "route"])},
    optional={
        "prompt_template": TEXTS,
        "system_instruction": TEXTS,
        "input_var": NAMES,
        "retry_on_failure": st.integers(0, 3),
        "compose": st.fixed_dictionaries({"with_var": NAMES}),
        "valid_conditions": st.dictionaries(TEXTS, st.booleans(), max_size=3),
        "hook": st.just({"name": "crm", "tool_name": "open", "args": {"a": "b"}}),
        "output_template": TEXTS,
        "print": TEXTS,
        "transition": st.fixed_dictionaries({"branches": st.lists(BRANCHES, max_size=3), "on_failure": NAMES}),
    },
)


@given(st.lists(TASKS, min_size=1, max_size=4))
def test_any_chain_is_planned_or_refused(tasks: list[dict[str, Any]]) -> None:
    spec, read = read_chain(node_from_json({"tasks": tasks}))
    plan, made = compile_chain(spec, contracts={}, agent=AgentSnapshot())
    event("refused" if read.errors or made.errors else "planned")
    if read.errors or made.errors:
        return
    body = plan_to_json(plan)
    assert plan_from_json(body) == plan
    assert len(plan.blocks) >= len(tasks)
    for source in _sources(body, "expr"):
        compile_expression(source)
    for source in _sources(body, "tmpl"):
        compile_template(source)


def _outcome(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (CompileError, GoTemplateError) as error:
        return error


def _sources(body: Any, kind: str) -> list[str]:
    if isinstance(body, list):
        return [source for item in body for source in _sources(item, kind)]
    if not isinstance(body, dict):
        return []
    own = [body["source"]] if body.get("t") == kind else []
    return [*own, *(source for item in body.values() for source in _sources(item, kind))]
