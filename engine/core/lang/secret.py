"""References to secrets in an evaluation: texts with gaps that only the call's activity fills. Workflow-safe.

No evaluation ever sees a value. `secrets.NAME` is a gap, and a text that was put together with one is a list of parts;
whatever would have to look into it fails. Of such texts the call's arguments get a placeholder for people, and the
activity is told, beside the arguments, where which parts belong. So no text of anybody's is ever read as a reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from engine.core.errors import ExpressionError
from engine.core.values import Json

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
"""What a secret may be called."""
MAX_PARTS: Final = 200
"""Most parts of a text with secrets."""
HINT: Final = 'it can be part of a text that a tool is called with: f"Bearer {secrets.token}"'

Part = str | dict[str, Json]
"""A part of a text with secrets: text, {"secret": NAME}, or {"base64": [parts]} for parts that are encoded."""


class SecretText:
    """A text with secrets in it, of which an evaluation knows the parts alone.

    Attributes:
        parts: Its parts.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        if len(self.parts) > MAX_PARTS:
            raise used("a text with secrets has too many parts")

    def __repr__(self) -> str:
        """Show it as people see it."""
        return shown(self.parts)

    def __bool__(self) -> bool:
        raise used("whether a secret is empty is not known here")

    def __eq__(self, other: object) -> bool:
        raise used("a secret cannot be compared")

    __hash__ = None  # type: ignore[assignment]  # it is no key: nobody knows what it is


class SecretNames:
    """What the name `secrets` stands for where there are secrets."""

    __slots__ = ()

    def read(self, name: Any) -> SecretText:
        """Return the reference to a secret.

        Raises:
            ExpressionError: `expression.secret` if no secret can have that name.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise used("a secret's name has letters, digits and `_`")
        return SecretText([{"secret": name}])


SECRETS: Final = SecretNames()


def used(message: str) -> ExpressionError:
    """Return the error of who does more with a secret than put it into a text; the caller raises it."""
    return ExpressionError(message, code="expression.secret", hint=HINT)


def join(texts: Sequence[Any]) -> SecretText:
    """Return texts, of which some have secrets, as one.

    Raises:
        ExpressionError: `expression.secret` if one of them is no text.
    """
    parts: list[Part] = []
    for text in texts:
        if type(text) is SecretText:
            parts += text.parts
        elif type(text) is str:
            parts.append(text)
        else:
            raise used("only texts can be added to a secret")
    return SecretText(part for part in parts if part != "")


def encoded(text: SecretText) -> SecretText:
    """Return what base64 of a text with secrets is, which the activity encodes."""
    return SecretText([{"base64": list(text.parts)}])


def shown(parts: Sequence[Part]) -> str:
    """Return a text with secrets as histories and people see it."""
    return "".join(part if isinstance(part, str) else _shown_gap(part) for part in parts)


def _shown_gap(part: Mapping[str, Json]) -> str:
    return f"‹secret:{part['secret']}›" if "secret" in part else f"‹base64:{shown(part['base64'])}›"


# --- beside a value ------------------------------------------------------------------------------------------------


def take_out(value: Any) -> tuple[Json, list[dict[str, Json]]]:
    """Put placeholders in the place of texts with secrets.

    Args:
        value: A JSON value that may hold such texts.

    Returns:
        The JSON value, and [{at, parts}]: where which parts belong; `at` are keys and numbers from the outside.
    """
    slots: list[dict[str, Json]] = []
    return _take_out(value, [], slots), slots


def _take_out(value: Any, at: list[str | int], slots: list[dict[str, Json]]) -> Json:
    if type(value) is SecretText:
        slots.append({"at": list(at), "parts": list(value.parts)})
        return shown(value.parts)
    if isinstance(value, dict):
        return {key: _take_out(item, [*at, key], slots) for key, item in value.items()}
    if isinstance(value, list):
        return [_take_out(item, [*at, number], slots) for number, item in enumerate(value)]
    return value


def names_of(slots: Iterable[Mapping[str, Json]]) -> list[str]:
    """Return the names of the secrets that belong somewhere, each once."""
    found: dict[str, None] = {}
    for slot in slots:
        _add_names(slot["parts"], found)
    return sorted(found)


def _add_names(parts: Sequence[Part], found: dict[str, None]) -> None:
    for part in parts:
        if isinstance(part, dict):
            if "secret" in part:
                found[part["secret"]] = None
            else:
                _add_names(part["base64"], found)


def still_there(value: Json, slots: Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    """Return the slots whose places still hold their placeholders, after somebody may have changed the value."""
    return [slot for slot in slots if _at(value, slot["at"]) == shown(slot["parts"])]


def _at(value: Json, at: Sequence[str | int]) -> Json:
    for key in at:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return value


def fill(value: Json, slots: Iterable[Mapping[str, Json]], texts: Mapping[int, str]) -> Json:
    """Return a value with texts at the places of slots; what does not change is shared.

    Args:
        value: The value with placeholders.
        slots: Where the texts belong.
        texts: The texts by the numbers of the slots.
    """
    for number, slot in enumerate(slots):
        value = _put(value, slot["at"], texts[number])
    return value


def _put(value: Json, at: Sequence[str | int], text: str) -> Json:
    if not at:
        return text
    key, rest = at[0], at[1:]
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[key] = _put(copy[key], rest, text)
    return copy
