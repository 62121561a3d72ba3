"""Checks the files of a Julep folder: tasks are compiled in their dialect, agents held against the API's own rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.control.compiling import compile_tree
from engine.core.diagnostics import NOWHERE, Diagnostic, Severity, render_diagnostics
from engine.core.errors import DefinitionError
from engine.core.kinds import Dialect
from engine.core.plan.ir import ToolContract
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode, node_to_json
from engine.source.julep_evidence import Difference, Evidence, dialect_of_task, differences
from engine.source.julep_folder import JulepFile, JulepFolder

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SERVER_KEYS = frozenset({"id", "agent_id", "developer_id", "created_at", "updated_at", "jobs"})
"""What Julep's server added to what it was given; here it is given anew."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A file and what was found in it.

    Attributes:
        file: The file.
        evidence: In which dialect it is; None if it is no task.
        findings: Errors and warnings.
        differences: Where it does something else here.
    """

    file: JulepFile
    evidence: Evidence | None = None
    findings: Sequence[Diagnostic] = ()
    differences: Sequence[Difference] = ()

    @property
    def is_ok(self) -> bool:
        """Whether it can be taken over."""
        return not any(item.severity is Severity.ERROR for item in self.findings)

    @property
    def body(self) -> dict[str, Any]:
        """What the API is sent for it."""
        body = {**_given(self.file.root), "name": self.file.name}
        return {**body, "dialect": self.evidence.dialect} if self.evidence else body

    def to_json(self) -> dict[str, Any]:
        """Return the file as JSON: what it is, in which dialect, what is wrong with it and what is different."""
        path = str(self.file.path)
        return {
            "file": path,
            "kind": self.file.kind,
            "name": self.file.name,
            "ok": self.is_ok,
            "dialect": self.evidence.dialect if self.evidence else None,
            "why": self.evidence.why if self.evidence else None,
            "diagnostics": [item.to_json(path) for item in self.findings],
            "differences": [{"path": item.path, "text": item.text} for item in self.differences],
        }

    def rendered(self) -> str:
        """Return the findings as text with the places they are about."""
        return render_diagnostics(self.findings, file=str(self.file.path), source=self.file.text)


def check_folder(
    folder: JulepFolder, *, contracts: Mapping[str, ToolContract], dialect: Dialect | None = None
) -> list[Checked]:
    """Check all files of a folder.

    Args:
        folder: The folder.
        contracts: The operator's tools by name.
        dialect: What tasks are read as; None = as each of them shows.
    """
    tools = folder.of("tool")
    checked = [_check(file, tools, contracts, dialect) for file in folder.files]
    return [_alone(item, checked[:number]) for number, item in enumerate(checked)]


def _alone(item: Checked, before: Sequence[Checked]) -> Checked:
    """Return a file with an error if one before it has its name: both would be the same agent, task or tool."""
    file = item.file
    for other in (earlier.file for earlier in before):
        if (other.kind, other.name, other.agent) == (file.kind, file.name, file.agent) and file.kind != "unreadable":
            message = f"this {file.kind} is called '{file.name}' as the one in {other.path} is"
            at = file.root.position if file.root else NOWHERE
            found = Diagnostic(codes.CONFLICT, message, at, "give each a name of its own", path="name")
            return replace(item, findings=[*item.findings, found])
    return item


def _check(
    file: JulepFile, tools: Sequence[JulepFile], contracts: Mapping[str, ToolContract], dialect: Dialect | None
) -> Checked:
    if file.error is not None:
        return Checked(file, findings=file.error.diagnostics or [_broken(str(file.error))])
    root = file.root
    if not isinstance(root, MapNode):
        return Checked(file, findings=[_broken(f"{file.kind} files hold an object")])
    if file.kind == "task":
        of_agent = [tool for tool in tools if tool.agent == file.agent or tool.agent is None or file.agent is None]
        return _check_task(file, root, of_agent, contracts, dialect)
    return Checked(file, findings=_agent_findings(file, root) if file.kind == "agent" else _tool_findings(root))


def _check_task(
    file: JulepFile,
    root: MapNode,
    tools: Sequence[JulepFile],
    contracts: Mapping[str, ToolContract],
    dialect: Dialect | None,
) -> Checked:
    evidence = Evidence(dialect, "--dialect") if dialect else dialect_of_task(root)
    tree = _with_tools(root, tools, inherits=evidence.dialect == "julep-2024")
    try:
        compiled = compile_tree(
            tree, source=file.text, file=str(file.path), contracts=contracts, dialect=evidence.dialect
        )
        found: Sequence[Diagnostic] = compiled.warnings
    except DefinitionError as error:
        found = error.diagnostics or [_broken(error.message)]
    own = root.get("tools")
    count = len(own.items) if isinstance(own, ListNode) else 0
    theirs = tuple(f"tools[{count + number}]" for number in range(len(tools)))
    # what stands in the file of a tool has no place in this one
    found = [replace(item, position=root.position) if item.path.startswith(theirs) else item for item in found]
    return Checked(file, evidence, found, differences(root))


def _with_tools(root: MapNode, tools: Sequence[JulepFile], *, inherits: bool) -> MapNode:
    """Return a task with the tools that it has from its agent; its own ones win."""
    written = root.get("inherit_tools")
    if isinstance(written, ScalarNode):
        inherits = bool(written.value)
    own = root.get("tools")
    items: tuple[Node, ...] = own.items if isinstance(own, ListNode) else ()
    names = [item.get("name") for item in items if isinstance(item, MapNode)]
    known = {name.value for name in names if isinstance(name, ScalarNode)}
    more = tuple(tool.root for tool in tools if tool.root is not None and tool.name not in known)
    if not inherits or not more or not (own is None or isinstance(own, ListNode)):
        return root
    rest = tuple(entry for entry in root.entries if entry.key != "tools")
    return MapNode((*rest, MapEntry("tools", root.position, ListNode((*items, *more)))), root.position)


def _given(root: Node | None) -> dict[str, Any]:
    """Return what somebody wrote into a file, without what a server put there."""
    content = None if root is None else node_to_json(root)
    return {key: value for key, value in content.items() if key not in SERVER_KEYS} if isinstance(content, dict) else {}


def _agent_findings(file: JulepFile, root: MapNode) -> list[Diagnostic]:
    from pydantic import ValidationError

    from engine.edge.native.agents import AgentBody

    try:
        AgentBody.model_validate({"name": file.name, **_given(root)})
    except ValidationError as error:
        return [_finding(root, item) for item in error.errors()]
    return []


def _finding(root: MapNode, error: ErrorDetails) -> Diagnostic:
    place, message = error["loc"], error["msg"]
    if error["type"] == "unknown_member" and not place:
        # the object as a whole was refused, but one of its members is to blame
        name = str(error["ctx"]["name"])
        stranger = root.entry(name)
        position = root.position if stranger is None else stranger.key_position
        return Diagnostic(codes.UNKNOWN_KEY, message, position, path=name)
    key = str(place[0]) if place else ""
    entry = root.entry(key)
    position = root.position if entry is None else entry.value.position
    return Diagnostic(codes.WRONG_TYPE, f"{key}: {message}" if key else message, position, path=key)


def _tool_findings(root: MapNode) -> list[Diagnostic]:
    written = root.get("type")
    kind = str(written.value) if isinstance(written, ScalarNode) else ""
    return [
        Diagnostic(codes.MISSING_KEY, f"a tool of type {kind or 'function'} needs '{key}'", root.position, path=key)
        for key in ("name", kind)
        if key and root.get(key) is None
    ]


def _broken(message: str) -> Diagnostic:
    return Diagnostic(codes.SYNTAX, message, NOWHERE)
