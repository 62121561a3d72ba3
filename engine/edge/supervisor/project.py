"""Watches the operator's project for `everstep dev`: everstep.toml and the tool modules that it names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.core.errors import EngineError
from engine.edge.supervisor import bind, guard
from engine.edge.supervisor.child import Guard

if TYPE_CHECKING:
    from engine.core.plan.ir import ToolContract

LOOK_S = 0.5
LOAD_TIMEOUT_S = 30.0
MAX_SAID_CHARS = 2_000

Stamp = tuple[int, int, int] | None
"""Time of the last change in nanoseconds, size and file number; None = there is no such file."""


class ProjectWatch:
    """Says when everstep.toml, or a tool module that it names, was saved.

    Modules are watched as far as they lie in the project's folder; what they import is not. So are documents of OpenAPI
    services that are files.
    """

    def __init__(self, project_file: Path) -> None:
        """Take down how the files are now.

        Args:
            project_file: The operator's everstep.toml; may be missing.
        """
        self._file = project_file.absolute()
        self._modules: list[str] = []
        self._documents: list[str] = []
        self._stamps = self._look()

    async def next_change(self, stop: asyncio.Event) -> list[str]:
        """Wait until files were saved and nothing more has changed for a moment.

        Args:
            stop: Ends the wait.

        Returns:
            Their names; none once `stop` is set.
        """
        changed: dict[str, None] = {}
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
                break
            found = self.changed()
            if changed and not found:
                return list(changed)
            changed.update(dict.fromkeys(found))
        return []

    def changed(self) -> list[str]:
        """Return the names of the files that were saved, made or removed since the last call."""
        before, self._stamps = self._stamps, self._look()
        files = dict.fromkeys([*before, *self._stamps])
        return [file.name for file in files if before.get(file) != self._stamps.get(file)]

    def _look(self) -> dict[Path, Stamp]:
        # a file that cannot be read at the moment names what it named before
        with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            body = tomllib.loads(self._file.read_text(encoding="utf-8"))
            tools = body.get("tools", {})
            named = tools.get("modules", [])
            self._modules = [entry for entry in named if isinstance(entry, str)]
            services = tools.get("openapi", {})
            services = services.values() if isinstance(services, dict) else ()
            documents = [item.get("document") for item in services if isinstance(item, dict)]
            self._documents = [entry for entry in documents if isinstance(entry, str) and "://" not in entry]
        files = [self._file, *(file for entry in self._modules for file in self._files_of(entry))]
        files += [self._file.parent / entry for entry in self._documents]
        return {file: _stamp(file) for file in files}

    def _files_of(self, entry: str) -> list[Path]:
        folder = self._file.parent
        if entry.endswith(".py") or "/" in entry:
            return [folder / entry]
        place = folder.joinpath(*entry.split("."))
        return [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]


def _stamp(file: Path) -> Stamp:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


async def read_contracts(environment: Mapping[str, str], keeper: Guard) -> dict[str, ToolContract]:
    """Load the project in a process of its own, as a worker would, and return the contracts of its tools.

    Args:
        environment: Environment of a worker.
        keeper: Who kills the process if we are killed.

    Raises:
        EngineError: `dev.project` with what the process said, if a worker could not start with it.
    """
    from pydantic import TypeAdapter

    from engine.core.plan.ir import ToolContract

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", bind.__file__, str(os.getpid()), sys.executable, "-P", "-m", "worker", "tools"),
        env={**environment, guard.MARK_VARIABLE: keeper.token},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    await keeper.add(process.pid)
    try:
        out, said = await asyncio.wait_for(process.communicate(), LOAD_TIMEOUT_S)
    except TimeoutError as error:
        raise EngineError(f"it takes longer than {LOAD_TIMEOUT_S:g} s to load", code="dev.project") from error
    finally:
        guard.kill_group(process.pid)
        await process.wait()
        keeper.remove(process.pid)
    if process.returncode != 0:
        raise EngineError(said.decode("utf-8", "replace").strip()[-MAX_SAID_CHARS:], code="dev.project")
    return TypeAdapter(dict[str, ToolContract]).validate_json(out)
