"""Says how to answer a wait, with a command that can be copied, and finds the wait that a person names."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from engine.core.errors import Conflict
from engine.core.run.projection import is_listening
from engine.core.spec.vocabulary import DEFAULT_INBOX
from engine.edge.cli.values import segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

_BESIDE_OTHERS: Final = re.compile(r"(?:\d|\.map)\[")
"""Finds in a path a branch or an item beside which others run."""


def answer_hint(execution_id: str, wait: Mapping[str, Any], opened: Collection[Mapping[str, Any]] = ()) -> str:
    """Say how to answer a wait.

    Args:
        execution_id: The execution.
        wait: A wait of the API or the body of a `wait` event.
        opened: All open waits, this one among them; which one is meant is said if there are several, or may be soon.
    """
    if is_listening(info := wait.get("info")):
        sample = _sample(wait.get("schema"))
        words = ["everstep", "message", execution_id]
        words += [sample] if isinstance(sample, str) else ["--input", json.dumps(sample, ensure_ascii=False)]
        words += [] if info["messages"] == DEFAULT_INBOX else ["--name", str(info["messages"])]
        return f"send it a message with, for example: {shlex.join(words)}"
    words = ["everstep", "answer", execution_id]
    if len(opened) > 1 or _BESIDE_OTHERS.search(str(wait.get("path") or "")):
        label = wait.get("label")
        alone = label and sum(1 for other in opened if label in (other.get("label"), _id_of(other))) == 1
        words += ["--wait-id", str(label) if alone else _id_of(wait)]
    words += ["--input", json.dumps(_sample(wait.get("schema")), ensure_ascii=False)]
    return f"answer it with, for example: {shlex.join(words)}"


def wait_called(api: Api, execution_id: str, name: str) -> str:
    """Return the id of the open wait that a person names by its id or label; a name of neither comes back.

    Args:
        api: The connection.
        execution_id: The execution.
        name: What the person wrote.

    Raises:
        Conflict: `answer.ambiguous` if several open waits have that label.
    """
    opened = api.get(f"/executions/{segment(execution_id)}").get("waits") or []
    if any(_id_of(wait) == name for wait in opened):
        return name
    found = [_id_of(wait) for wait in opened if wait.get("label") == name]
    if len(found) > 1:
        raise Conflict(
            f"execution {execution_id} has {len(found)} open waits with the label '{name}'",
            code="answer.ambiguous",
            hint="name one (--wait-id): " + ", ".join(found[:10]),
            details={"wait_ids": found},
        )
    return found[0] if found else name


def _id_of(wait: Mapping[str, Any]) -> str:
    return str(wait.get("wait_id") or wait.get("id") or "")


def _sample(schema: Any) -> Any:
    """Return a small answer that fits; what may be left out is left out of objects."""
    from engine.dryrun.replies import example_of

    if not isinstance(schema, dict):
        return "yes"
    members, needed = schema.get("properties"), schema.get("required")
    if isinstance(members, dict) and isinstance(needed, list) and needed:
        return {name: example_of(members.get(name)) for name in needed}
    return example_of(schema)
