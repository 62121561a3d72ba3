"""The form of an entry of the language reference: what a word is for, how it ends, and examples that tests run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from inspect import cleandoc
from typing import Any

from engine.core.values import Json


class Group(StrEnum):
    """What kind of word an entry explains."""

    KIND = "kind"
    MODIFIER = "modifier"
    KEY = "key"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Example:
    """A task, what it is given, and what came out when it was run in memory.

    Attributes:
        task: The task's text.
        given: The input.
        replies: What models and tools reply, as in a test file.
        answers: What persons answer and which events come, as in a test file.
        tools: A module of Python tools that really run.
        output: What came out.
        error: The code of the error it ended with, or of the reason for which the input was refused; then no output.
        waits: Names of the waits that are open at the end; then no output.
        seen: Expressions over the run (as in `assert` of a test file) and their values.
        text: What is worth looking at.
        is_later: Whether the task cannot run yet; then it is only checked, and W614 is all that is found.
    """

    task: str
    given: Json = None
    replies: Mapping[str, Json] | Sequence[Json] = field(default_factory=dict)
    answers: Mapping[str, Json] | Sequence[Json] = field(default_factory=dict)
    tools: str = ""
    output: Json = None
    error: str = ""
    waits: tuple[str, ...] = ()
    seen: tuple[tuple[str, Json], ...] = ()
    text: str = ""
    is_later: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a word may end with.

    Attributes:
        code: Its code.
        when: When it comes.
        remedy: What to do about it.
        proof: A task that ends with it; None if it comes from a server, a network or a worker.
    """

    code: str
    when: str
    remedy: str
    proof: Example | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the reference says of one word.

    Attributes:
        name: The key that authors write.
        group: What kind of word it is.
        purpose: What it is for, in a sentence.
        examples: The first one shows what it is for.
        output: What it hands on.
        nothing: What it does when there is nothing to do.
        notes: What else one has to know, a sentence or two each.
        failures: Errors of its own; those that every step can have stand elsewhere.
        see: Names of related entries.
        is_later: Whether it is only planned: read and checked, but not run in this version.
    """

    name: str
    group: Group
    purpose: str
    examples: tuple[Example, ...]
    output: str = ""
    nothing: str = ""
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    see: tuple[str, ...] = ()
    is_later: bool = False


def example(task: str, given: Json = None, **members: Any) -> Example:
    """Return an example whose texts are written indented, as in a table of the code.

    Args:
        task: See `Example`.
        given: See `Example`.
        members: The others of `Example`.
    """
    tools = cleandoc(members.pop("tools", ""))
    return Example(f"{cleandoc(task)}\n", given, tools=f"{tools}\n" if tools else "", **members)


def failure(code: str, when: str, remedy: str, task: str = "", given: Json = None, **members: Any) -> Failure:
    """Return an error with the task that proves it; see `Failure` and `example`."""
    proof = example(task, given, error=code, **members) if task else None
    return Failure(code, when, remedy, proof)
