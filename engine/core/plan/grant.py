"""What a plan may touch by name, and the bound that `allow` of a task puts on it. Workflow-safe.

A bound has one list for each kind of name: None leaves the kind open, an empty list forbids it. Names are compared as
they stand, with two exceptions: a host may begin with `*.` and may end with a port, and a task may be named with or
without an alias.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from engine.core.errors import AuthorityError
from engine.core.values import Json

ANY: Final = "*"
"""A name that is known only when the step runs."""
DEFAULT_MODEL: Final = "(default)"
"""The model that the operator's first backend takes when nobody names one."""
STANDARD_PORTS: Final = ("80", "443")
"""Ports that count as none, so that `api.example.com` means the web server of that name."""

_HOST = re.compile(
    r"(?P<name>\[[0-9a-f:.]+\]|(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?)(?::(?P<port>[0-9]{1,5}|\*))?"
)


@dataclass(frozen=True, slots=True)
class Reach:
    """Names that a plan may touch, each kind sorted.

    Attributes:
        tools: Tools that its steps call or let a model call.
        models: Models that it asks; DEFAULT_MODEL if a prompt names none.
        hosts: Hosts (`host` or `host:port`) that its HTTP tools call; those of Python tools are the operator's matter.
        secrets: Secrets that its expressions read.
        tasks: Tasks that it runs as child executions.
    """

    tools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    def beyond(self, other: Reach) -> Reach:
        """Return what this reach has and another does not; where the other has ANY, nothing is beyond it."""
        return Reach(
            *(
                tuple(name for name in mine if ANY not in theirs and not _covers(kind, theirs, name))
                for (kind, mine), (_, theirs) in zip(self.kinds(), other.kinds(), strict=True)
            )
        )

    def kinds(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield (kind, names) in the order of the members."""
        for item in dataclasses.fields(self):
            yield item.name, getattr(self, item.name)

    def to_json(self) -> dict[str, list[str]]:
        """Return {tools, models, hosts, secrets, tasks}."""
        return {kind: list(names) for kind, names in self.kinds()}


KINDS: Final = tuple(item.name for item in dataclasses.fields(Reach))
"""The kinds of names that a bound speaks of."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a plan may touch at most; None = anything of the kind, () = nothing.

    Attributes:
        tools: Names of tools.
        models: Names of models; DEFAULT_MODEL stands for calls that name none, whatever the operator then takes.
        hosts: `host`, `host:port` or `host:*`; a host that begins with `*.` stands for all names below it.
        secrets: Names of secrets.
        tasks: Names of tasks; without an alias any version of the task, with one (`name@prod`) that one only.
    """

    tools: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    secrets: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None

    def of(self, kind: str) -> tuple[str, ...] | None:
        """Return the list of a kind, one of KINDS."""
        found: tuple[str, ...] | None = getattr(self, kind)
        return found

    def permits(self, kind: str, name: str) -> bool:
        """Say whether a name is within the bound; ANY is only where the kind is open."""
        entries = self.of(kind)
        return entries is None or _covers(kind, entries, name)

    def to_json(self) -> dict[str, Json]:
        """Return the kinds that are bounded, as `allow` of a task has them."""
        lists = ((kind, self.of(kind)) for kind in KINDS)
        return {kind: list(entries) for kind, entries in lists if entries is not None}


VERBS: Final = MappingProxyType(
    {
        "tools": "call the tool",
        "models": "ask the model",
        "hosts": "call the host",
        "secrets": "read the secret",
        "tasks": "run the task",
    }
)
"""What a plan does with a name of each kind."""
OPEN: Final = Grant()
"""No bound."""
NOTHING: Final = Grant((), (), (), (), ())
"""The bound that forbids everything: `allow: []`."""


def excess(grant: Grant, reach: Reach) -> Reach:
    """Return what a reach has and a bound surely forbids.

    A name that is known only when the step runs is forbidden for certain only where nothing of its kind is allowed, or
    where nothing looks at it later (secrets); elsewhere the call itself is checked.

    Args:
        grant: The bound.
        reach: Names that a plan may touch.
    """
    return Reach(*(tuple(name for name in names if _is_beyond(grant, kind, name)) for kind, names in reach.kinds()))


def unsettled(grant: Grant, reach: Reach) -> Reach:
    """Return what a bound can judge only when the step runs: ANY and DEFAULT_MODEL where some names are allowed."""
    return Reach(
        *(
            tuple(name for name in names if not grant.permits(kind, name) and not _is_beyond(grant, kind, name))
            for kind, names in reach.kinds()
        )
    )


def within(grant: Grant, reach: Reach) -> Reach:
    """Return what of a reach a bound leaves: names that are known only when the step runs become those it permits.

    Args:
        grant: The bound.
        reach: Names that a plan may touch.
    """
    open_names = unsettled(grant, reach)
    return Reach(
        *(
            tuple(sorted({*(name for name in names if name not in left), *((grant.of(kind) or ()) if left else ())}))
            for (kind, names), (_, left) in zip(reach.kinds(), open_names.kinds(), strict=True)
        )
    )


def granted(grant: Grant) -> Reach:
    """Return a bound as a reach: what it lets the tasks touch that a plan runs; ANY where it is open."""
    entries = (grant.of(kind) for kind in KINDS)
    return Reach(*((ANY,) if names is None else names for names in entries))


def _is_beyond(grant: Grant, kind: str, name: str) -> bool:
    if grant.permits(kind, name):
        return False
    computed = name == ANY or (kind == "models" and name == DEFAULT_MODEL)
    return not computed or not grant.of(kind) or kind == "secrets"


def check_permitted(grant: Grant, kind: str, name: str) -> None:
    """Refuse a call whose name is beyond a bound; done before the call is made.

    Args:
        grant: The bound.
        kind: One of KINDS.
        name: The name, known by now.

    Raises:
        AuthorityError: `authority.denied`.
    """
    if grant.permits(kind, name):
        return
    entries = grant.of(kind) or ()
    permitted = f"it permits {', '.join(entries[:20])}" if entries else f"it permits no {kind}"
    raise AuthorityError(
        f"the task may not {VERBS[kind]} '{name[:200]}'",
        code="authority.denied",
        hint=f"`allow.{kind}` of the task, or of a task that runs it, does not have it; {permitted}",
        details={"kind": kind, "name": name[:200]},
    )


def narrow(grant: Grant, outer: Grant) -> Grant:
    """Return what both bounds permit: the bound of a child execution under that of its parent.

    Args:
        grant: The bound of the child's own plan.
        outer: The bound that its parent runs under, itself narrowed by those above it.
    """
    return Grant(*(_common(kind, grant.of(kind), outer.of(kind)) for kind in KINDS))


def _common(kind: str, mine: tuple[str, ...] | None, theirs: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    found = (_meet(kind, one, other) for one in mine for other in theirs)
    return tuple(dict.fromkeys(entry for entry in found if entry is not None))


def _covers(kind: str, entries: Iterable[str], name: str) -> bool:
    return any(_meet(kind, entry, name) == name for entry in entries)


def _meet(kind: str, one: str, other: str) -> str | None:
    """Return the entry that stands for what two entries have in common, or None if they have nothing."""
    if one == other:
        return one
    if kind == "hosts":
        return _meet_hosts(one, other)
    if kind == "tasks":
        # a name without an alias stands for the task in any version
        wide, exact = sorted((one, other), key=len)
        return exact if exact.startswith(f"{wide}@") else None
    return None


# --- hosts ---------------------------------------------------------------------------------------------------------


def host_entry(text: str) -> str | None:
    """Return a host as a bound or a reach holds it, or None if the text is no host.

    Lower case, no dot at the end, and no port if it is a standard one.

    Args:
        text: `host`, `host:port`, `host:*` or `[v6]:port`; the host may begin with `*.`.
    """
    found = _HOST.fullmatch(text.strip().lower())
    if found is None or ".." in found["name"]:
        return None
    port = found["port"] or ""
    if port not in ("", "*"):
        if not 0 < int(port) < 65536:
            return None
        port = str(int(port))
    return found["name"].rstrip(".") + ("" if port in ("", *STANDARD_PORTS) else f":{port}")


def _meet_hosts(one: str, other: str) -> str | None:
    (name, port), (other_name, other_port) = _split_port(one), _split_port(other)
    common = _meet_names(name, other_name)
    if common is None or (port != other_port and "*" not in (port, other_port)):
        return None
    port = other_port if port == "*" else port
    return f"{common}:{port}" if port else common


def _split_port(entry: str) -> tuple[str, str]:
    """Return (name, port); the port is empty for the standard ones."""
    if entry.endswith("]"):
        return entry, ""
    name, _, port = entry.rpartition(":")
    return (name, port) if name else (entry, "")


def _meet_names(one: str, other: str) -> str | None:
    if one == other:
        return one
    for wide, exact in ((one, other), (other, one)):
        # `*.a.b` covers `x.a.b` and `*.x.a.b`, and not `a.b` itself
        if wide.startswith("*.") and exact.endswith(wide[1:]) and exact != wide[1:]:
            return exact
    return None
