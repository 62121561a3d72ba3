"""What may be said of a backend or a group: read, checked, and never a key among it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from engine.core.errors import InvalidInput
from engine.settings import BackendConfig, Group
from engine.store.registry import EntryKind

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_name(kind: EntryKind, name: str) -> str:
    """Return a name that a backend or a group may have.

    Raises:
        InvalidInput: `backend.invalid`, `group.invalid`.
    """
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, `.`, `_` and `-`, at most 64 characters"
        if kind == "group":
            raise InvalidInput(f"{name[:80]!r} is no name for a group", code="group.invalid", hint=hint)
        raise InvalidInput(f"{name[:80]!r} is no name for a backend", code="backend.invalid", hint=hint)
    return name


def backend_body(given: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return what is stored of a backend.

    Raises:
        InvalidInput: `backend.invalid`.
    """
    _refuse_keys(given, name)
    body = {key: value for key, value in given.items() if value is not None}
    try:
        config = BackendConfig.model_validate(body)
    except ValidationError as error:
        raise InvalidInput(
            f"the backend{f' {name!r}' if name else ''} is not right: {told_of(error)}", code="backend.invalid"
        ) from None
    kept = config.model_dump(mode="json", exclude_defaults=True)
    if "base_url" not in body:
        # the provider's own address: it follows the kind
        del kept["base_url"]
        kept["kind"] = config.kind
    return kept


def group_body(given: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return what is stored of a group.

    Raises:
        InvalidInput: `group.invalid`.
    """
    try:
        group = Group.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        raise InvalidInput(
            f"the group{f' {name!r}' if name else ''} is not right: {told_of(error)}", code="group.invalid"
        ) from None
    return group.model_dump(mode="json", exclude_defaults=True)


_KEY_LIKE = frozenset({"api_key", "apikey", "key", "token", "password", "secret", "authorization"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIKE_A_KEY = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9]).{20,}")
"""Names of variables and secrets are not made like this, and some providers' keys are."""
_ADDRESS = re.compile(r"https?://[^\s?#@]+")
KEY_HINT = (
    "name a variable of the workers (api_key_env), or a secret: `everstep secrets set NAME`, then api_key_secret = NAME"
)


def holds_key(member: str) -> bool:
    """Whether a member of this name would hold a key."""
    return member.lower().replace("-", "_") in _KEY_LIKE


def _refuse_keys(given: Mapping[str, Any], name: str) -> None:
    """Refuse what is or may hold a key, without a word of it."""
    place = f"the backend {name!r}" if name else "the backend"
    for member in given:
        if holds_key(member):
            raise _refused(f"{place} has no member '{member}': keys are not kept with backends", KEY_HINT)
    for member in ("api_key_env", "api_key_secret"):
        value = given.get(member)
        if isinstance(value, str) and value and (not _VARIABLE.fullmatch(value) or _LIKE_A_KEY.fullmatch(value)):
            raise _refused(
                f"{member} of {place} is the name of something, and this looks like the key itself", KEY_HINT
            )
    url = given.get("base_url")
    if isinstance(url, str) and url and not _ADDRESS.fullmatch(url):
        said = f"base_url of {place} is no address, or has a login or a query, which might be a key"
        raise _refused(said, f"write http://HOST:PORT/PATH; {KEY_HINT}")


def _refused(text: str, hint: str) -> InvalidInput:
    return InvalidInput(text, code="backend.invalid", hint=hint)


def told_of(error: ValidationError) -> str:
    """Return the first thing that is wrong, without the value that it is wrong with."""
    item = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in item["loc"])
    return f"{place + ': ' if place else ''}{item['msg'].removeprefix('Value error, ')}"
