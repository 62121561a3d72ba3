"""Fits a prompt into its budget of tokens: what is left out of the history, and when older entries are summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.core.errors import PromptTooBigError
from engine.core.tokens import likely_tokens, reply_bound
from engine.store.entries import SUMMARIZER, EntryFacts

PER_MESSAGE: Final = 4
"""Tokens that a message costs beside what it says."""
SUMMARISED_ABOVE: Final = 3 / 4
"""Share of the room for the history above which older entries are summed up."""
SUMMARISED_TO: Final = 1 / 2
"""Share of that room that the entries left over have at most."""
OF_SUMMARY: Final = 1 / 4
"""Share of the room for the history, whatever is said now, that a summary is asked to keep to."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Entries that stay or go together: what was said, and results of the tools that it called."""

    entries: tuple[EntryFacts, ...]
    tokens: int

    @property
    def is_summary(self) -> bool:
        """Whether it stands for older entries."""
        return self.entries[0].source == SUMMARIZER


def message_tokens(message: Mapping[str, Any]) -> int:
    """Return how many tokens a message has, about."""
    said = {name: value for name, value in message.items() if name != "role" and value is not None}
    content = said.pop("content", None)
    parts = [] if content is None else [content]
    return PER_MESSAGE + likely_tokens([*parts, *([said] if said else [])])


def prompt_size(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """Return how many tokens messages and tools have together, about."""
    return sum(map(message_tokens, messages)) + likely_tokens(tools)


def entry_tokens(entry: EntryFacts) -> int:
    """Return how many tokens an entry has: as it was counted, or about."""
    if entry.token_count:
        return PER_MESSAGE + entry.token_count
    return message_tokens({"content": entry.content, "tool_calls": entry.tool_calls})


def budget_of(context: int | None, settings: Mapping[str, Any]) -> int | None:
    """Return how many tokens a prompt may have by the model that is asked; None = nobody knows of a bound.

    Args:
        context: How much the model takes, with its reply; None = nobody knows.
        settings: Sampling settings, which may bound the reply.
    """
    return None if context is None else max(context - (reply_bound(settings) or 0), 1)


def units_of(history: Sequence[EntryFacts]) -> list[Unit]:
    """Return a history in parts that stay or go together, in order."""
    groups: list[list[EntryFacts]] = []
    for entry in history:
        if groups and entry.role == "tool":
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return [Unit(tuple(group), sum(map(entry_tokens, group))) for group in groups]


def parted(history: Sequence[EntryFacts], *, goes_on: bool) -> tuple[list[EntryFacts], list[EntryFacts]]:
    """Return what of a history may be left out, and what may not.

    Args:
        history: Entries in order.
        goes_on: Whether what is said now answers calls of tools: then it needs what called them.
    """
    last = units_of(history)[-1:] if goes_on else []
    kept = [entry for unit in last for entry in unit.entries]
    return list(history[: len(history) - len(kept)]), kept


@dataclass(frozen=True, slots=True)
class Room:
    """How many tokens a prompt may have.

    Attributes:
        budget: Most tokens; None = nobody knows of a bound.
        fixed: Tokens of what always stays: system message, tools, what is said now.
        overflow: What becomes of a history that is too long: truncate, adaptive; None = the prompt is refused.
        said: Those of `fixed` that other turns do not have: of what is said now.
    """

    budget: int | None
    fixed: int
    overflow: str | None
    said: int = 0

    @property
    def left(self) -> int:
        """Tokens that the history may have."""
        return 0 if self.budget is None else max(self.budget - self.fixed, 0)

    @property
    def usual(self) -> int:
        """Tokens that the history may have in turns in which nothing long is said."""
        return 0 if self.budget is None else max(self.budget - self.fixed + self.said, 0)

    def fitting(self, history: Sequence[EntryFacts]) -> list[EntryFacts]:
        """Return what of a history has room.

        Raises:
            PromptTooBigError: `session.prompt_too_big`.
        """
        if self.budget is None:
            return list(history)
        whole = self.fixed + _size(units_of(history))
        if self.fixed > self.budget or (self.overflow is None and whole > self.budget):
            raise _too_big(whole if self.overflow is None else self.fixed, self.budget, self.overflow)
        return truncated(history, self.left)

    def to_summarise(self, history: Sequence[EntryFacts]) -> list[EntryFacts]:
        """Return the oldest entries of a history that should be summed up; see `to_summarise`."""
        return to_summarise(history, self.left, self.usual) if self.usual and self.overflow == "adaptive" else []


def truncated(history: Sequence[EntryFacts], room: int) -> list[EntryFacts]:
    """Return the newest part of a history that has room; a summary of what is older goes last.

    What is left does not begin with an answer, whose question would be missing.

    Args:
        history: Entries in order.
        room: How many tokens they may have.
    """
    units = units_of(history)
    summaries = [unit for unit in units if unit.is_summary]
    others = [unit for unit in units if not unit.is_summary]
    if _size(units) <= room:
        return list(history)
    kept = _newest(others, room - _size(summaries))
    if _size(summaries) > room:
        summaries, kept = [], _newest(others, room)
    return [entry for unit in [*summaries, *kept] for entry in unit.entries]


def summary_bound(usual: int) -> int:
    """Return how many tokens a summary is asked to keep to.

    Args:
        usual: Tokens that the history may have in turns in which nothing long is said.
    """
    return max(int(usual * OF_SUMMARY), 1)


def to_summarise(history: Sequence[EntryFacts], room: int, usual: int) -> list[EntryFacts]:
    """Return the oldest entries of a history that has grown too long, a summary of still older ones among them.

    Args:
        history: Entries in order.
        room: How many tokens they may have now.
        usual: How many they may have in turns in which nothing long is said.

    Returns:
        What should be summed up; nothing if there is room enough.
    """
    units = units_of(history)
    left = _size(units)
    if left <= room * SUMMARISED_ABOVE:
        return []
    chosen: list[Unit] = []
    for unit in units:
        enough = left <= room * SUMMARISED_TO
        # a model that sums up is asked for no more than it takes; what is left is for the next time
        too_much = _size(chosen) + unit.tokens > usual - summary_bound(usual)
        if (too_much and _says_more(chosen)) or (enough and unit.entries[0].role != "assistant"):
            break
        chosen.append(unit)
        left -= unit.tokens
    return [entry for unit in chosen for entry in unit.entries] if _says_more(chosen) else []


def _says_more(units: Sequence[Unit]) -> bool:
    """Whether units say more than a summary does."""
    return any(not unit.is_summary for unit in units)


def _too_big(tokens: int, budget: int, overflow: str | None) -> PromptTooBigError:
    if overflow is None:
        hint = "say less, raise `token_budget`, or let the session leave older entries out: `context_overflow`"
    else:
        hint = "it is too long even without its history: say less, find fewer documents, or raise `token_budget`"
    return PromptTooBigError(
        f"the prompt has about {tokens:,} tokens, and may have {budget:,}",
        code="session.prompt_too_big",
        hint=hint,
        details={"tokens": tokens, "budget": budget},
    )


def _newest(units: Sequence[Unit], room: int) -> list[Unit]:
    first = len(units)
    while first and units[first - 1].tokens <= room:
        first -= 1
        room -= units[first].tokens
    while first < len(units) and units[first].entries[0].role in ("assistant", "tool"):
        first += 1
    return list(units[first:])


def _size(units: Sequence[Unit]) -> int:
    return sum(unit.tokens for unit in units)
