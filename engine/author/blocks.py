"""Steps that hold other steps: branches, loops, and work side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, Unpack

from engine.author.places import author_error
from engine.author.schemas import Schema, schema_of
from engine.author.step import Modifiers, Step, Steps, make_step, steps_of
from engine.author.values import UNSET, Condition, Duration, Expr, Unset, Value, given, plain, seconds
from engine.core.spec import codes

OnItemError: TypeAlias = Literal["fail", "collect", "skip"]
Items: TypeAlias = "str | Expr | Sequence[Value]"
"""What a loop runs over: an expression, or a list that is written out."""


def if_(condition: Condition, /, *, then: Steps, else_: Steps | None = None, **modifiers: Unpack[Modifiers]) -> Step:
    """Run one of two branches; without `else_` and with a false condition the input passes through.

    Args:
        condition: An expression such as `"_.amount > 100"`.
        then: Steps if it is true.
        else_: Steps if it is not.
        **modifiers: See `Modifiers`.
    """
    body = {"if": plain(condition, "if_"), "then": steps_of(then, "then")}
    if else_ is not None:
        body["else"] = steps_of(else_, "else_")
    return make_step(body, modifiers, ("then", "else_"))


@dataclass(frozen=True, slots=True)
class Case:
    """One branch of a `switch`; made by `case` and `otherwise`."""

    body: Mapping[str, Any]


def case(condition: Condition, /, *, then: Steps) -> Case:
    """Return a branch of a `switch`.

    Args:
        condition: The branch runs if this is the first condition that is true.
        then: Its steps.
    """
    return Case({"case": plain(condition, "case"), "then": steps_of(then, "then")})


def otherwise(then: Steps, /) -> Case:
    """Return the branch of a `switch` that runs if no condition is true; it stands last.

    Args:
        then: Its steps.
    """
    return Case({"case": "_", "then": steps_of(then, "otherwise")})


def switch(*cases: Case, **modifiers: Unpack[Modifiers]) -> Step:
    """Run the first branch whose condition is true; if there is none, the input passes through.

    Args:
        *cases: Made by `case(…)`; the last one may be `otherwise(…)`.
        **modifiers: See `Modifiers`.

    Raises:
        DefinitionError: E203 if a branch is something else.
    """
    for item in cases:
        found: object = item
        if not isinstance(found, Case):
            message = f"a branch of 'switch' must be case(…) or otherwise(…), not {type(found).__name__}"
            raise author_error(codes.WRONG_TYPE, message)
    return make_step({"switch": [dict(item.body) for item in cases]}, modifiers)


def foreach(items: Items, /, *, do: Steps, **modifiers: Unpack[Modifiers]) -> Step:
    """Run steps for one item after another; the output is the list of their outputs.

    Args:
        items: An expression that gives a list; `_` of the steps is the item.
        do: The steps.
        **modifiers: See `Modifiers`.
    """
    return make_step({"foreach": {"in": plain(items, "foreach"), "do": steps_of(do, "do")}}, modifiers, ("do",))


def map_(
    over: Items,
    /,
    *,
    map: Steps,
    reduce: Condition | None = None,
    initial: Value = None,
    parallelism: int | None = None,
    on_item_error: OnItemError | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Run steps for all items side by side; the output is the list of outputs in the order of the items.

    Args:
        over: An expression that gives a list; `_` of the steps is the item.
        map: The steps.
        reduce: An expression that folds the outputs: `results` is what there is so far, `_` the next output.
        initial: What `results` starts as; an empty list if not given.
        parallelism: Most items at one time.
        on_item_error: What the error of an item does: `fail` ends the step, `collect` keeps it, `skip` drops it.
        **modifiers: See `Modifiers`.
    """
    body = {
        "over": plain(over, "map_"),
        "map": steps_of(map, "map"),
        **given(
            reduce=plain(reduce, "reduce"),
            initial=plain(initial, "initial"),
            parallelism=plain(parallelism, "parallelism"),
            on_item_error=plain(on_item_error, "on_item_error"),
        ),
    }
    return make_step(body, modifiers, ("map", "reduce", "initial", "parallelism", "on_item_error"))


def parallel(
    *branches: Steps,
    parallelism: int | None = None,
    on_item_error: OnItemError | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Run branches side by side; the output is the list of their outputs in the order of the branches.

    Args:
        *branches: Each one step or a list of steps.
        parallelism: Most branches at one time.
        on_item_error: What the error of a branch does: `fail` ends the step, `collect` keeps it, `skip` drops it.
        **modifiers: See `Modifiers`.
    """
    body = {
        "parallel": [steps_of(branch, "parallel") for branch in branches],
        **given(
            parallelism=plain(parallelism, "parallelism"),
            on_item_error=plain(on_item_error, "on_item_error"),
        ),
    }
    return make_step(body, modifiers, ("parallelism", "on_item_error"))


def race(
    *branches: Steps, take: int | None = None, stagger: Duration | None = None, **modifiers: Unpack[Modifiers]
) -> Step:
    """Run branches side by side until one succeeds; its output counts, the others are cancelled.

    Args:
        *branches: Each one step or a list of steps.
        take: How many must succeed; with more than one the output is the list of theirs, the fastest first.
        stagger: Start the branches one after another with this pause between.
        **modifiers: See `Modifiers`.
    """
    body = {
        "race": [steps_of(branch, "race") for branch in branches],
        **given(take=plain(take, "take"), stagger=None if stagger is None else seconds(stagger, "stagger")),
    }
    return make_step(body, modifiers, ("take", "stagger"))


def while_(
    condition: Condition, /, *, do: Steps, max_rounds: int | None = None, **modifiers: Unpack[Modifiers]
) -> Step:
    """Run steps as long as a condition is true; it is tested first, and `_` is the output of the round before.

    Args:
        condition: An expression such as `"_.pages > 0"`.
        do: The steps.
        max_rounds: Most rounds; one more is an error.
        **modifiers: See `Modifiers`.
    """
    body = {"while": plain(condition, "while_"), "do": steps_of(do, "do"), **given(max_rounds=_rounds(max_rounds))}
    return make_step(body, modifiers, ("do", "max_rounds"))


def until(condition: Condition, /, *, do: Steps, max_rounds: int | None = None, **modifiers: Unpack[Modifiers]) -> Step:
    """Run steps until a condition is true; it is tested after each round and sees the round's output as `_`.

    Args:
        condition: An expression such as `"_.done"`.
        do: The steps.
        max_rounds: Most rounds; one more is an error.
        **modifiers: See `Modifiers`.
    """
    body = {"until": plain(condition, "until"), "do": steps_of(do, "do"), **given(max_rounds=_rounds(max_rounds))}
    return make_step(body, modifiers, ("do", "max_rounds"))


Busy: TypeAlias = Literal["reject", "enqueue", "join", "interrupt", "rollback"]
"""What becomes of a message that comes while a turn runs."""


def listen(
    *,
    do: Steps,
    messages: str | None = None,
    busy: Busy | None = None,
    allow_busy: Busy | Sequence[Busy] | None = None,
    schema: Schema | None = None,
    until: Condition | None = None,
    idle: Duration | Expr | None = None,
    default: Value | Unset = UNSET,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Take messages and run steps for each of them, one turn after another; the output is that of the last turn.

    Args:
        do: The steps of a turn; `_` is the message, or the list of messages if several may be joined.
        messages: Name of the inbox; `message` if not given.
        busy: What becomes of a message that comes while a turn runs: it is refused (`reject`), waits for its own turn
            (`enqueue`, the default) or for one turn with all others (`join`), or stops the turn, which stays as far as
            it came (`interrupt`) or is undone (`rollback`).
        allow_busy: What a message may ask for in place of that.
        schema: What a message must be: a pydantic model, another type, or a JSON Schema.
        until: The step ends when this is true of a turn's output, which it sees as `_`.
        idle: How long it waits for the next message before it ends.
        default: The output when no message came for that long; without it that of the last turn.
        **modifiers: See `Modifiers`.
    """
    listening: dict[str, Any] = given(messages=plain(messages, "messages"), busy=plain(busy, "busy"))
    if allow_busy is not None:
        listening["allow_busy"] = plain([allow_busy] if isinstance(allow_busy, str) else list(allow_busy), "allow_busy")
    if schema is not None:
        listening["schema"] = schema_of(schema, "schema")
    listening["do"] = steps_of(do, "do")
    listening |= given(until=plain(until, "until"), idle=None if idle is None else seconds(idle, "idle"))
    if not isinstance(default, Unset):
        listening["default"] = plain(default, "default")
    names = ("do", "messages", "busy", "allow_busy", "schema", "until", "idle", "default")
    return make_step({"listen": listening}, modifiers, names)


def _rounds(number: int | None) -> Any:
    return plain(number, "max_rounds")
