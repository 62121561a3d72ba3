"""What the check of labels calls hidden is never seen when the task runs, wherever the labels stand."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.errors import RunError
from engine.core.plan.label_places import LabelPlaces
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.walker import Identity
from engine.core.spec.read import read_task
from engine.core.spec.walk import all_steps
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from engine.dryrun.running import run_in_memory
from engine.source.parse import parse_source
from tests.support.lab import plan_of

Steps = list[dict[str, Any]]

LEAF: st.SearchStrategy[dict[str, Any]] = st.just({"prompt": "", "unwrap": True})
"""A step that tells which labels it sees; its label and text are filled in at last."""


def _around(inner: st.SearchStrategy[Steps]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(lambda steps: {"foreach": {"in": "$ [1, 2]", "do": steps}}, inner),
        st.builds(lambda steps: {"until": "random.random() < 0.4", "do": steps, "max_rounds": 3}, inner),
        st.builds(lambda steps: {"over": "$ [1, 2]", "map": steps}, inner),
        st.builds(lambda one, two: {"parallel": [one, two]}, inner, inner),
        st.builds(lambda one, two: {"race": [one, two]}, inner, inner),
        st.builds(lambda one, two: {"if": "random.random() < 0.5", "then": one, "else": two}, inner, inner),
        st.builds(
            lambda one, two: {"switch": [{"case": "random.random() < 0.5", "then": one}, {"case": "_", "then": two}]},
            inner,
            inner,
        ),
    )


def _modified(step: st.SearchStrategy[dict[str, Any]], inner: st.SearchStrategy[Steps]) -> Any:
    return st.builds(
        lambda made, extra: made | extra,
        step,
        st.fixed_dictionaries(
            {},
            optional={
                "on_error": inner,
                "undo": inner,
                "retry": st.just({"attempts": 2, "initial": 0, "on": ["backend", "loop"]}),
            },
        ),
    )


LISTS: st.SearchStrategy[Steps] = st.recursive(
    st.lists(LEAF, min_size=1, max_size=2),
    lambda inner: st.lists(LEAF | _modified(LEAF, inner) | _modified(_around(inner), inner), min_size=1, max_size=3),
    max_leaves=8,
)


def _named(node: Any, names: list[str]) -> Any:
    """Give every step a label, and every leaf and condition the words that tell what they see."""
    if isinstance(node, list):
        return [_named(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _named(value, names) for key, value in node.items()}
    if {"prompt", "foreach", "until", "over", "parallel", "race", "if", "switch"} & set(node):
        names.append(f"s{len(names)}")
        made["label"] = names[-1]
        if "prompt" in made:
            made["prompt"] = f"{names[-1]} sees {{{{ steps.keys() | join(' ') }}}}"
    return made


@settings(deadline=None)  # two cores are shared; a pause of the machine is no failure
@given(LISTS, st.sets(st.integers(0, 20)), st.integers(0, 1_000))
def test_a_label_that_is_called_hidden_is_never_seen(steps: Steps, failing: set[int], number: int) -> None:
    text = json.dumps({"name": "t", "limits": {"steps": 400}, "main": _named(steps, [])})
    seen: dict[str, set[str]] = {}

    def answer(call: Call) -> Answered:
        params: Any = call.params
        name, _, labels = str(params.messages[-1]["content"]).partition(" sees ")
        seen.setdefault(name, set()).update(labels.split())
        count = sum(len(found) for found in seen.values())
        if int(name[1:]) in failing and count % 3:
            return Answered(Failed(RunError("busy", code="backend.overloaded", retryable=True)))
        return Answered(Ok(chat_reply(name)))

    run_in_memory(plan_of(text, ()), None, answer, identity=Identity(execution_id=f"e{number}"))
    spec, _ = read_task(parse_source(text, "task.json"))
    main = spec.workflows["main"]
    places = LabelPlaces(main)
    for step in all_steps(main):
        assert step.label is not None
        for label in seen.get(step.label.text, ()):
            if not label.isdigit():
                assert places.hidden(label, step) == "", f"{step.label.text} sees {label}"
