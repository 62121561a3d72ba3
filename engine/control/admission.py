"""How starts are let in: what a caller may wish, what the task's rules make of it, how one that waits stands."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.control.definitions import now_us
from engine.control.launching import Launch
from engine.core.contracts.execution import Fork
from engine.core.errors import ExpressionError, InvalidInput
from engine.core.plan.admission import Rules, has_rules, rules_of
from engine.core.plan.codec import plan_from_json
from engine.core.plan.computed import Expr
from engine.core.run.admission import key_of
from engine.core.run.breaks import MOST_BREAKS, unknown_breaks
from engine.core.run.projection import iso_time
from engine.core.values import Json, compact_json
from engine.store.admission import AdmissionStore, Waiting
from engine.store.definitions import TaskFacts
from engine.store.entering import Entry, NewStart
from engine.store.projection import ProjectionStore
from engine.store.start_rows import ADMITTED, Withdrawal
from engine.store.turns import Limits

FIRST, LAST, USUAL = 1, 5, 3
"""Priorities."""
MOST_RULES = 500
"""Tasks whose rules are remembered."""
LONGEST_S = 3650 * 86400.0

_CHARS_OF_LANE = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What a caller wishes of a start.

    Attributes:
        delay_s: Seconds to wait before it begins.
        start_at_us: When it begins, Unix microseconds, in place of `delay_s`.
        deadline_s: Seconds that it has from when it is let in; then it fails.
        deadline_us: When it is out of time, however long it waited, in place of `deadline_s`.
        priority: 1 (first) to 5 (last); None = that of the task, or 3.
        breaks: Paths of steps before which it pauses.
    """

    delay_s: float | None = None
    start_at_us: int | None = None
    deadline_s: float | None = None
    deadline_us: int | None = None
    priority: int | None = None
    breaks: tuple[str, ...] = ()

    def checked(self, at_us: int) -> StartOptions:
        """Return them with the time of the beginning in place of a delay.

        Args:
            at_us: The time now, Unix microseconds.

        Raises:
            InvalidInput: `start.bad_option` if two of them contradict each other, or one is out of range.
        """
        if self.delay_s is not None and self.start_at_us is not None:
            raise _bad("a start has either a delay or a time at which it begins", "leave one of them out")
        if self.deadline_s is not None and self.deadline_us is not None:
            raise _bad("a deadline is either a time or a duration", "leave one of them out")
        for name, seconds in (("delay", self.delay_s), ("deadline", self.deadline_s)):
            if seconds is not None and not 0 <= seconds <= LONGEST_S:
                raise _bad(f"the {name} is {seconds:g} seconds", "write 0 or more, and at most ten years")
        if self.priority is not None and not FIRST <= self.priority <= LAST:
            raise _bad(f"the priority is {self.priority}", f"write {FIRST} (first) to {LAST} (last)")
        start_at_us = self.start_at_us if self.delay_s is None else at_us + round(self.delay_s * 1e6)
        begins_us = max(at_us, start_at_us or 0)
        if self.deadline_us is not None and self.deadline_us <= begins_us:
            began = "now" if begins_us == at_us else iso_time(begins_us)
            hint = f"it begins {began}; write a later time"
            raise _bad(f"the deadline {iso_time(self.deadline_us)} has passed when it begins", hint)
        return replace(self, delay_s=None, start_at_us=start_at_us)

    def check_breaks(self, plan: Mapping[str, Any]) -> None:
        """Look whether the steps are there before which it is to pause.

        Raises:
            InvalidInput: `break.unknown_step`, `break.too_many`.
        """
        if len(self.breaks) > MOST_BREAKS:
            raise InvalidInput(f"{len(self.breaks)} breaks are too many: at most {MOST_BREAKS}", code="break.too_many")
        unknown = unknown_breaks(plan_from_json(dict(plan)), list(self.breaks)) if self.breaks else []
        if unknown:
            raise InvalidInput(
                f"the task has no step {', '.join(unknown[:10])} to pause before",
                code="break.unknown_step",
                hint="`everstep tasks show TASK` prints the paths of the steps, such as main.2",
                details={"paths": unknown[:100]},
            )

    def deadline_from(self, begins_us: int) -> int | None:
        """Return when an execution is out of time that begins then."""
        return self.deadline_us if self.deadline_s is None else begins_us + round(self.deadline_s * 1e6)


def _bad(message: str, hint: str) -> InvalidInput:
    return InvalidInput(message, code="start.bad_option", hint=hint)


def fingerprint_of(given: Json, metadata: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Return a hash of what a caller asks for."""
    asked = compact_json([given, dict(metadata), sorted(set(labels))])
    return hashlib.sha256(asked.encode()).hexdigest()


class AdmissionService:
    """Lets starts wait, and says how they stand.

    Args:
        store: The projection.
        limits: The operator's limits.
        on_entered: Called when there is something new to let in.
    """

    def __init__(self, store: ProjectionStore, *, limits: Limits, on_entered: Callable[[], None] | None = None) -> None:
        self.store = AdmissionStore(store)
        self.limits = limits
        self._on_entered = on_entered
        self._rules: OrderedDict[tuple[str, str, int], Rules | None] = OrderedDict()

    def rules_of(self, task: TaskFacts, fork: Fork | None = None) -> Rules | None:
        """Return the rules by which a start of a task is let in; None = there are none.

        A fork is an execution of its own: it joins no other one, and none is dropped or ended for it.
        """
        if not has_rules(task.spec):
            return None
        key = (task.tenant, task.id, task.version)
        if key not in self._rules:
            self._rules[key] = rules_of(task.spec, plan_from_json(task.plan).dialect)
            while len(self._rules) > MOST_RULES:
                self._rules.popitem(last=False)
        rules = self._rules[key]
        if rules is None or fork is None:
            return rules
        return replace(rules, gathering="", gather_key=None, wait_s=0.0, busy="queue" if rules.busy else None)

    def gathers(self, task: TaskFacts) -> bool:
        """Whether the input of a task's executions is a list of gathered ones."""
        rules = self.rules_of(task)
        return rules is not None and rules.gathering == "collect"

    def must_wait(self, rules: Rules | None, options: StartOptions, at_us: int) -> bool:
        """Whether a start cannot be made at once, without a look at what else runs."""
        delayed = options.start_at_us is not None and options.start_at_us > at_us
        return rules is not None or delayed or self.limits.are_set

    async def enter(
        self, what: Launch, task: TaskFacts, options: StartOptions, *, fingerprint: str, keyed: bool
    ) -> tuple[Entry, str]:
        """Take a start that is not made at once.

        Args:
            what: The execution that it would be.
            task: Its task.
            options: When it begins, and until when it must have ended.
            fingerprint: Hash of what the caller asked for.
            keyed: Whether the same request may come again.

        Returns:
            What became of it, and the id of the execution that it led to.

        Raises:
            InvalidInput: `start.key_failed`.
        """
        params = what.params
        rules = self.rules_of(task, params.fork) or Rules()
        given = params.input
        gathered = params.fork is not None and self.gathers(task)
        # the keys of a gathered execution are those of its first start
        keys = _keys_of(rules, what, given[0] if gathered and isinstance(given, list) and given else given)
        due_us = max(params.created_us, options.start_at_us or 0)
        if rules.gathering == "collect":
            what = replace(what, params=replace(params, input=[given]))
        new = NewStart(
            id=params.execution_id,
            tenant=params.tenant,
            task_id=task.id,
            lane=_lane_of(task.id, keys),
            priority=what.priority or USUAL,
            named=what.named,
            params=what.to_json(),
            input=given,
            now_us=params.created_us,
            due_us=due_us,
            deadline_us=options.deadline_us,
            deadline_after_us=None if options.deadline_s is None else round(options.deadline_s * 1e6),
            gathering=rules.gathering,
            gather_key=keys["gather"],
            wait_us=round(rules.wait_s * 1e6),
            at_most_us=None if rules.at_most_s is None else round(rules.at_most_s * 1e6),
            size=rules.size,
            task_limit=rules.limit,
            key_limit=rules.per_key,
            limit_key=keys["limit"],
            busy=rules.busy or "",
            single_key=keys["single"],
            fingerprint=fingerprint,
            keyed=keyed,
        )
        entered = await self.store.enter(new)
        self._wake()
        return entered

    async def withdraw(
        self, execution_id: str, *, tenant: str, kind: str = "cancel", reason: str = "", actor: str = ""
    ) -> bool:
        """End an execution that is not let in yet, or is just being started.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            kind: `cancel` or `terminate`.
            reason: Why.
            actor: Who wants it.

        Returns:
            Whether it is done, or will be as soon as its workflow is there; False if Temporal has it already.
        """
        how = Withdrawal(kind, reason, actor)
        outcome = await self.store.withdraw(execution_id, how, tenant=tenant, now_us=now_us())
        if outcome:
            self._wake()
        return bool(outcome)

    async def queued(self, execution_id: str, *, tenant: str) -> dict[str, Any] | None:
        """Return why an execution waits to be let in, as JSON; None if it does not.

        Returns:
            {reason, message, until, place, waiting, gathered}.
        """
        at_us = now_us()
        found = await self.store.read(execution_id, tenant=tenant, limits=self.limits, now_us=at_us)
        return None if found is None else queued_view(found, at_us)

    def _wake(self) -> None:
        if self._on_entered is not None:
            self._on_entered()


def _keys_of(rules: Rules, what: Launch, given: Json) -> dict[str, str]:
    wanted: dict[str, tuple[Expr | None, str]] = {
        "gather": (rules.gather_key, rules.gathering),
        "single": (rules.single_key, "singleton"),
        "limit": (rules.limit_key, "concurrency"),
    }
    if not any(expression is not None for expression, _ in wanted.values()):
        return dict.fromkeys(wanted, "")
    params = what.params
    plan = plan_from_json(params.plan)
    try:
        return {
            name: ""
            if expression is None
            else key_of(expression, plan, given, rule=rule, task_id=params.task_id, now_us=params.created_us)
            for name, (expression, rule) in wanted.items()
        }
    except ExpressionError as error:
        raise InvalidInput(
            f"the task {what.task_name!r} cannot be started with this input: {error.message}",
            code="start.key_failed",
            hint="change the key in `dispatch.admission`, or give what it asks for",
        ) from error


def _lane_of(task_id: str, keys: Mapping[str, str]) -> str:
    text = "\0".join((keys["limit"], keys["single"]))
    return task_id if text == "\0" else f"{task_id}/{hashlib.sha256(text.encode()).hexdigest()[:_CHARS_OF_LANE]}"


# --- words ---------------------------------------------------------------------------------------------------------

_BLOCKED: Mapping[str, str] = {
    "singleton": "another execution of the task with the same key runs",
    "key": "{running} of {limit} executions of the task with the same key run",
    "task": "{running} of {limit} executions of the task run",
    "tenant": "{running} of {limit} executions of the tenant run",
    "installation": "{running} of {limit} executions of the installation run",
}


def queued_view(found: Waiting, at_us: int) -> dict[str, Any]:
    """Return how a start stands, as JSON."""
    reason, message = _why(found, at_us)
    waits = found.due_us > at_us
    return {
        "reason": reason,
        "message": message,
        "until": iso_time(found.due_us) if waits else None,
        "place": None if waits or found.state == ADMITTED else found.place,
        "waiting": None if waits or found.state == ADMITTED else found.waiting,
        "gathered": found.gathered if found.gathering else None,
    }


def _why(found: Waiting, at_us: int) -> tuple[str, str]:
    if found.state == ADMITTED:
        return "starting", "it is let in and being started"
    if found.due_us > at_us:
        until = iso_time(found.due_us)
        if found.gathering == "debounce":
            return "debounce", f"waits until {until} whether another start comes; {found.gathered} came so far"
        if found.gathering == "collect":
            return "collect", f"gathers starts until {until}; {found.gathered} of {found.size} came so far"
        return "delayed", f"begins at {until}"
    place = f"place {found.place} of {found.waiting}"
    if not found.blocked:
        return "turn", f"{place}: it is let in next"
    told = _BLOCKED[found.blocked].format(running=found.running, limit=found.limit)
    return found.blocked, f"{place}: {told}"
