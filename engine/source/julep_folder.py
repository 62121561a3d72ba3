"""Reads a folder of files that were written for Julep: which are tasks, agents and tools, and which belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from engine.core.errors import SourceError
from engine.core.spec.nodes import MapNode, Node, ScalarNode, node_to_json
from engine.source.parse import parse_source
from engine.source.task_text import read_task_text

FileKind = Literal["task", "agent", "tool", "unreadable", "other"]

PROJECT_FILE: Final = "julep.yaml"
"""What Julep's command line read: {agents, tasks, tools}, each item {definition, agent_id}."""
LOCK_FILE: Final = "julep-lock.json"
"""What it wrote: {agents, tasks, tools}, each item {path, id, …}."""
SUFFIXES: Final = (".yaml", ".yml", ".json")
TOOL_TYPES: Final = (
    "function",
    "integration",
    "system",
    "api_call",
    "computer_20241022",
    "text_editor_20241022",
    "bash_20241022",
)
_AGENT_KEYS: Final = frozenset(
    {"about", "instructions", "model", "default_settings", "default_system_template", "canonical_name"}
)
_KINDS: Final[Mapping[str, FileKind]] = {"agents": "agent", "tasks": "task", "tools": "tool"}
_AGENT_REFERENCE: Final = re.compile(r"\{\s*agents\[(\d+)\]\.id\s*\}")


@dataclass(frozen=True, slots=True)
class JulepFile:
    """A file of the folder.

    Attributes:
        path: Where it is.
        kind: What it is.
        text: Its text; empty if it cannot be read.
        root: Its tree; None if it cannot be read.
        error: Why it cannot be read.
        agent: The file of the agent it belongs to, as the project file says.
        known_id: The id it had at Julep, as the lock file says; empty if it says nothing.
    """

    path: Path
    kind: FileKind
    text: str = ""
    root: Node | None = None
    error: SourceError | None = None
    agent: Path | None = None
    known_id: str = ""

    @property
    def name(self) -> str:
        """The name it gives itself, or that of the file."""
        written = self.root.get("name") if isinstance(self.root, MapNode) else None
        if isinstance(written, ScalarNode) and isinstance(written.value, str) and written.value.strip():
            return written.value
        return self.path.stem


@dataclass(slots=True)
class JulepFolder:
    """What stands in a folder.

    Attributes:
        files: Tasks, agents, tools and what cannot be read, in the order of their paths.
        others: Files that are none of these.
        lost: What the project file names and is not there.
    """

    files: list[JulepFile] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    lost: list[Path] = field(default_factory=list)

    def of(self, kind: FileKind) -> list[JulepFile]:
        """Return the files of a kind."""
        return [file for file in self.files if file.kind == kind]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the project file or the lock file says of a file."""

    kind: FileKind | None = None
    agent: Path | None = None
    known_id: str = ""


def read_julep_folder(folder: Path) -> JulepFolder:
    """Read all YAML and JSON files of a folder and of the folders in it, but not hidden ones.

    A file with `main` is a task, one with a tool's `type` a tool, one with a name and what only agents have an agent;
    what `julep.yaml` names is what it says.

    Args:
        folder: The folder.
    """
    entries = _entries(folder)
    found = JulepFolder()
    for path in _files_under(folder):
        if path.name in (PROJECT_FILE, LOCK_FILE):
            continue
        file = _read(path, entries.pop(path.resolve(), _Entry()))
        if file.kind == "other":
            found.others.append(path)
        else:
            found.files.append(file)
    found.lost = [path for path, entry in entries.items() if entry.kind is not None]
    return found


def _files_under(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir():
            yield from _files_under(path)
        elif path.suffix in SUFFIXES:
            yield path


def _read(path: Path, entry: _Entry) -> JulepFile:
    try:
        text = read_task_text(path)
        root = parse_source(text, str(path))
    except SourceError as error:
        return JulepFile(path, "unreadable", error.source, error=error)
    kind = entry.kind or _kind_of(root)
    return JulepFile(path, kind, text, root, agent=entry.agent, known_id=entry.known_id)


def _kind_of(root: Node) -> FileKind:
    if not isinstance(root, MapNode):
        return "other"
    keys = set(root.keys())
    if "main" in keys:
        return "task"
    written = root.get("type")
    if isinstance(written, ScalarNode) and written.value in TOOL_TYPES:
        return "tool"
    return "agent" if "name" in keys and keys & _AGENT_KEYS else "other"


def _entries(folder: Path) -> dict[Path, _Entry]:
    """Return what the project file and the lock file say of files, by their resolved paths."""
    project, lock = _object_in(folder / PROJECT_FILE), _object_in(folder / LOCK_FILE)
    ids = {
        (folder / str(item["path"])).resolve(): str(item["id"])
        for section in _KINDS
        for item in _items(lock, section)
        if "path" in item and "id" in item
    }
    found = {path: _Entry(known_id=id_) for path, id_ in ids.items()}
    agents = [_place(folder, item) for item in _items(project, "agents")]
    by_id = {ids[path]: path for path in agents if path in ids}
    for section, kind in _KINDS.items():
        for item in _items(project, section):
            path = _place(folder, item)
            if path is not None:
                agent = _agent_of(str(item.get("agent_id", "")), agents, by_id)
                found[path] = _Entry(kind, agent, ids.get(path, ""))
    return found


def _agent_of(reference: str, agents: list[Path | None], by_id: Mapping[str, Path]) -> Path | None:
    numbered = _AGENT_REFERENCE.fullmatch(reference)
    if numbered is None:
        return by_id.get(reference)
    number = int(numbered.group(1))
    return agents[number] if number < len(agents) else None


def _place(folder: Path, item: Mapping[str, object]) -> Path | None:
    definition = item.get("definition")
    return (folder / definition).resolve() if isinstance(definition, str) else None


def _items(content: Mapping[str, object], section: str) -> list[dict[str, object]]:
    items = content.get(section)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _object_in(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    content = node_to_json(parse_source(read_task_text(path), str(path)))
    return dict(content) if isinstance(content, dict) else {}
