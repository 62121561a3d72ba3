"""Who may answer a call, what the call asks of them, and what is told of how one of them was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from activities.backends.base import Backend
from engine.core.errors import BackendError

FAILS_OVER = frozenset({"backend.rate_limited", "backend.overloaded", "backend.unreachable", "backend.cut_off"})
"""Errors after which another backend may be asked: no whole reply arrived, and this one may be well again later."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend that can answer a call, and the model that it is asked for; empty = its default."""

    backend: Backend
    model: str


class Fit:
    """What a call asks of whoever answers it; this one asks for nothing.

    Attributes:
        searches: Whether others than the operator's default model may answer a call that names none.
    """

    searches: bool = False

    def lacks(self, item: Candidate) -> str:
        """Return why a candidate cannot answer; empty = it can."""
        del item
        return ""

    def shortage(self, item: Candidate) -> tuple[int, str]:
        """Return by how many tokens the call is probably too long for a candidate, and that in words; 0 = it fits."""
        del item
        return 0, ""

    def second(self, item: Candidate) -> str:
        """Return why others are rather asked than a candidate; empty = they are not."""
        del item
        return ""


ANYONE = Fit()


@dataclass(slots=True)
class Route:
    """How a call found its backend.

    Attributes:
        policy: What put the candidates in order.
        passed_over: {backend?, model?, why} of those that were not asked at first, or cannot answer.
        tried: {backend, model?, code} of those that failed before one answered, or all did.
    """

    policy: str
    passed_over: list[dict[str, str]] = field(default_factory=list)
    tried: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return {policy, passed_over?, tried?}."""
        body: dict[str, Any] = {"policy": self.policy}
        if self.passed_over:
            body["passed_over"] = self.passed_over
        if self.tried:
            body["tried"] = self.tried
        return body


def once(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates in order; one that two names stand for is one candidate."""
    return list({(item.backend.name, item.model): item for item in candidates}.values())


def named(item: Candidate, among: Sequence[Candidate]) -> dict[str, str]:
    """Return how a candidate is called in a route; its model only where there are several."""
    several = len({other.model for other in among}) > 1
    return {"backend": item.backend.name, **({"model": item.model} if several and item.model else {})}


def those_that_fit(candidates: Sequence[Candidate], fit: Fit, route: Route) -> list[Candidate]:
    """Return those that can answer; of those for which the call is probably too long the largest, if there are none.

    Raises:
        BackendError: `backend.no_candidate`.
    """
    unfit = {id(item): why for item in candidates if (why := fit.lacks(item))}
    able = [item for item in candidates if id(item) not in unfit]
    if not able:
        raise _no_candidate(candidates, unfit)
    short = {id(item): fit.shortage(item) for item in able}
    least = min(tokens for tokens, _ in short.values())
    unfit |= {key: why for key, (tokens, why) in short.items() if tokens > least}
    route.passed_over += [
        {**named(item, candidates), "why": unfit[id(item)]} for item in candidates if id(item) in unfit
    ]
    return [item for item in able if id(item) not in unfit]


def _no_candidate(candidates: Sequence[Candidate], unfit: Mapping[int, str]) -> BackendError:
    told = [
        {"backend": item.backend.name, **({"model": item.model} if item.model else {}), "why": unfit[id(item)]}
        for item in candidates
    ]
    words = "; ".join(
        f"{item['backend']}{'/' + item['model'] if 'model' in item else ''} {item['why']}" for item in told[:10]
    )
    more = f"; and {len(told) - 10} more" if len(told) > 10 else ""
    return BackendError(
        f"no model that the call may ask meets its needs: {words}{more}",
        code="backend.no_candidate",
        hint="name other models in `model` of the step, ask for less in its `needs`, or correct `capabilities` and "
        "`prices` of the backend if they are wrong",
        details={"candidates": told},
    )


def all_failed(failed: Sequence[BackendError], route: Route) -> BackendError:
    """Return what is told if none of those asked has answered, at least one of whom there was."""
    first, last = failed[0], failed[-1]
    told = first if last.code in FAILS_OVER else last
    waits = [error.details["retry_after_s"] for error in failed if "retry_after_s" in error.details]
    details = {key: value for key, value in told.details.items() if key != "retry_after_s"}
    if len(waits) == len(failed):
        # if one of them asks for no pause, it may be asked at once
        details["retry_after_s"] = min(waits)
    others = ", ".join(f"{item['backend']} ({item['code']})" for item in route.tried)
    hint = f"asked were {others}" + (f"; {told.hint}" if told.hint else "")
    return BackendError(
        told.message, code=told.code, hint=hint, retryable=told.retryable, details={**details, "tried": route.tried}
    )
