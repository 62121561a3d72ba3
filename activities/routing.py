"""Picks the backend of a call, passes over those that are out of order, and fails over on errors that pass."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from activities.backends.base import Backend
from activities.candidates import ANYONE, FAILS_OVER, Candidate, Fit, Route, all_failed, named, once, those_that_fit
from engine.core.contracts.lookups import LookupResult
from engine.core.diagnostics import did_you_mean
from engine.core.errors import BackendError
from engine.settings import Group, RoutingPolicy

T = TypeVar("T")

BREAKS_AFTER = 3
"""Failures in a row after which a backend is passed over; one that limits its rate is well, and says when to come."""
BROKEN_S = 10.0
"""How long; then one call tries it, and the others wait for what becomes of that."""
MOST_PAUSE_S = 60.0
"""Longest pause that is taken from what a backend asks for: other workers' calls may have caused it."""
UNSAID_PAUSE_S = 1.0
"""How long one that limits its rate is passed over if it does not say for how long."""
MEASURED_S = 60.0
"""How long a measured speed counts; afterwards a backend is measured again."""
WEIGHT = 0.3
"""Of the newest call in the measured speed."""


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
        down: Why a check of all workers found that it does not answer; empty = it does, or an own call got an answer.
    """

    in_flight: int = 0
    failures: int = 0
    closed_until: float = 0.0
    why: str = ""
    probing: bool = False
    pace_s: float | None = None
    measured_at: float = 0.0
    down: str = ""


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

    # --- what others tell --------------------------------------------------------------------------------------------

    def take_over(self, before: Router) -> None:
        """Know of backends that are still the same objects what another router knows; both go on together."""
        same = {id(backend) for backend in before._backends}
        for backend in self._backends:
            if id(backend) in same:
                self._health[backend.name] = before._health[backend.name]
        self._turn = before._turn

    def tell(self, down: Mapping[str, str]) -> None:
        """Pass over backends that do not answer, as long as others can.

        Args:
            down: By name, why; all others are well again as far as this goes.
        """
        for name, health in self._health.items():
            health.down = down.get(name, "")

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
            return once(found for member in self._groups[asked].models for found in self._members(member, asked))
        if not asked:
            return [Candidate(self._backends[0], "")]
        found = self._that_have(asked)
        if not found:
            raise self._unknown(asked, f"no backend has the model '{asked[:200]}'")
        return found

    def of_each(self, asked: Sequence[str], fit: Fit, route: Route | None = None) -> list[tuple[str, list[Candidate]]]:
        """Return the candidates of each name; of several names those that nobody has are passed over.

        Args:
            asked: Names of models and groups; an empty one = the default.
            fit: What the call asks of whoever answers it.
            route: Where names that nobody has are told.

        Raises:
            BackendError: As `candidates`, if nobody has any of them.
        """
        if len(asked) == 1:
            found = self.candidates(asked[0])
            if fit.searches and not asked[0] and fit.lacks(found[0]):
                others = self._others()
                found = others if any(item.backend is found[0].backend for item in others) else [*found, *others]
            return [(asked[0], found)]
        entries: list[tuple[str, list[Candidate]]] = []
        unknown: list[BackendError] = []
        for name in asked:
            try:
                entries.append((name, self.candidates(name)))
            except BackendError as error:
                if error.code != "backend.unknown_model":
                    raise
                unknown.append(error)
                if route is not None:
                    route.passed_over.append({"model": name[:200], "why": "no backend has it"})
        if not entries:
            raise unknown[0]
        return entries

    def _others(self) -> list[Candidate]:
        """Return all models that backends name."""
        names = ((item, name) for item in self._backends for name in (item.config.default_model, *item.config.models))
        return once(Candidate(backend, name) for backend, name in names if name)

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
        asked: str | Sequence[str],
        call: Callable[[Candidate, int], Awaitable[T]],
        choose: Callable[[Sequence[Candidate]], Awaitable[Candidate]] | None = None,
        fit: Fit = ANYONE,
    ) -> tuple[T, Route | None]:
        """Ask the best candidate, and the next one if it fails in a way that passes.

        Args:
            asked: Name of a model or a group, or several in order of preference; empty = the default.
            call: Makes the call; it is given how many were made before.
            choose: Picks of those in order the first that may be asked now; None = the first one may. What it raises
                ends it all.
            fit: What the call asks of whoever answers it.

        Returns:
            What it returned, and how the backend was found; None if there was no choice.

        Raises:
            BackendError: That of the candidate that was asked first, with `details.tried`; it may be tried again when
                the first of those that failed asks for it. `backend.no_candidate` if nobody can answer the call.
        """
        names = (asked,) if isinstance(asked, str) else tuple(dict.fromkeys(asked))
        route = Route(self.policy_of(names[0]) if len(names) == 1 else self._policy)
        entries = self.of_each(names, fit, route)
        candidates = once(item for _, found in entries for item in found)
        fitting = those_that_fit(candidates, fit, route)
        if len(candidates) == len(names) == 1:
            only = candidates[0] if choose is None else await choose(candidates)
            return await self._watched(only, call, 0), None
        failed: list[BackendError] = []
        left = self._in_order([(name, [item for item in found if item in fitting]) for name, found in entries], route)
        left = self._ready_first(left, candidates, fit, route)
        while left:
            best = left[0]
            with contextlib.ExitStack() as trying:
                # from here on: many calls may wait for a turn when it is time to try one again
                trying.enter_context(self._trying(best))
                candidate = best if choose is None else await choose(left)
                if candidate is not best:
                    trying.close()
                left.remove(candidate)
                try:
                    return await self._watched(candidate, call, len(failed)), route
                except BackendError as error:
                    failed.append(error)
                    route.tried.append({**named(candidate, candidates), "code": error.code})
                    if error.code not in FAILS_OVER or not error.retryable:
                        break
        raise all_failed(failed, route)

    def _in_order(self, entries: Sequence[tuple[str, list[Candidate]]], route: Route) -> list[Candidate]:
        """Return the candidates of several names as the policy puts them; `order` leaves each name its place."""
        if route.policy != "order" or len(entries) == 1:
            return self._ranked(once(item for _, found in entries for item in found), route.policy)
        return once(item for name, found in entries for item in self._ranked(found, self.policy_of(name)))

    def _ranked(self, candidates: Sequence[Candidate], policy: str) -> list[Candidate]:
        ranked = sorted(candidates, key=self._rank(policy))
        if policy == "round_robin" and ranked:
            turn, self._turn = self._turn % len(ranked), self._turn + 1
            ranked = ranked[turn:] + ranked[:turn]
        return ranked

    def _ready_first(
        self, ranked: Sequence[Candidate], among: Sequence[Candidate], fit: Fit, route: Route
    ) -> list[Candidate]:
        now = self._clock()
        ready: list[Candidate] = []
        second: list[tuple[Candidate, str]] = []
        rest: list[Candidate] = []
        for item in ranked:
            why, better = self._why_not(item, now), fit.second(item)
            if why:
                rest.append(item)
                route.passed_over.append({**named(item, among), "why": why})
            elif better:
                second.append((item, better))
            else:
                ready.append(item)
        if ready:
            route.passed_over += [{**named(item, among), "why": why} for item, why in second]
        # the last resort: whoever is due first
        rest.sort(key=lambda item: self._of(item).closed_until)
        return [*ready, *(item for item, _ in second), *rest]

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
        return "is being tried" if health.probing else health.down

    def _of(self, item: Candidate) -> Health:
        return self._health[item.backend.name]

    # --- what calls tell ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _trying(self, item: Candidate) -> Iterator[None]:
        """Let nobody else try a backend that was out of order, for the length of the block."""
        health = self._of(item)
        is_probe = health.failures >= BREAKS_AFTER and not health.probing
        health.probing = health.probing or is_probe
        try:
            yield
        finally:
            if is_probe:
                health.probing = False

    async def _watched(self, item: Candidate, call: Callable[[Candidate, int], Awaitable[T]], n: int) -> T:
        health, began = self._of(item), self._clock()
        health.in_flight += 1
        try:
            with self._trying(item):
                result = await call(item, n)
        except BackendError as error:
            self._note_failure(health, error)
            raise
        finally:
            health.in_flight -= 1
        health.failures, health.closed_until, health.down = 0, 0.0, ""
        self._note_pace(health, self._clock() - began, result)
        return result

    def _note_failure(self, health: Health, error: BackendError) -> None:
        if error.code not in FAILS_OVER:
            return
        now = self._clock()
        wait_s = error.details.get("retry_after_s")
        if error.code == "backend.rate_limited":
            health.closed_until = now + min(UNSAID_PAUSE_S if wait_s is None else float(wait_s), MOST_PAUSE_S)
            health.why = "limits its rate"
            return
        health.failures += 1
        if health.failures >= BREAKS_AFTER:
            health.closed_until = now + BROKEN_S
            health.why = f"failed {health.failures} times in a row"

    def _note_pace(self, health: Health, took_s: float, result: object) -> None:
        if isinstance(result, LookupResult):
            return  # vectors say nothing of how fast a backend writes
        usage = getattr(result, "usage", None)
        pace_s = took_s / max(1, getattr(usage, "completion_tokens", 0))
        known = health.pace_s
        health.pace_s = pace_s if known is None else WEIGHT * pace_s + (1 - WEIGHT) * known
        health.measured_at = self._clock()


def _price(item: Candidate) -> float:
    price = item.backend.config.price_of(item.model or item.backend.config.default_model)
    return float("inf") if price is None else float(price.input + price.output)
