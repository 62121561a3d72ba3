"""Takes checked files of a Julep folder over into the API; what is there is changed, so that it can be repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from engine.core.errors import InvalidInput, NotFound
from engine.edge.cli.api import Api
from engine.edge.cli.importchecks import Checked

Change = Literal["created", "updated", "unchanged"]
WRITE_TIMEOUT_S: Final = 60.0
MOST: Final = 999


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a file.

    Attributes:
        file: The file.
        change: What was done.
        id: Id of the agent, task or tool.
    """

    file: Path
    change: Change
    id: str


class Importer:
    """Stores agents first, then their tools, then their tasks.

    Args:
        api: The API.
        agent: Id or canonical name of the agent of tasks and tools that do not say whose they are; empty = the only
            one of the folder.
    """

    def __init__(self, api: Api, agent: str = "") -> None:
        self._api = api
        self._agent = agent
        self._ids: dict[Path, str] = {}

    def take(self, files: Sequence[Checked]) -> list[Taken]:
        """Store all files.

        Raises:
            InvalidInput: `import.no_agent` if it is not known whose a task or tool is; nothing is stored then.
            EngineError: The API refused something; what was stored before stays, and is found when it is tried again.
        """
        agents = [item for item in files if item.file.kind == "agent"]
        if not self._agent and len(agents) != 1:
            self._refuse_orphans(files)
        taken = [self._take_agent(item) for item in agents]
        for kind, take in (("tool", self._take_tool), ("task", self._take_task)):
            taken += [take(item, self._owner(item)) for item in files if item.file.kind == kind]
        return taken

    def _refuse_orphans(self, files: Sequence[Checked]) -> None:
        for item in files:
            if item.file.kind in ("task", "tool") and item.file.agent is None:
                raise InvalidInput(
                    f"nothing says to which agent {item.file.path} belongs",
                    code="import.no_agent",
                    hint="name the agent with --agent, or in julep.yaml",
                )

    def _owner(self, item: Checked) -> str:
        if item.file.agent is not None:
            return self._ids[item.file.agent]
        return self._agent or next(iter(self._ids.values()))

    def _take_agent(self, item: Checked) -> Taken:
        body = {"canonical_name": canonical_name(item.file.name), **item.body}
        before = self._find(f"/agents/{_quoted(item.file.known_id or body['canonical_name'])}")
        if before is None:
            made = self._post(f"/agents/{item.file.known_id}" if item.file.known_id else "/agents", body)
        elif _says(before, body):
            made = before
        else:
            made = self._api.put(f"/agents/{before['id']}", body, timeout_s=WRITE_TIMEOUT_S)
        self._ids[item.file.path.resolve()] = str(made["id"])
        return _taken(item, before, made)

    def _take_tool(self, item: Checked, agent: str) -> Taken:
        path = f"/agents/{_quoted(agent)}/tools"
        before = _named(self._api.get(path, limit=MOST)["items"], item.body["name"])
        if before is None:
            return _taken(item, None, self._post(path, item.body))
        if _says(before, item.body):
            return _taken(item, before, before)
        made = self._api.put(f"{path}/{before['id']}", item.body, timeout_s=WRITE_TIMEOUT_S)
        return _taken(item, before, made)

    def _take_task(self, item: Checked, agent: str) -> Taken:
        path = f"/agents/{_quoted(agent)}/tasks"
        before = _named(self._api.get(path, limit=MOST)["items"], item.body["name"])
        id_ = str(before["id"]) if before else item.file.known_id
        made = self._post(f"{path}/{id_}" if id_ else path, item.body)
        return _taken(item, before, made)

    def _find(self, path: str) -> dict[str, Any] | None:
        try:
            return dict(self._api.get(path))
        except NotFound:
            return None

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self._api.post(path, body, timeout_s=WRITE_TIMEOUT_S))


def canonical_name(name: str) -> str:
    """Return the name for programs that an agent without one gets: the same for the same name."""
    word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return (word if word[:1].isalpha() else f"agent_{word}")[:255]


def _named(items: Iterable[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((item for item in items if item["name"] == name), None)


def _says(view: dict[str, Any], body: dict[str, Any]) -> bool:
    return all(view.get(key) == value for key, value in body.items())


def _taken(item: Checked, before: dict[str, Any] | None, made: dict[str, Any]) -> Taken:
    change: Change = "created" if before is None else "updated"
    if before is not None and before["updated_at"] == made["updated_at"]:
        change = "unchanged"
    return Taken(item.file.path, change, str(made["id"]))


def _quoted(text: str) -> str:
    return quote(text, safe="")
