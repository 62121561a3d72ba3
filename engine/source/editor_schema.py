"""Builds the JSON Schema of task files, with which editors complete, explain and check while one types.

Kinds, keys and modifiers come from the vocabulary of the language; a key that has no words here yet is allowed with any
value, so that the schema never refuses what the language has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.core.kinds import StepKind
from engine.core.spec import vocabulary
from engine.source.editor_modifiers import MODIFIER_KEYS
from engine.source.editor_shapes import ANY, Shape, one_of, ref
from engine.source.editor_shared import SHARED
from engine.source.editor_steps import REQUIRED, STEP_KEYS
from engine.source.editor_tasks import TASK_KEYS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_KIND_KEY = "kind_"

Words = Mapping[str, tuple[Shape, str]]


def task_schema() -> Shape:
    """Return the JSON Schema of a task file.

    It describes the structure only: names, expressions and what fits together are checked by `everstep validate`.

    Returns:
        A schema of draft 2020-12. Its `$defs` hold `step`, one `step_KIND` for each kind of step, and shared shapes.
    """
    kinds = {f"step_{kind}": _kind(kind) for kind in vocabulary.KEYS}
    return {
        "$schema": DRAFT,
        "title": "Everstep task",
        "description": "A task: steps under `main`, further lists of steps as sub-workflows, and settings.",
        "type": "object",
        "required": ["main"],
        "properties": _properties(vocabulary.TASK_KEYS, TASK_KEYS),
        "additionalProperties": {
            "description": "A sub-workflow: one step or a list of steps that `workflow: NAME` runs.",
            "allOf": [ref("steps")],
        },
        "$defs": {"step": _step(), **kinds, **SHARED},
    }


def _step() -> Shape:
    """Return the shape of a step: the key that marks its kind decides about all others."""
    markers = [*vocabulary.MARKERS, _KIND_KEY]
    chosen = [
        {"if": {"required": [marker]}, "then": ref(f"step_{kind}")} for marker, kind in vocabulary.MARKERS.items()
    ]
    return {
        "description": "A step: one key says what it does, others belong to it or may stand on any step.",
        "type": "object",
        "properties": {marker: {"description": _words(marker, STEP_KEYS)[1]} for marker in vocabulary.MARKERS},
        "if": {"anyOf": [{"required": [marker]} for marker in markers]},
        # a type that no step has, since editors show a text of ours for wrong types and not for missing keys
        "else": {"type": "null", "errorMessage": f"A step needs one of {', '.join(vocabulary.MARKERS)}."},
        "allOf": [*chosen, _by_name()],
    }


def _by_name() -> Shape:
    """Return the rule for steps that carry only `kind_`, as those of the oldest clients do."""
    named = {"required": [_KIND_KEY], "properties": {_KIND_KEY: {"const": StepKind.WAIT_FOR_INPUT}}}
    return {"if": named, "then": ref(f"step_{StepKind.WAIT_FOR_INPUT}")}


def _kind(kind: StepKind) -> Shape:
    marker = vocabulary.MARKER_OF[kind]
    keys = [*vocabulary.KEYS[kind], *vocabulary.MODIFIERS]
    return {
        "type": "object",
        "properties": {
            **_properties(keys, {**STEP_KEYS, **MODIFIER_KEYS}),
            _KIND_KEY: {**one_of(kind), "description": "The kind once more, as older clients write it."},
        },
        "required": list(REQUIRED.get(kind, (marker,))),
        "additionalProperties": False,
    }


def _properties(keys: Iterable[str], words: Words) -> Shape:
    found = {key: _words(key, words) for key in keys}
    return {key: {**shape, "description": text} if text else shape for key, (shape, text) in found.items()}


def _words(key: str, words: Words) -> tuple[Shape, str]:
    return words.get(key, (ANY, ""))
