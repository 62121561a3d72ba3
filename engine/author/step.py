"""A step in Python, and the modifiers that may stand on any step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

from engine.author.places import Place, author_error, caller_place
from engine.author.values import Condition, Duration, Value, given, plain, seconds
from engine.core.diagnostics import Position, did_you_mean
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode
from engine.core.values import MAX_DEPTH, Json


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a task; made by `evaluate`, `prompt`, `if_` and their like.

    Attributes:
        body: The step as a task file has it; steps inside it are steps still.
        place: Where it was made.
        levels: How deep it is nested.
    """

    body: Mapping[str, Any]
    place: Place = field(compare=False, repr=False)
    levels: int = field(compare=False, repr=False)


MAX_STEP_LEVELS = MAX_DEPTH - 2
"""The task itself and its list of steps are two more."""

Steps: TypeAlias = "Step | Sequence[Step]"
"""One step or a list of steps, as both may stand wherever a step may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a step is tried again after an error.

    Attributes:
        attempts: Attempts in all.
        initial: Pause before the second attempt.
        factor: By what each further pause is longer.
        max: Longest pause.
        on: Codes of the errors that are worth another attempt, or their first words; none = all that may pass.
    """

    attempts: int
    initial: Duration | None = None
    factor: float | None = None
    max: Duration | None = None
    on: Sequence[str] = ()

    def plain(self) -> dict[str, Json]:
        """Return the policy as a task file has it."""
        return {
            "attempts": plain(self.attempts, "attempts"),
            **_durations(initial=self.initial),
            **given(factor=plain(self.factor, "factor")),
            **_durations(max=self.max),
            **({"on": plain([self.on] if isinstance(self.on, str) else list(self.on), "on")} if self.on else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What must hold of the result of a prompt, a tool, an agent or another task.

    Attributes:
        if_: An expression that must be true; `_` is the result.
        message: What is said if it is not; a model that has another try is told so.
        on_fail: Send the message back to the model, end with an error, or ask a person; default: by the kind of step.
    """

    if_: Condition
    message: Value = None
    on_fail: Literal["repair", "error", "ask"] | None = None

    def plain(self) -> dict[str, Json]:
        """Return the check as a task file has it."""
        return {
            "if": plain(self.if_, "if_"),
            **given(message=plain(self.message, "message"), on_fail=plain(self.on_fail, "on_fail")),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """How long the reply or output of an equal call is used again.

    Attributes:
        ttl: For how long.
        key: What else must be the same, beside the call itself.
    """

    ttl: Duration
    key: Value = None

    def plain(self) -> dict[str, Json]:
        """Return the cache as a task file has it."""
        return {**_durations(ttl=self.ttl), **given(key=plain(self.key, "key"))}


class Modifiers(TypedDict, total=False):
    """What may be given to every step by name.

    Attributes:
        label: The author's name for the step, for `steps['label']`.
        when: The step runs only if this is true; otherwise its input passes through.
        cache: How long the reply or output of an equal call is used again, or a `Cache`; for prompts and tools.
        retry: How often it is tried again.
        timeout: Longest time of one attempt.
        total_timeout: Longest time of all attempts together.
        on_error: Steps that run if it fails; they see `error`.
        check: What must hold of its result, on prompts, tools, agents and other tasks.
        undo: Steps that take its effect back if the task fails later; they see its output as `_`.
    """

    label: str
    when: Condition
    cache: Duration | Cache
    retry: Retry
    timeout: Duration
    total_timeout: Duration
    on_error: Steps
    check: Sequence[Check]
    undo: Steps


_NAMES = tuple(Modifiers.__annotations__)


def make_step(body: Mapping[str, Any], modifiers: Modifiers, own: Sequence[str] = ()) -> Step:
    """Return a step.

    Args:
        body: Its members as a task file has them, the marker of its kind first.
        modifiers: Its modifiers.
        own: The keywords of the function that makes it, for the did-you-mean.

    Raises:
        DefinitionError: E201 for a keyword that does not exist, E203 for a modifier of the wrong type, E106 for steps
            that are nested too deeply.
    """
    options: Mapping[str, Any] = modifiers
    for name in options:
        if name not in _NAMES:
            known = [*own, *_NAMES]
            marker = next(iter(body), "step")
            hint = did_you_mean(name, known) or f"it may have {', '.join(known)}"
            raise author_error(codes.UNKNOWN_KEY, f"a step '{marker}' takes no '{name}'", hint)
    members: dict[str, Any] = {"label": plain(options["label"], "label")} if "label" in options else {}
    members.update(body)
    if "when" in options:
        members["when"] = plain(options["when"], "when")
    if "cache" in options:
        cache = options["cache"]
        members["cache"] = cache.plain() if isinstance(cache, Cache) else seconds(cache, "cache")
    if "retry" in options:
        members["retry"] = part(options["retry"], Retry, "retry")
    members.update(_durations(timeout=options.get("timeout"), total_timeout=options.get("total_timeout")))
    if "check" in options:
        members["check"] = [part(item, Check, "check") for item in options["check"]]
    for name in ("undo", "on_error"):
        if name in options:
            members[name] = steps_of(options[name], name)
    levels = _levels(members)
    if levels > MAX_STEP_LEVELS:
        raise author_error(codes.TOO_DEEP, f"steps and values are nested deeper than {MAX_STEP_LEVELS} levels")
    return Step(members, caller_place(), levels)


def _levels(value: Any) -> int:
    # the steps inside know theirs, so that this looks at no step twice
    if isinstance(value, Step):
        return value.levels
    if isinstance(value, (dict, list)):
        return 1 + max((_levels(item) for item in (value.values() if isinstance(value, dict) else value)), default=0)
    return 0


def _durations(**durations: Duration | None) -> dict[str, Json]:
    return {name: seconds(value, name) for name, value in durations.items() if value is not None}


class Part(Protocol):
    """A group of settings, such as `Retry` or `Limits`."""

    def plain(self) -> dict[str, Json]:
        """Return the settings as a task file has them."""


def part(value: Part, kind: type[Part], where: str) -> dict[str, Json]:
    """Return a group of settings as a task file has it, after a look at its type.

    Args:
        value: What the author gave.
        kind: What makes such a group.
        where: What it is for, in messages: `retry`, `limits`.

    Raises:
        DefinitionError: E203 if it is anything else, with the place of the author's call.
    """
    found: object = value
    if not isinstance(found, kind):
        message = f"'{where}' must be made by {kind.__name__}(…), not {type(found).__name__}"
        raise author_error(codes.WRONG_TYPE, message)
    return value.plain()


def steps_of(steps: Steps, where: str) -> Step | list[Step]:
    """Return one step or a list of steps after a look at their types.

    Args:
        steps: What the author gave.
        where: What they are for, in messages: `then`, `main`.

    Raises:
        DefinitionError: E203 if it is anything else, with the place of the author's call.
    """
    found: object = steps
    if isinstance(found, Step):
        return found
    items: list[Any] = list(found) if isinstance(found, (list, tuple)) else [found]
    for item in items:
        if not isinstance(item, Step):
            name = getattr(item, "__name__", "")
            hint = (
                f"call it: {name}(…)" if callable(item) and name else "make steps with evaluate(…), prompt(…), if_(…)"
            )
            message = f"'{where}' must be a step or a list of steps, not {type(item).__name__}"
            raise author_error(codes.WRONG_TYPE, message, hint)
    return items


def as_json(value: Any) -> Json:
    """Return the JSON of a value in which steps may stand."""
    if isinstance(value, Step):
        return as_json(value.body)
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value


def as_node(value: Any, position: Position, file: str) -> Node:
    """Return the tree of a value in which steps may stand, each with its own place.

    Args:
        value: JSON with steps.
        position: Where what surrounds it was made.
        file: The task's file; a step that was made in another one keeps the place of its surroundings.
    """
    if isinstance(value, Step):
        at = value.place.position if value.place.file == file else position
        return as_node(value.body, at, file)
    if isinstance(value, dict):
        return MapNode(
            tuple(MapEntry(key, position, as_node(item, position, file)) for key, item in value.items()), position
        )
    if isinstance(value, list):
        return ListNode(tuple(as_node(item, position, file) for item in value), position)
    return ScalarNode(value, position)
