"""Plans as JSON: one canonical text, a content hash, and reading them back. Workflow-safe."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine.core.errors import BugError
from engine.core.plan.ir import STDLIB_KNOWN, STDLIB_VERSION, Plan
from engine.core.plan.policies import Defaults
from engine.core.plan.upgrade import upgrade_plan
from engine.core.values import canonical_json

_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)
_DEFAULTS: TypeAdapter[Defaults] = TypeAdapter(Defaults)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as a JSON object; members that have their default are left out."""
    body: dict[str, Any] = _ADAPTER.dump_python(plan, mode="json", exclude_defaults=True)
    # the discriminators and the format must be there although they are defaults; and so must what the plan says of
    # defaults, since those of a later engine may be others
    defaults = _DEFAULTS.dump_python(plan.defaults, mode="json")
    return {"format": plan.format, "stdlib": plan.stdlib, **_with_marks(plan, body), "defaults": defaults}


def _with_marks(plan: Plan, body: dict[str, Any]) -> dict[str, Any]:
    full: dict[str, Any] = _ADAPTER.dump_python(plan, mode="json")
    _restore_marks(full, body)
    return body


def _restore_marks(full: Any, sparse: Any) -> None:
    if isinstance(full, dict) and isinstance(sparse, dict):
        for mark in ("op", "t"):
            if mark in full and mark not in sparse and isinstance(full[mark], str):
                sparse[mark] = full[mark]
        for key, item in sparse.items():
            if key in full:
                _restore_marks(full[key], item)
    elif isinstance(full, list) and isinstance(sparse, list):
        for one, other in zip(full, sparse, strict=True):
            _restore_marks(one, other)


def plan_from_json(body: dict[str, Any]) -> Plan:
    """Read a plan back, of this format or an older one.

    Raises:
        BugError: `plan.format` if the plan was made by a newer engine, `plan.unreadable` if it is not a plan.
    """
    body = upgrade_plan(body)
    try:
        return _ADAPTER.validate_python(body)
    except ValidationError as error:
        raise BugError(f"the plan cannot be read: {error}", code="plan.unreadable") from error


def check_library(plan: Plan) -> None:
    """Refuse to run a plan whose expressions would give other results here than where it began.

    Raises:
        BugError: `plan.stdlib`.
    """
    if plan.stdlib not in STDLIB_KNOWN:
        raise BugError(
            f"the plan needs version {plan.stdlib} of the expression library, this engine has version {STDLIB_VERSION}",
            code="plan.stdlib",
            hint="run a worker of the version that made the plan",
        )


def plan_hash(plan: Plan) -> str:
    """Return the content hash of a plan: 32 hexadecimal digits, equal for equal plans on every machine."""
    return hash_of_json(plan_to_json(plan))


def hash_of_json(body: dict[str, Any]) -> str:
    """Return the content hash of a plan that is at hand as JSON of the present format."""
    return hashlib.blake2b(canonical_json(body).encode(), digest_size=16).hexdigest()
