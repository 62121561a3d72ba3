"""Tells other processes as JSON what only one with our adapters can find out: the tools, the models of backends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict
from typing import Any

from activities.backends.base import Backend, ReadSecret
from activities.llm import ChatActivities, build_backends
from activities.registry import secrets_of
from engine.control.registry import open_registry
from engine.control.tools import load_catalog
from engine.core.errors import EngineError
from engine.settings import Settings, load_project
from engine.store.database import look_at, open_database
from engine.store.migrating import HEAD


async def show_tools(settings: Settings) -> None:
    """Load the project as a worker does, print the contracts of its tools as JSON, and end.

    Raises:
        EngineError: The configuration is wrong.
    """
    with contextlib.redirect_stdout(sys.stderr):
        project = load_project(settings.project_file)
        contracts = load_catalog(project, settings.data_dir).contracts()
        await ChatActivities.of(project).aclose()
    print(json.dumps({name: asdict(contract) for name, contract in contracts.items()}))  # noqa: T201


async def show_models(settings: Settings) -> None:
    """Ask each backend for its models, print what they say as JSON, and end.

    That is, by backend, {base_url, declared} and {models, missing} or {error}: what it lists, what of its `models` it
    does not have, or why it gave no answer. Backends of the store are among them if the store is there.

    Raises:
        EngineError: The configuration is wrong.
    """
    with contextlib.redirect_stdout(sys.stderr):
        project, database = load_project(settings.project_file), None
        read_secret: ReadSecret | None = None
        if (await look_at(settings.store_url))[1] == HEAD:
            database = await open_database(settings.store_url)
            project = (await open_registry(database, project)[0].registry()).merged()
            read_secret = secrets_of(settings, database)
        try:
            backends = build_backends(project, read_secret)
            seen = await asyncio.gather(*(_models_of(backend) for backend in backends))
        finally:
            if database is not None:
                await database.close()
    print(json.dumps({backend.name: told for backend, told in zip(backends, seen, strict=True)}))  # noqa: T201


async def _models_of(backend: Backend) -> dict[str, Any]:
    about = {"base_url": backend.config.base_url, "declared": backend.config.models}
    try:
        models = await backend.list_models()
        missing = [name for name in backend.config.models if name not in models and not await backend.has_model(name)]
    except EngineError as error:
        return {**about, "error": error.to_json()}
    finally:
        await backend.aclose()
    return {**about, "models": models, "missing": missing}
