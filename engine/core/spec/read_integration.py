"""Reads `integration` of a tool: which provider it speaks to, with which settings. Workflow-safe."""

from __future__ import annotations

from typing import Any, Final

from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.nodes import MapNode

KEYS: Final = ("provider", "method", "setup", "arguments")
_WRITE: Final = "write `integration: {provider: wikipedia}`"


def read_integration(fields: Fields) -> dict[str, Any]:
    """Take `integration` of a tool.

    Args:
        fields: Members of the tool.

    Returns:
        {provider, setup, arguments}: `arguments` hold unless a call gives others; {} if it could not be read.
    """
    node = fields.need("integration", hint=_WRITE)
    if not isinstance(node, MapNode):
        if node is not None:
            fields.wrong_type("integration", node, "an object", _WRITE)
        return {}
    inner = Fields(node, fields.findings, fields.at("integration"), "integration")
    provider = inner.text("provider")
    # each provider that is here does one thing only
    inner.text("method")
    setup, arguments = inner.json_object("setup") or {}, inner.json_object("arguments") or {}
    inner.refuse_left(KEYS)
    if provider is None:
        if node.entry("provider") is None:
            inner.error(codes.MISSING_KEY, "integration has no 'provider'", node.position, hint=_WRITE)
        return {}
    if provider.text not in vocabulary.PROVIDERS:
        known = f"there are {', '.join(vocabulary.PROVIDERS)}; call other services with `api_call`"
        near = suggest(inner.findings, provider.text, vocabulary.PROVIDERS)
        message = f"the provider '{provider.text[:60]}' is not available in this version"
        inner.error(codes.LATER, message, provider.position, key="provider", hint=f"{near} {known}".strip())
        return {}
    return {"provider": provider.text, "setup": setup, "arguments": arguments}
