"""Picks the backend of a call, passes over those that are out of order, and fails over on errors that pass."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from activities.backends.base import Backend
from engine.core.diagnostics import did_you_mean
from engine.core.errors import BackendError
from engine.settings import Group, RoutingPolicy

T = TypeVar("T")

FAILS_OVER = frozenset({"backend.rate_limited", "backend.overloaded", "backend.unreachable", "backend.cut_off"})
"""Errors after which another backend may be asked: no whole reply arrived, and this one may be well again later."""

BREAKS_AFTER = 3
"""Failures in a row after which a backend is passed over; one that limits its rate is well, and says when to come."""
BROKEN_S = 10.0
"""How long; then one call tries it, and the others wait for what becomes of that."""
MOST_PAUSE_S = 60.0
"""Longest pause that is taken from what a backend asks for: other workers' calls may have caused it."""
MEASURED_S = 60.0
"""How long a measured speed counts; afterwards a backend is measured again."""
WEIGHT = 0.3
"""Of the newest call in the measured speed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend that can answer a call, and the model that it is asked for; empty = its default."""

    backend: Backend
    model: str


@dataclass(slots=True)
class Route:
    """How a call found its backend.

    Attributes:
        policy: What put the candidates in order.
        passed_over: {backend, why} of those that were not asked at first.
        tried: {backend, code} of those that failed before one answered, or all did.
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


@dataclass(slots=True)
class Health:
    """What a worker has seen of a backend.

    Attributes:
        in_flight: Calls that it is asked now.
        failures: How many in a row failed.
        closed_until: Time before which it is passed over, if others can answer.
        why: Why.
        probing: Whether a call tries if it is well again.
        pace_s: Seconds for a token of a reply, a moving average; None = not measured.
        measured_at: When it was measured last.
    """

    in_flight: int = 0
    failures: int = 0
    closed_until: float = 0.0
    why: str = ""
    probing: bool = False
    pace_s: float | None = None
    measured_at: float = 0.0


class Router:
    """Routes the calls of one worker.

    What it knows of backends is what this worker's own calls have seen. With one candidate it asks that one, whatever
    it knows.

    Args:
        backends: In the operator's order.
        policy: What puts the candidates of a model in order.
        groups: By name: models and backends under one name.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        policy: RoutingPolicy = "order",
        groups: Mapping[str, Group] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backends = tuple(backends)
        self._policy: RoutingPolicy = policy
        self._groups = dict(groups or {})
        self._clock = clock
        self._health = {backend.name: Health() for backend in backends}
        self._turn = 0

    # --- who can answer ----------------------------------------------------------------------------------------------

    def candidates(self, asked: str) -> list[Candidate]:
        """Return who can answer, in the operator's order.

        That is the members of a group, else all backends that name the model, else the first that takes any; for an
        empty name the first of all.

        Raises:
            BackendError: `backend.none_configured`, or `backend.unknown_model` with the known names.
        """
        if not self._backends:
            raise BackendError(
                "no LLM backend is configured",
                code="backend.none_configured",
                hint='add [backends.NAME] base_url = "http://…/v1" to everstep.toml, or set OPENAI_API_KEY or '
                "OPENAI_BASE_URL, or use `everstep dev`, which brings the bundled model",
            )
        if asked in self._groups:
            members = [found for member in self._groups[asked].models for found in self._members(member, asked)]
            # one that two members name is one candidate
            return list({(item.backend.name, item.model): item for item in members}.values())
        if not asked:
            return [Candidate(self._backends[0], "")]
        found = self._that_have(asked)
        if not found:
            raise self._unknown(asked, f"no backend has the model '{asked}'")
        return found

    def policy_of(self, asked: str) -> RoutingPolicy:
        """Return what puts the candidates of a name in order."""
        group = self._groups.get(asked)
        return self._policy if group is None or group.policy is None else group.policy

    def _members(self, member: str, group: str) -> list[Candidate]:
        name, slash, model = member.partition("/")
        for backend in self._backends:
            if slash and backend.name == name:
                return [Candidate(backend, model)]
        found = self._that_have(member)
        if not found:
            raise self._unknown(member, f"no backend has '{member}', which the group '{group}' names")
        return found

    def _that_have(self, model: str) -> list[Candidate]:
        named = [item for item in self._backends if model in item.config.models or model == item.config.default_model]
        if not named:
            named = [item for item in self._backends if not item.config.models][:1]
        return [Candidate(backend, model) for backend in named]

    def _unknown(self, model: str, text: str) -> BackendError:
        known = sorted({*self._groups, *(name for item in self._backends for name in item.config.models)})
        hint = " ".join(part for part in (did_you_mean(model, known), f"known models: {', '.join(known)}") if part)
        return BackendError(text, code="backend.unknown_model", hint=hint)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        asked: str,
        call: Callable[[Candidate, int], Awaitable[T]],
        choose: Callable[[Sequence[Candidate]], Awaitable[Candidate]] | None = None,
    ) -> tuple[T, Route | None]:
        """Ask the best candidate, and the next one if it fails in a way that passes.

        Args:
            asked: Name of a model or a group; empty = the default.
            call: Makes the call; it is given how many were made before.
            choose: Picks of those in order the first that may be asked now; None = the first one may. What it raises
                ends it all.

        Returns:
            What it returned, and how the backend was found; None if there was no choice.

        Raises:
            BackendError: That of the candidate that was asked first, with `details.tried`; it may be tried again when
                the first of those that failed asks for it.
        """
        candidates = self.candidates(asked)
        if len(candidates) == 1:
            only = candidates[0] if choose is None else await choose(candidates)
            return await self._watched(only, call, 0), None
        route = Route(self.policy_of(asked))
        failed: list[BackendError] = []
        left = self._in_order(candidates, route)
        while left:
            candidate = left[0] if choose is None else await choose(left)
            left.remove(candidate)
            try:
                return await self._watched(candidate, call, len(failed)), route
            except BackendError as error:
                failed.append(error)
                route.tried.append({"backend": candidate.backend.name, "code": error.code})
                if error.code not in FAILS_OVER or not error.retryable:
                    break
        raise _all_failed(failed, route)

    def _in_order(self, candidates: Sequence[Candidate], route: Route) -> list[Candidate]:
        now = self._clock()
        ranked = sorted(candidates, key=self._rank(route.policy))
        if route.policy == "round_robin":
            turn, self._turn = self._turn % len(ranked), self._turn + 1
            ranked = ranked[turn:] + ranked[:turn]
        ready = [item for item in ranked if not self._why_not(item, now)]
        for item in ranked:
            why = self._why_not(item, now)
            if why:
                route.passed_over.append({"backend": item.backend.name, "why": why})
        # the last resort: whoever is due first
        rest = sorted((item for item in ranked if item not in ready), key=lambda item: self._of(item).closed_until)
        return ready + rest

    def _rank(self, policy: str) -> Callable[[Candidate], float]:
        now = self._clock()
        match policy:
            case "least_loaded":
                return lambda item: self._of(item).in_flight / item.backend.config.max_connections
            case "cheapest":
                return _price
            case "fastest":
                return lambda item: self._pace(item, now)
            case _:
                return lambda _: 0.0

    def _pace(self, item: Candidate, now: float) -> float:
        health = self._of(item)
        is_old = now - health.measured_at > MEASURED_S
        # what is not known is measured; the others go where they are served best meanwhile
        return -1.0 if (health.pace_s is None or is_old) and not health.in_flight else health.pace_s or 0.0

    def _why_not(self, item: Candidate, now: float) -> str:
        health = self._of(item)
        if health.closed_until > now:
            return health.why
        return "is being tried" if health.probing else ""

    def _of(self, item: Candidate) -> Health:
        return self._health[item.backend.name]

    # --- what calls tell ---------------------------------------------------------------------------------------------

    async def _watched(self, item: Candidate, call: Callable[[Candidate, int], Awaitable[T]], n: int) -> T:
        health, began = self._of(item), self._clock()
        is_probe = health.failures >= BREAKS_AFTER and not health.probing
        health.probing = health.probing or is_probe
        health.in_flight += 1
        try:
            result = await call(item, n)
        except BackendError as error:
            self._note_failure(health, error)
            raise
        finally:
            health.in_flight -= 1
            if is_probe:
                health.probing = False
        health.failures, health.closed_until = 0, 0.0
        self._note_pace(health, self._clock() - began, result)
        return result

    def _note_failure(self, health: Health, error: BackendError) -> None:
        if error.code not in FAILS_OVER:
            return
        now = self._clock()
        wait_s = error.details.get("retry_after_s")
        if error.code == "backend.rate_limited":
            health.closed_until = now + min(float(wait_s or 0.0), MOST_PAUSE_S)
            health.why = "limits its rate"
            return
        health.failures += 1
        if health.failures >= BREAKS_AFTER:
            health.closed_until = now + BROKEN_S
            health.why = f"failed {health.failures} times in a row"

    def _note_pace(self, health: Health, took_s: float, result: object) -> None:
        usage = getattr(result, "usage", None)
        pace_s = took_s / max(1, getattr(usage, "completion_tokens", 0))
        known = health.pace_s
        health.pace_s = pace_s if known is None else WEIGHT * pace_s + (1 - WEIGHT) * known
        health.measured_at = self._clock()


def _price(item: Candidate) -> float:
    price = item.backend.config.price_of(item.model or item.backend.config.default_model)
    return float("inf") if price is None else float(price.input + price.output)


def _all_failed(failed: Sequence[BackendError], route: Route) -> BackendError:
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
