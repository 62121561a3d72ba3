"""References to labels of steps that cannot have run there are found, and no others."""

from __future__ import annotations

import pytest

from tests.language.words import findings

LATER = "comes later"
OPEN = "has not ended yet"
BRANCH = "only its own branch sees it"
OTHER = "only one of them runs"
Z = "\"$ steps['z'].output\""


def said(text: str) -> list[str]:
    """Return codes and messages of all that is found."""
    return [f"{item.code} {item.message}" for item in findings(text)]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (f"[{{evaluate: {Z}}}, {{evaluate: 1, label: z}}]", LATER),
        ("[{evaluate: '{{ steps.z.output }}'}, {evaluate: 1, label: z}]", LATER),
        ("[{if: 'steps.z.output', then: {evaluate: 1, label: z}}]", LATER),
        ("[{foreach: {in: '$ steps.z.output', do: {evaluate: 1, label: z}}}]", LATER),
        (f"[{{evaluate: 1, when: {Z}}}, {{foreach: {{in: _, do: {{evaluate: 1, label: z}}}}}}]", LATER),
        (f"[{{label: z, evaluate: {Z}}}]", OPEN),
        ("[{label: z, evaluate: 1, when: 'steps.z.output'}]", OPEN),
        (f"[{{label: z, if: _, then: {{evaluate: {Z}}}}}]", OPEN),
        (f"[{{label: z, foreach: {{in: _, do: {{evaluate: {Z}}}}}}}]", OPEN),
        (f"[{{label: z, evaluate: 1, on_error: {{evaluate: {Z}}}}}]", OPEN),
        (f"[{{over: _, map: {{evaluate: 1, label: z}}}}, {{evaluate: {Z}}}]", BRANCH),
        (f"[{{over: _, map: {{evaluate: 1, label: z}}, on_error: {{evaluate: {Z}}}}}]", BRANCH),
        ("[{over: _, map: {evaluate: 1, label: z}, reduce: \"results + [steps['z'].output]\"}]", BRANCH),
        (f"[{{parallel: [{{evaluate: 1, label: z}}, {{evaluate: {Z}}}]}}]", BRANCH),
        (f"[{{race: [{{evaluate: 1, label: z}}]}}, {{evaluate: {Z}}}]", BRANCH),
        (f"[{{foreach: {{in: _, do: [{{over: _, map: {{evaluate: 1, label: z}}}}, {{evaluate: {Z}}}]}}}}]", BRANCH),
        (f"[{{if: _, then: {{evaluate: 1, label: z}}, else: {{evaluate: {Z}}}}}]", OTHER),
        (f"[{{over: _, map: [{{evaluate: {Z}}}, {{evaluate: 1, label: z}}]}}]", LATER),
    ],
)
def test_a_label_that_cannot_have_run_is_found(steps: str, message: str) -> None:
    (found,) = said(f"main: {steps}")
    assert found.startswith("E405")
    assert message in found


@pytest.mark.parametrize(
    "steps",
    [
        f"[{{evaluate: 1, label: z}}, {{evaluate: {Z}}}]",
        f"[{{if: _, then: {{evaluate: 1, label: z}}}}, {{evaluate: {Z}}}]",
        f"[{{evaluate: 1, label: z}}, {{over: _, map: {{evaluate: {Z}}}}}]",
        f"[{{foreach: {{in: _, do: [{{evaluate: {Z}, when: _}}, {{evaluate: 1, label: z}}]}}}}]",
        f"[{{foreach: {{in: _, do: {{label: z, evaluate: {Z}, when: _}}}}}}]",
        "[{until: 'steps.z.output', do: {evaluate: 1, label: z}}]",
        "[{while: \"'z' in steps and steps.z.output\", do: {evaluate: 1, label: z}}]",
        f"[{{if: _, retry: {{attempts: 2}}, then: [{{evaluate: {Z}}}, {{evaluate: 1, label: z}}, {{error: x}}]}}]",
        f"[{{if: _, then: [{{evaluate: 1, label: z}}, {{error: x}}], on_error: {{evaluate: {Z}}}}}]",
        f"[{{evaluate: 1, label: z, undo: {{evaluate: {Z}}}}}, {{error: x}}]",
        f"[{{evaluate: 1, undo: {{evaluate: {Z}}}}}, {{evaluate: 1, label: z}}, {{error: x}}]",
        "[{evaluate: \"$ steps.get('z')\"}, {evaluate: 1, label: z}]",
        "[{evaluate: '$ steps[_.name]'}, {evaluate: 1, label: z}]",
    ],
)
def test_a_label_that_may_have_run_is_taken(steps: str) -> None:
    assert said(f"main: {steps}") == []


def test_an_older_dialect_has_the_running_step_in_steps() -> None:
    assert said("dialect: julep-2025\nmain: [{label: z, evaluate: {a: \"$ steps['z'].input\"}}]") == []


def test_each_sub_workflow_has_labels_of_its_own() -> None:
    own = f"[{{label: z, evaluate: 1}}, {{evaluate: {Z}}}]"
    assert said(f"main: [{{workflow: other}}, {{label: z, evaluate: 2}}]\nother: {own}") == []
