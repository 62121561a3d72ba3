"""Which values that a process was started with are secret, so that none of its log lines shows one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from engine.settings import Project, Settings

_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "TEMPORAL_API_KEY", "OPENAI_API_KEY")
"""Variables that are secret whether the settings name them or not."""

OF_VARIABLE = "env:"
"""How a setting begins that is the name of a variable."""


def known_secrets(settings: Settings, project: Project | None = None) -> list[str]:
    """Return the secrets of a process: those of its settings, and the variables that the project names.

    Args:
        settings: Settings of the process.
        project: The operator's everstep.toml; None = it is not read here.
    """
    found = [*_of_settings(settings), *(os.environ.get(name, "") for name in _VARIABLES)]
    if project is not None:
        found += [os.environ.get(name, "") for name in _variables_in(project.model_dump(exclude={"folder"}))]
    return [text.strip() for text in found if text.strip()]


def _of_settings(settings: Settings) -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            yield text
            # of a key ring each key alone
            yield from (part.partition(":")[2] for part in text.split(",") if ":" in part)
    try:
        yield make_url(settings.store_url).password or ""
    except ArgumentError:
        return


def _variables_in(value: Any, name: str = "") -> Iterator[str]:
    """Yield the names of variables that members such as `api_key_env` hold, wherever they stand."""
    if isinstance(value, dict):
        if name == "env":
            # variables of a program, by the name that it knows them by
            texts = (item for item in value.values() if isinstance(item, str))
            yield from (text.removeprefix(OF_VARIABLE) for text in texts if text.startswith(OF_VARIABLE))
        for key, item in value.items():
            yield from _variables_in(item, str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _variables_in(item, name)
    elif isinstance(value, str) and value and (name == "env" or name.endswith("_env")):
        yield value
