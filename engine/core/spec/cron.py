"""Checks the text of a cron: five fields, or a word such as `@daily`, as schedules read them. Workflow-safe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

WORDS: Final = ("@yearly", "@monthly", "@weekly", "@daily", "@hourly")
MAX_CRON_CHARS: Final = 200

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTH = MappingProxyType({2: 29, 4: 30, 6: 30, 9: 30, 11: 30})
_PART = re.compile(r"(?P<first>\*|[0-9]+|[A-Za-z]+)(?:-(?P<last>[0-9]+|[A-Za-z]+))?(?:/(?P<step>[0-9]+))?")
_TEXT = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class CronProblem:
    """What is wrong with a cron.

    Attributes:
        offset: Character of the text at which it is, from 0.
        message: What is wrong.
        hint: What to write instead.
    """

    offset: int
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int | None:
        """Return the number that a word or digits stand for, or None if it is outside the field."""
        if text.isdecimal():
            number = int(text[:6])
        elif text.lower() in self.words:
            number = self.words.index(text.lower()) + self.least
        else:
            return None
        return number if self.least <= number <= self.most else None


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


def cron_problems(text: str) -> list[CronProblem]:
    """Return what is wrong with a cron, each with its place in the text.

    Args:
        text: What stands behind `cron:` or `at:`.
    """
    if len(text) > MAX_CRON_CHARS:
        return [CronProblem(0, f"the cron is longer than {MAX_CRON_CHARS} characters")]
    words = list(_TEXT.finditer(text))
    if words and words[0].group().startswith("@"):
        return _word_problems(words[0])
    if words and words[0].group().partition("=")[0] in ("TZ", "CRON_TZ"):
        hint = "write `{at: …, timezone: …}`"
        return [CronProblem(words[0].start(), "the time zone does not stand in the cron itself", hint)]
    if len(words) != len(_FIELDS):
        hint = "they are minute, hour, day of the month, month, day of the week, such as `30 8 * * mon-fri`"
        return [CronProblem(0, f"a cron has 5 fields, this one has {len(words)}", hint)]
    problems: list[CronProblem] = []
    numbers: list[list[int]] = []
    for field, word in zip(_FIELDS, words, strict=True):
        found, wrong = _field_numbers(field, word)
        numbers.append(found)
        problems += wrong
    if not problems and not _comes_ever(numbers[2], numbers[3]):
        problems.append(CronProblem(words[2].start(), "no month has that day, so that it never comes"))
    return problems


def names_both_days(text: str) -> bool:
    """Return whether a cron without problems limits the day of the month and the day of the week.

    Old cron programs take a day that fits either; Temporal takes those that fit both.
    """
    fields = text.split()
    return len(fields) == len(_FIELDS) and not fields[2].startswith("*") and not fields[4].startswith("*")


def _word_problems(word: re.Match[str]) -> list[CronProblem]:
    if word.group() == word.string.strip() and word.group() in WORDS:
        return []
    hint = f"there are {', '.join(WORDS)}"
    if word.group().startswith("@every"):
        hint = "write `*/15 * * * *` for every quarter of an hour"
    return [CronProblem(word.start(), f"'{word.string.strip()[:60]}' is not known", hint)]


def _field_numbers(field: _Field, word: re.Match[str]) -> tuple[list[int], list[CronProblem]]:
    numbers: list[int] = []
    problems: list[CronProblem] = []
    for offset, part in _parts(word.group()):
        found = _part_numbers(field, part)
        if isinstance(found, str):
            hint = f"it has {field.least} to {field.most}"
            if field.words:
                hint += f", or {field.words[0]} to {field.words[-1]}"
            problems.append(CronProblem(word.start() + offset, f"the {field.name} '{part[:40]}' {found}", hint))
        else:
            numbers += found
    return numbers, problems


def _parts(text: str) -> Iterator[tuple[int, str]]:
    offset = 0
    for part in text.split(","):
        yield offset, part
        offset += len(part) + 1


def _part_numbers(field: _Field, part: str) -> list[int] | str:
    """Return the numbers of one part of a field, or what is wrong with it."""
    match = _PART.fullmatch(part)
    if match is None or (match["first"] == "*" and match["last"]):
        return "is no `*`, number, range such as `1-5`, or step such as `*/10`"
    step = int(match["step"][:6]) if match["step"] else 1
    if not step:
        return "has a step of 0"
    if match["first"] == "*":
        return list(range(field.least, field.most + 1, step))
    first = field.number(match["first"])
    last = first if match["last"] is None else field.number(match["last"])
    if match["last"] is None and match["step"]:
        last = field.most
    if first is None or last is None:
        return "is outside its field"
    if last < first:
        return "ends before it begins"
    return list(range(first, last + 1, step))


def _comes_ever(days: list[int], months: list[int]) -> bool:
    return any(min(days) <= _LONGEST_MONTH.get(month, 31) for month in months)
