"""Tools of a task that are integrations: which of those that the operator switched on they use. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from engine.core.diagnostics import Findings
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.core.spec import codes
from engine.core.spec.model import ToolSpec

DUMMY: Final = "dummy"
"""The provider that gives back what it is told, and that nobody has to switch on."""


def provider_contract(spec: ToolSpec, contracts: Mapping[str, ToolContract], findings: Findings) -> ToolContract:
    """Return the contract of such a tool.

    Args:
        spec: What the author wrote.
        contracts: The operator's tools by name.
        findings: Where to put what is wrong.
    """
    provider = str(spec.spec.get("provider", ""))
    base = ToolContract(spec.name.text, "provider", parameters={"type": "object"}, effect=ToolEffect.NONE)
    if provider not in ("", DUMMY):
        found = _switched_on(provider, contracts)
        if found is None:
            findings.error(
                codes.UNKNOWN_TOOL,
                f"no integration with the provider '{provider}' is switched on",
                spec.position,
                path=f"{spec.path}.integration.provider",
                hint=f"the operator switches it on in everstep.toml: [tools.integrations.{provider}]",
            )
        base = base if found is None else found
    fixed = spec.spec.get("arguments", {})
    members: dict[str, Any] = {"provider": provider, "arguments": fixed, "setup": spec.spec.get("setup", {})}
    return replace(
        base,
        name=spec.name.text,
        type="provider",
        parameters=_with_defaults(base.parameters, fixed),
        spec={**base.spec, **{name: value for name, value in members.items() if value}},
        description=base.description if spec.description is None else spec.description,
        timeout_s=base.timeout_s if spec.timeout_s is None else spec.timeout_s,
    )


def _switched_on(provider: str, contracts: Mapping[str, ToolContract]) -> ToolContract | None:
    fitting = [
        contract
        for _, contract in sorted(contracts.items())
        if contract.type == "integration" and contract.spec.get("provider") == provider
    ]
    return next((contract for contract in fitting if contract.name == provider), fitting[0] if fitting else None)


def _with_defaults(parameters: Any, fixed: Mapping[str, Any]) -> Any:
    """Return a schema of arguments that need not have those which the tool's definition gives."""
    if not fixed or not isinstance(parameters, dict) or "required" not in parameters:
        return parameters
    return {**parameters, "required": [name for name in parameters["required"] if name not in fixed]}
