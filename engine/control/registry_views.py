"""How backends, groups, models and fetches are shown; a key is never among it, only the name of where it is kept."""

from __future__ import annotations

from typing import Any

from engine.control.models import ModelSight
from engine.control.registry import DeclaredBackend, DeclaredGroup
from engine.core.run.projection import iso_time
from engine.store.backend_states import BackendState
from engine.store.pulls import PullFacts
from engine.store.registry import EntryFacts

_ADDRESSES = ("base_url", "api_key_env", "api_key_secret", "limits", "max_connections")
"""What concerns nobody but the operator."""


def backend_view(item: DeclaredBackend, state: BackendState | None, *, whole: bool) -> dict[str, Any]:
    """Return a backend as JSON.

    Args:
        item: The backend.
        state: What the last check found.
        whole: Whether for the operator; others see what it is called and what it can do.
    """
    config = item.config
    view: dict[str, Any] = {
        "name": item.name,
        "source": item.source,
        "kind": config.kind,
        "api": config.api,
        "models": list(config.models),
        "default_model": config.default_model or None,
        "prices": {name: _price(price) for name, price in config.prices.items()},
        "capabilities": {
            name: known.model_dump(mode="json", exclude_none=True) for name, known in config.capabilities.items()
        },
        "pull": config.pull,
        "warm_first": config.warm_first,
        "base_url": config.base_url,
        "api_key_env": config.api_key_env or None,
        "api_key_secret": config.api_key_secret or None,
        "max_connections": config.max_connections,
        "limits": None if config.limits is None else config.limits.model_dump(mode="json", exclude_none=True),
        "state": state_view(state, whole=whole),
        **_record(item.facts, whole=whole),
    }
    return view if whole else view | dict.fromkeys(_ADDRESSES)


def _price(price: Any) -> dict[str, str]:
    return {name: f"{value.normalize():f}" for name, value in price.model_dump(exclude_none=True).items()}


def _record(facts: EntryFacts | None, *, whole: bool) -> dict[str, Any]:
    if facts is None:
        return {"rev": None, "created_at": None, "updated_at": None, "actor": None}
    return {
        "rev": facts.rev,
        "created_at": iso_time(facts.created_us),
        "updated_at": iso_time(facts.updated_us),
        "actor": facts.actor if whole else None,
    }


def state_view(state: BackendState | None, *, whole: bool) -> dict[str, Any] | None:
    """Return what the last check of a backend found as JSON; None if there was none."""
    if state is None:
        return None
    error = None
    if state.error_us is not None:
        message = state.error_message if whole else None
        error = {"code": state.error_code, "message": message, "at": iso_time(state.error_us)}
    return {
        "health": state.state,
        "breaker": "open" if state.state == "down" else "closed",
        "since": iso_time(state.since_us),
        "checked_at": iso_time(state.checked_us),
        "latency_ms": None if state.latency_us is None else round(state.latency_us / 1_000, 1),
        "failures": state.failures,
        "missing": list(state.missing),
        "last_error": error,
    }


def group_view(item: DeclaredGroup, *, whole: bool) -> dict[str, Any]:
    """Return a group as JSON."""
    return {
        "name": item.name,
        "source": item.source,
        "models": list(item.group.models),
        "policy": item.group.policy,
        **_record(item.facts, whole=whole),
    }


def model_view(sight: ModelSight) -> dict[str, Any]:
    """Return a model of a backend as JSON."""
    found = sight.found
    told = {} if found is None else {key: value for key, value in found.body.items() if key != "capabilities"}
    return {
        "backend": sight.backend.name,
        "model": sight.model,
        "declared": sight.declared,
        "found": found is not None,
        "capabilities": sight.capabilities.model_dump(mode="json", exclude_none=True),
        "price": None if sight.price is None else _price(sight.price),
        "details": told,
        "found_at": None if found is None else iso_time(found.seen_us),
    }


def pull_view(facts: PullFacts) -> dict[str, Any]:
    """Return a fetch as JSON."""
    failed = facts.error_code
    return {
        "id": facts.id,
        "backend": facts.backend,
        "model": facts.model,
        "state": facts.state,
        "status": facts.status or None,
        "done_bytes": facts.done_bytes,
        "total_bytes": facts.total_bytes or None,
        "attempts": facts.attempts,
        "error": {"code": failed, "message": facts.error_message} if failed else None,
        "reason": facts.reason,
        "actor": facts.actor,
        "created_at": iso_time(facts.created_us),
        "started_at": None if facts.started_us is None else iso_time(facts.started_us),
        "updated_at": iso_time(facts.updated_us),
        "ended_at": None if facts.ended_us is None else iso_time(facts.ended_us),
    }
