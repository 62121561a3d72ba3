"""How a process says who it is to a service: values from the environment, and a mask that takes them out of texts."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence

from engine.core.errors import ToolError
from engine.obs.redaction import Mask as Mask  # who knows credentials takes them out again
from engine.obs.redaction import cookie_value
from engine.settings import CredentialConfig


def variable(name: str, needed_by: str, *, in_request: bool = True) -> str:
    """Return the value of an environment variable that a credential names.

    Args:
        name: The variable.
        needed_by: Who needs it, such as `tool 'x'`.
        in_request: Whether it must be fit for a header.

    Raises:
        ToolError: `tool.credentials` if it is not set, or cannot be sent.
    """
    value = os.environ.get(name, "").strip()
    if not value or (in_request and not (value.isascii() and value.isprintable())):
        state = "is not set" if not value else "holds something that cannot stand in a request"
        raise ToolError(
            f"{needed_by} needs a credential, but the environment variable {name} {state}",
            code="tool.credentials",
            hint=f"set {name} where the worker is started",
        )
    return value


def secrets_of(auth: Sequence[CredentialConfig], needed_by: str) -> dict[str, str]:
    """Return the values of all variables that credentials name; looked up per call, so that nothing keeps them.

    Raises:
        ToolError: As `variable`.
    """
    found: dict[str, str] = {}
    for way in auth:
        for name in (way.bearer_env, way.basic_user_env, way.basic_password_env, way.env):
            if name:
                found[name] = variable(name, needed_by)
    return found


def carried(auth: Sequence[CredentialConfig], secrets: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (place, name, value) of what says who the process is."""
    return [(*way.goes_to, _value_of(way, secrets)) for way in auth]


def _value_of(way: CredentialConfig, secrets: Mapping[str, str]) -> str:
    if way.bearer_env:
        return f"Bearer {secrets[way.bearer_env]}"
    if way.basic_user_env:
        both = f"{secrets[way.basic_user_env]}:{secrets[way.basic_password_env]}"
        return f"Basic {base64.b64encode(both.encode()).decode('ascii')}"
    return secrets[way.env]


def cookie_pair(name: str, value: str) -> str:
    """Return a cookie as it stands in the request; what would end it is percent-encoded."""
    return f"{name}={cookie_value(value)}"
