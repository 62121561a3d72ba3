"""Decides when a run continues as new, and holds calls back until it can. Workflow-safe."""

from __future__ import annotations

from datetime import timedelta

from engine.core.run.machine import Machine
from temporalio import workflow

from workflows.driver import TemporalEffects

YOUNGEST_RUN_S = 1.0
"""A run that continues as new within its first second can end with a history that does not replay."""
EARLY_EVENTS = 1_000
"""From here on a run continues as new when it can do so at once; a lost worker then costs a short replay."""
EARLY_GROWTH = 4
"""How many times larger than its input a history must be for that, so that a large state is not copied all the time."""
HOLD_S = 2.0
"""How long calls may be held back for running ones before the continue-as-new is put off."""
LONG_CALL_S = 5.0
"""A call that runs this long already will not end soon: others are not held back for it."""
MOST_EVENTS = 40_000
"""Beyond this the run stops starting calls until it can continue as new; Temporal's own end is at 51,200."""
SETTLE_TIMER = "settle:"
HOLD_TIMER = "hold:"


class Renewal:
    """When one run continues as new.

    Args:
        wanted_events: Length of the history at which it does; None = by its own rules and Temporal's suggestion.
        input_bytes: Size of the run's input.
    """

    def __init__(self, wanted_events: int | None, input_bytes: int) -> None:
        self._wanted_events = wanted_events
        self._input_bytes = input_bytes
        self._next_events = 0
        self._hold_until_us: int | None = None

    def is_time(self, machine: Machine, effects: TemporalEffects, *, answered: bool) -> bool:
        """Say whether the run is to continue as new now; called whenever it would wait.

        Args:
            machine: The interpreter; its calls are held back, or let go again.
            effects: Its outside world.
            answered: Whether answers came with the present workflow task.
        """
        info = workflow.info()
        events = info.get_current_history_length()
        young = workflow.now() < info.start_time + timedelta(seconds=YOUNGEST_RUN_S)
        if young or not self._is_due(info, events, machine):
            return False
        if answered:
            # signals run ahead of the rest of their workflow task: a cancel may stand behind them, and would be lost
            effects.start_timer(SETTLE_TIMER, effects.now_us(), "time to continue as new")
            return False
        if machine.calls_under_way == 0:
            return True
        self._hold(machine, effects, info, events)
        return False

    def _is_due(self, info: workflow.Info, events: int, machine: Machine) -> bool:
        if self._is_wanted(info, events) or machine.draining:
            return True
        # with one call under way at most, nothing has to wait for another one's end
        early = self._wanted_events is None and events >= EARLY_EVENTS and machine.calls_under_way <= 1
        return early and info.get_current_history_size() >= EARLY_GROWTH * self._input_bytes

    def _is_wanted(self, info: workflow.Info, events: int) -> bool:
        if self._wanted_events is not None:
            return events >= self._wanted_events
        return info.is_continue_as_new_suggested()

    def _hold(self, machine: Machine, effects: TemporalEffects, info: workflow.Info, events: int) -> None:
        """Hold new calls back, so that the running ones end; once there are any, not for long, or not at all."""
        must = events >= MOST_EVENTS
        if not machine.draining:
            patient = machine.calls_under_way == 1 or effects.oldest_call_s() < LONG_CALL_S
            if must or (patient and events >= self._next_events):
                machine.begin_drain()
        elif must or not machine.holds_calls:
            return
        elif not self._is_wanted(info, events):
            self._put_off(machine, events)
        elif self._hold_until_us is None:
            self._hold_until_us = effects.now_us() + round(HOLD_S * 1e6)
            effects.start_timer(HOLD_TIMER, self._hold_until_us, "time to continue as new")
        elif effects.now_us() >= self._hold_until_us:
            self._put_off(machine, events)

    def _put_off(self, machine: Machine, events: int) -> None:
        self._hold_until_us = None
        self._next_events = events + max(events // 2, 100)
        machine.end_drain()
