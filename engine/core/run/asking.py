"""Stage: whom a step asks — models and groups in order of preference, their settings, what they need. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from engine.core.contracts.activities import Wants
from engine.core.errors import InputRejected
from engine.core.lang.failures import type_name
from engine.core.plan.grant import Grant
from engine.core.plan.ir import Plan
from engine.core.plan.needs import NO_NEEDS
from engine.core.plan.ops import AgentOp, PromptOp
from engine.core.plan.reach import model_names
from engine.core.run.authority import check_model, model_bound
from engine.core.values import Json

MOST_MODELS: Final = 50
"""How many a computed list may name, as in one that is written out."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom a call asks, as far as the interpreter knows it.

    Attributes:
        model: Name of a model or a group; empty = the operator's default.
        settings: Sampling settings, without the model.
        wants: Who else may answer, and what they must be able to do; None = nothing is said of it.
        bound: What of the plan's bound the activity compares.
    """

    model: str
    settings: dict[str, Any]
    wants: Wants | None = None
    bound: Grant | None = None

    def to_json(self) -> dict[str, Json]:
        """Return what events tell of it: {model, settings, models?, needs?, tool_mode?}."""
        told: dict[str, Json] = {"model": self.model, "settings": self.settings}
        if self.wants is None:
            return told
        if self.wants.models:
            told["models"] = [self.model, *self.wants.models]
        if self.wants.needs is not None:
            told["needs"] = self.wants.needs.to_json()
        if self.wants.tool_mode != "auto":
            told["tool_mode"] = self.wants.tool_mode
        return told


def whom_to_ask(plan: Plan, op: PromptOp | AgentOp, own: Json, path: str) -> Asked:
    """Return whom a step asks: those that it names, else those of the agent.

    Args:
        plan: The plan.
        op: The step.
        own: Its settings as computed; a model that is computed stands in them.
        path: Path of the step, for errors.

    Raises:
        InputRejected: The settings are no object, or a computed model is no name and no list of names.
        AuthorityError: `authority.denied` if the plan may not ask one of the models.
    """
    if not isinstance(own, dict):
        raise InputRejected(f"the settings of {path} are not an object")
    settings: dict[str, Any] = {**plan.agent.settings, **own}
    computed = settings.pop("model", None)
    written = (op.model, *op.models) if op.model else ()
    names = written or _computed_names(computed, path) or model_names(plan.agent.model)
    for name in names:
        check_model(plan, name)
    model = names[0] if names else ""
    needs = None if op.needs == NO_NEEDS else op.needs
    wants = Wants(models=list(names[1:]), needs=needs, tool_mode=op.tool_mode)
    return Asked(model, settings, None if wants == Wants() else wants, model_bound(plan, model))


def _computed_names(value: Json, path: str) -> tuple[str, ...]:
    wrong = next((item for item in value if not isinstance(item, str)), None) if isinstance(value, list) else None
    if isinstance(value, dict) or wrong is not None:
        told = type_name(value) if isinstance(value, dict) else f"a list with {type_name(wrong)}"
        raise InputRejected(
            f"the model of {path} is {told}", hint="give the name of a model or a group, or a list of names"
        )
    names = model_names(value)
    if len(names) > MOST_MODELS:
        # each that nobody has is told in the history
        raise InputRejected(f"the model of {path} is a list of {len(names)}", hint=f"name at most {MOST_MODELS} models")
    return names
