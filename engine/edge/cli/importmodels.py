"""Tells which models the files of a Julep folder name that no backend of the server has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from engine.core.diagnostics import Diagnostic, Severity, did_you_mean
from engine.core.errors import EngineError
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode

if TYPE_CHECKING:
    from engine.edge.cli.api import Api
    from engine.edge.cli.importchecks import Checked

CODE: Final = "backend.unknown_model"
"""The error that the first run would end with."""
MOST_TOLD: Final = 10


@dataclass(frozen=True, slots=True)
class KnownModels:
    """What may be asked for at a server.

    Attributes:
        names: Names of models and groups.
        takes_any: Whether a backend names no models and takes any.
    """

    names: frozenset[str]
    takes_any: bool

    def has(self, model: str) -> bool:
        """Whether somebody would answer for a model."""
        return self.takes_any or model in self.names


def known_models(api: Api) -> KnownModels | None:
    """Return what may be asked for at a server, or None if it cannot be asked itself."""
    try:
        backends = list(_all_of(api, "/backends"))
        groups = [str(group["name"]) for group in _all_of(api, "/groups")]
    except EngineError:
        return None
    names = {name for item in backends for name in (*item["models"], item["default_model"]) if name}
    return KnownModels(frozenset({*names, *groups}), any(not item["models"] for item in backends))


def _all_of(api: Api, path: str) -> Iterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = api.get(path, cursor=cursor)
        yield from page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return


def with_unknown_models(checked: Sequence[Checked], known: KnownModels) -> list[Checked]:
    """Return checked files with a warning for each model that nobody has."""
    return [replace(item, findings=[*item.findings, *_unknown(item, known)]) for item in checked]


def _unknown(item: Checked, known: KnownModels) -> list[Diagnostic]:
    root = item.file.root
    if not isinstance(root, MapNode) or item.file.kind not in ("task", "agent"):
        return []
    found = _of_steps(root, "") if item.file.kind == "task" else _of_object(root, "")
    return [_warning(node, path, known) for node, path in found if not known.has(str(node.value))]


def _of_steps(node: Node, path: str) -> Iterator[tuple[ScalarNode, str]]:
    """Yield the models that steps name, wherever they stand, each with its place."""
    if isinstance(node, ListNode):
        for number, item in enumerate(node.items):
            yield from _of_steps(item, f"{path}[{number}]")
    elif isinstance(node, MapNode):
        if node.entry("prompt") is not None:
            yield from _of_object(node, path)
            settings = node.get("settings")
            if isinstance(settings, MapNode):
                yield from _of_object(settings, f"{path}.settings")
        for entry in node.entries:
            yield from _of_steps(entry.value, f"{path}.{entry.key}" if path else entry.key)


def _of_object(node: MapNode, path: str) -> Iterator[tuple[ScalarNode, str]]:
    model = node.get("model")
    if isinstance(model, ScalarNode) and isinstance(model.value, str) and _is_literal(model.value):
        yield model, f"{path}.model" if path else "model"


def _is_literal(text: str) -> bool:
    return bool(text) and not text.startswith("$ ") and "{{" not in text and "{%" not in text


def _warning(node: ScalarNode, path: str, known: KnownModels) -> Diagnostic:
    listed = f"it has {', '.join(sorted(known.names)[:MOST_TOLD])}" if known.names else "it has none"
    hint = did_you_mean(str(node.value), known.names) or f"{listed}; add the model to a backend, or name another"
    message = f"no backend of the server has the model '{str(node.value)[:100]}'"
    return Diagnostic(CODE, message, node.position, hint, Severity.WARNING, path)
