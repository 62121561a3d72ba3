"""Puts secrets into a tool's call right before it is made, and takes them out of all that comes back."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from activities.effects import unexpected
from activities.masking import masked_by
from engine.control.secrets import SecretReader
from engine.core.contracts.activities import ToolParams
from engine.core.errors import EngineError, SecretError
from engine.core.lang.secret import Part, fill, names_of
from engine.core.plan.grant import OPEN, check_permitted
from engine.core.values import Json
from engine.obs.redaction import Mask

log = structlog.get_logger("everstep.secrets")


class SecretCalls:
    """Makes calls with secrets.

    Args:
        reader: Opens them; None = there is no store of secrets here.
    """

    def __init__(self, reader: SecretReader | None) -> None:
        self._reader = reader

    async def call(self, params: ToolParams, make: Callable[[ToolParams], Awaitable[Json]]) -> Json:
        """Make a call with the secrets that it names, if it names any.

        Args:
            params: The call, with placeholders where texts with secrets belong.
            make: Makes it.

        Returns:
            What the call returned, without its secrets.

        Raises:
            AuthorityError: `authority.denied` for a secret beyond the bound of the call; nothing was read or called.
            SecretError: A secret is not there, or cannot be read; nothing was called.
            EngineError: As `make`, without its secrets.
        """
        names = names_of([*params.secrets, *params.tool.secrets])
        if not names:
            return await make(params)
        values = await self._read(params, names)
        mask = Mask(values.values())
        try:
            with masked_by(mask):
                return mask.json(await make(_filled(params, values)))
        except EngineError as error:
            raise mask.error(error) from None
        except Exception as error:
            clean = mask.error(unexpected(error))
            log.error("a call failed unexpectedly", tool=params.tool.name, error=clean.message)
            raise clean from None

    async def _read(self, params: ToolParams, names: Sequence[str]) -> dict[str, str]:
        for name in names:
            check_permitted(params.context.allow or OPEN, "secrets", name)
        if self._reader is None:
            raise SecretError(
                f"tool '{params.tool.name}' needs the secret '{names[0]}', and there is no store of secrets here",
                hint="calls that a worker makes for an execution have one",
            )
        found = await self._reader.read_all(params.context.tenant, names)
        return {name: value.get_secret_value() for name, value in found.items()}


def _filled(params: ToolParams, values: Mapping[str, str]) -> ToolParams:
    """Return a call with its secrets in it."""
    arguments = _with_texts(params.arguments, params.secrets, values)
    spec = _with_texts(params.tool.spec, params.tool.secrets, values)
    return replace(params, arguments=arguments, tool=replace(params.tool, spec=spec, secrets=()), secrets=[])


def _with_texts(value: dict[str, Any], slots: Sequence[dict[str, Any]], values: Mapping[str, str]) -> dict[str, Any]:
    texts = {number: _text_of(slot["parts"], values) for number, slot in enumerate(slots)}
    found = fill(value, slots, texts)
    assert isinstance(found, dict)
    return found


def _text_of(parts: Sequence[Part], values: Mapping[str, str]) -> str:
    return "".join(part if isinstance(part, str) else _gap(part, values) for part in parts)


def _gap(part: Mapping[str, Any], values: Mapping[str, str]) -> str:
    if "secret" in part:
        return values[part["secret"]]
    return base64.b64encode(_text_of(part["base64"], values).encode()).decode("ascii")
