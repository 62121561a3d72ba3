"""Stage: events from outside — given to the wait that matches, or kept until one does. Workflow-safe."""

from __future__ import annotations

from engine.core.contracts.execution import EventSignal
from engine.core.kinds import EventType
from engine.core.run.answers import fitting_problems, open_waits
from engine.core.run.frames import WaitFrame
from engine.core.run.state import Branch, KeptEvent
from engine.core.run.waits import resume
from engine.core.run.walker import Walker
from engine.core.values import Json

MOST_KEPT = 1_000
MOST_REMEMBERED = 1_000


def take_event(walker: Walker, signal: EventSignal) -> None:
    """Take an event: the oldest wait that it fits goes on with it, or it is kept for one that comes."""
    state = walker.state
    if signal.id in state.events_taken:
        return
    state.events_taken = [*state.events_taken, signal.id][-MOST_REMEMBERED:]
    event = KeptEvent(signal.id, signal.name, signal.key, signal.value, signal.actor)
    problems: list[str] = []
    for branch, frame in open_waits(walker, events=True):
        if _matches(frame, event):
            problems = fitting_problems(event.value, frame.schema)
            if not problems:
                _tell(walker, event, frame.wait_id, [])
                _give(walker, branch, frame, event)
                return
    state.inbox = [*state.inbox, event][-MOST_KEPT:]
    _tell(walker, event, "", problems)


def look_into_inbox(walker: Walker, branch: Branch, frame: WaitFrame) -> None:
    """Let a wait that has just opened go on with an event that came before it."""
    for event in walker.state.inbox:
        if _matches(frame, event) and not fitting_problems(event.value, frame.schema):
            walker.state.inbox = [item for item in walker.state.inbox if item is not event]
            _give(walker, branch, frame, event)
            return


def _matches(frame: WaitFrame, event: KeptEvent) -> bool:
    return frame.event == event.name and frame.key == event.key


def _give(walker: Walker, branch: Branch, frame: WaitFrame, event: KeptEvent) -> None:
    how: dict[str, Json] = {"wait_id": frame.wait_id, "key": event.id, "actor": event.actor, "event": event.name}
    resume(walker, branch, frame, event.value, how)


def _tell(walker: Walker, event: KeptEvent, wait_id: str, problems: list[str]) -> None:
    body: dict[str, Json] = {"id": event.id, "name": event.name, "key": event.key, "actor": event.actor}
    if wait_id:
        body["wait_id"] = wait_id
    else:
        body["value"] = event.value
    if problems:
        # it is kept all the same: another wait may take it
        body["problems"] = list(problems)
    walker.emit(EventType.EVENT_RECEIVED, body)
