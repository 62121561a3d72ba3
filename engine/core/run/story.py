"""The story of an execution: its events, as far as they are there, folded into steps and attempts. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from engine.core.kinds import EventType, StepKind
from engine.core.run.approvals import APPROVAL, FUNCTION_CALL
from engine.core.run.events import EventRecord, body_of
from engine.core.run.story_parts import (
    AttemptStory,
    Refusal,
    StepState,
    StepStory,
    Told,
    WaitStory,
    told,
)
from engine.core.run.story_tree import Body, StepTree, around, open_step

_SEEN_AT_WORK: Final = frozenset(
    {
        StepKind.PROMPT.value,
        StepKind.TOOL_CALL.value,
        StepKind.EMBED.value,
        StepKind.SEARCH.value,
        StepKind.TASK.value,
        StepKind.AGENT.value,
        StepKind.WAIT_FOR_INPUT.value,
        StepKind.APPROVE.value,
        StepKind.WAIT_FOR_EVENT.value,
        StepKind.YIELD.value,
        StepKind.PARALLEL.value,
        StepKind.RACE.value,
    }
)
"""Kinds that always have a call, a wait or a body; of others no event tells whether they were skipped."""

_STOPS: Final = ("interrupt", "rollback")
"""What ends a turn that has not failed: another message."""


class Story(StepTree):
    """What events tell of an execution; takes them one after another.

    A prefix of them is enough, and events that are missing in the middle cost what they would have told. Each event
    takes the same time however many came before.

    Args:
        limit: Characters to keep of each value; None = all. With a limit a story of any execution is small.

    Attributes:
        limit: Characters that are kept of the values of further events.
        init: Body of the `init` event, without its input; empty until it was there.
        input: The input.
        began_us: Time of the first event.
        state: running, done, failed, cancelled.
        ended_us: When it ended; 0 = not yet.
        output: The output, once it succeeded.
        error: {code, message, …} with which it failed, or {reason, actor} of its cancel.
        paused: {since_us, actor, reason, at?} while it stands still; at = the step before which it stopped by itself.
        last_seq: Highest number seen.
        last_us: Time of that event.
        gaps: Ranges of numbers that are missing.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self._chars = 0
        self.init: Body = {}
        self.input: Told | None = None
        self.began_us = 0
        self.state = StepState.RUNNING
        self.ended_us = 0
        self.output: Told | None = None
        self.error: Body | None = None
        self.paused: Body | None = None
        self.last_seq = 0
        self.last_us = 0
        self.gaps: list[tuple[int, int]] = []

    def extend(self, records: Iterable[EventRecord]) -> Story:
        """Take events in order of their numbers, and return the story itself."""
        for record in records:
            self.apply(record)
        return self

    def apply(self, record: EventRecord) -> None:
        """Take one more event; one whose number is not higher than that of the last one is known already."""
        if record.seq <= self.last_seq:
            return
        if record.seq > self.last_seq + 1:
            self.gaps.append((self.last_seq + 1, record.seq - 1))
        self.last_seq, self.last_us, self._chars = record.seq, record.now_us, len(record.body)
        self.began_us = self.began_us or record.now_us
        take = _HANDLERS.get(record.type)
        if take is not None:
            take(self, record.seq, record.now_us, body_of(record))

    def stop(self, state: StepState, at_us: int, error: Body | None = None) -> None:
        """End what is open, of an execution that ended without a word of its own: it was terminated, or is gone.

        Args:
            state: How the execution ended.
            at_us: When it ended.
            error: {code, message, …} with which it did.
        """
        if self.state is not StepState.RUNNING:
            return
        self.error = error
        self._end_all(state, at_us)

    # --- values ------------------------------------------------------------------------------------------------

    def _told(self, seq: int, body: Body, member: str) -> Told:
        return told(seq, member, body.get(member), self.limit, body_chars=self._chars)

    # --- beginnings --------------------------------------------------------------------------------------------

    def _on_init(self, seq: int, at_us: int, body: Body) -> None:
        self.input = self._told(seq, body, "input")
        self.init = {name: value for name, value in body.items() if name != "input"}
        main = self._block("main")
        main.construct, main.began_us, main.input = "main", at_us, self.input
        self._begin(main, 0, self.input, at_us)

    def _on_init_branch(self, seq: int, at_us: int, body: Body) -> None:
        path, construct = str(body["path"]), str(body.get("construct") or "")
        if path not in self._blocks and construct == "yield" and "=" in path:
            owner = self._owner_of_list(path, str(body.get("workflow")))
            if owner is not None:
                self._add_block(path, owner)
        block = self._block(path)
        block.construct, block.of, block.began_us = construct, int(body.get("of") or 0), at_us
        block.input = self._told(seq, body, "input")
        owner = block.owner
        if construct == "finally":
            self._close_block(self._block("main"), StepState.CANCELLED, at_us)
        elif construct == "on_error" and owner is not None:
            owner.caught = True
        if owner is not None and construct != "undo":
            owner.state, owner.ended_us, owner.retry_at_us = StepState.RUNNING, 0, 0
            open_step(owner)
        self._begin(block, 0, block.input, at_us)

    def _on_effect_started(self, seq: int, at_us: int, body: Body) -> None:
        step = self._named(body)
        number = int(body.get("attempt") or 1)
        before = step.attempts[-1] if step.attempts and step.attempts[-1].attempt == number else None
        attempt = AttemptStory(
            str(body.get("effect_id") or ""),
            str(body.get("kind") or ""),
            number,
            round=0 if before is None else before.round + 1,
            name=str(body.get("name") or ""),
            started_seq=seq,
            started_us=at_us,
            request=self._told(seq, body, "request"),
            child_id=str(body.get("child_id") or ""),
            task_version=int(body.get("version") or 0),
        )
        step.attempts.append(attempt)
        step.name = step.name or attempt.name
        step.usage.apply(EventType.EFFECT_STARTED.value, body)
        if attempt.child_id:
            step.child_ids.append(attempt.child_id)
        self._go_on(step, at_us)

    def _on_wait(self, seq: int, at_us: int, body: Body) -> None:
        step = self._named(body)
        wait = WaitStory(
            str(body.get("wait_id") or step.path),
            opened_seq=seq,
            opened_us=at_us,
            deadline_us=body.get("deadline_us"),
            info=self._told(seq, body, "info"),
            schema=self._told(seq, body, "schema"),
        )
        step.waits.append(wait)
        self._waits[wait.wait_id] = step, wait
        info = body.get("info")
        if isinstance(info, dict) and info.get("kind") in (APPROVAL, FUNCTION_CALL):
            # of a call that waits, and may never be made, the wait alone says what it calls
            step.name = step.name or str(info.get("tool") or "")
        self._go_on(step, at_us)
        step.state = StepState.WAITING

    def _go_on(self, step: StepStory, at_us: int) -> None:
        step.began_us = step.began_us or at_us
        step.state, step.ended_us, step.retry_at_us = StepState.RUNNING, 0, 0
        open_step(step)

    def _named(self, body: Body) -> StepStory:
        step = self._step(str(body["path"]))
        step.kind = step.kind or str(body.get("kind") or "")
        step.label = step.label or str(body.get("label") or "")
        return step

    # --- answers -----------------------------------------------------------------------------------------------

    def _on_answer_refused(self, seq: int, at_us: int, body: Body) -> None:
        _, wait = self._waits.get(str(body.get("wait_id") or ""), (None, None))
        if wait is not None:
            words = (str(body.get(name) or "") for name in ("actor", "code", "message"))
            wait.refused.append(Refusal(seq, at_us, *words))

    def _on_resume(self, seq: int, at_us: int, body: Body) -> None:
        step = self._named(body)
        wait_id = str(body.get("wait_id") or step.path)
        _, wait = self._waits.pop(wait_id, (None, None))
        if wait is None:
            wait = WaitStory(wait_id, opened_us=int(body.get("opened_us") or 0))
            step.waits.append(wait)
        wait.outcome = "expired" if body.get("expired") else "answered"
        wait.closed_us = at_us
        wait.actor, wait.key = str(body.get("actor") or ""), str(body.get("key") or "")
        wait.event = str(body.get("event") or "")
        wait.answer = self._told(seq, body, "output")
        self._go_on(step, at_us)

    # --- operators ---------------------------------------------------------------------------------------------

    def _on_paused(self, seq: int, at_us: int, body: Body) -> None:
        del seq
        if not body.get("repeated") and self.paused is None:
            told = {name: body[name] for name in ("actor", "reason", "at") if body.get(name)}
            self.paused = {"since_us": at_us, **told}

    def _on_continued(self, seq: int, at_us: int, body: Body) -> None:
        del seq, at_us
        if not body.get("repeated"):
            self.paused = None

    def _on_deadline_changed(self, seq: int, at_us: int, body: Body) -> None:
        del seq, at_us
        _, wait = self._waits.get(str(body.get("wait_id") or ""), (None, None))
        if wait is not None and not body.get("repeated"):
            wait.deadline_us = body.get("deadline_us")

    # --- ends of calls and attempts ----------------------------------------------------------------------------

    def _on_effect_finished(self, seq: int, at_us: int, body: Body) -> None:
        step = self._named(body)
        attempt = self._call_of(step, body)
        attempt.outcome, attempt.ended_seq, attempt.ended_us = str(body.get("outcome") or "unknown"), seq, at_us
        attempt.took_s = body.get("took_s")
        attempt.deliveries = int(body.get("deliveries") or 1)
        attempt.cached = bool(body.get("cached"))
        attempt.error = body.get("error") or attempt.error
        if "reply" in body:
            attempt.model, attempt.backend = str(body.get("model") or ""), str(body.get("backend") or "")
            attempt.finish_reason = str(body.get("finish_reason") or "")
            attempt.usage, attempt.cost = body.get("usage"), body.get("cost")
            attempt.reply = self._told(seq, body, "reply")
        step.usage.apply(EventType.EFFECT_FINISHED.value, body)

    def _call_of(self, step: StepStory, body: Body) -> AttemptStory:
        """Return the call that has ended; one whose beginning is missing is added."""
        effect_id = str(body.get("effect_id") or "")
        for attempt in reversed(step.attempts):
            if attempt.effect_id == effect_id:
                return attempt
        attempt = AttemptStory(effect_id, str(body.get("kind") or ""), int(body.get("attempt") or 1))
        step.attempts.append(attempt)
        return attempt

    def _on_attempt_failed(self, seq: int, at_us: int, body: Body) -> None:
        step = self._named(body)
        step.usage.apply(EventType.ATTEMPT_FAILED.value, body)
        error, number = body.get("error") or {}, int(body.get("attempt") or 1)
        attempt = step.attempts[-1] if step.attempts and step.attempts[-1].attempt == number else None
        if attempt is None:
            last = step.attempts[-1] if step.attempts else None
            began = step.began_us if last is None else last.ended_us + round((last.pause_s or 0) * 1e6)
            attempt = AttemptStory("", step.kind, number, started_us=began, ended_seq=seq, ended_us=at_us)
            step.attempts.append(attempt)
        attempt.outcome, attempt.error = "failed", error
        attempt.ended_us = attempt.ended_us or at_us
        again = body.get("retry_in_s")
        attempt.pause_s = again
        if body.get("repair"):
            return  # the same attempt goes on: the model is asked again
        self._fail_inside(step, error, at_us)
        step.error = error
        if again is None:
            self._end(step, StepState.FAILED, at_us)
        else:
            step.state, step.retry_at_us = StepState.RETRYING, at_us + round(float(again) * 1e6)
            open_step(step)

    # --- ends of steps -----------------------------------------------------------------------------------------

    def _on_step(self, seq: int, at_us: int, body: Body) -> None:
        step = self._finish_step(seq, at_us, body)
        following = body.get("next")
        if isinstance(following, int):
            self._begin(step.block, following, step.output, at_us)

    def _on_finish_branch(self, seq: int, at_us: int, body: Body) -> None:
        step = self._finish_step(seq, at_us, body)
        self._close_block(step.block, StepState.DONE, at_us)

    def _on_finish(self, seq: int, at_us: int, body: Body) -> None:
        if "path" in body:
            self._on_finish_branch(seq, at_us, body)
        self.output = self._told(seq, body, "output")
        self._end_all(StepState.DONE, at_us)

    def _finish_step(self, seq: int, at_us: int, body: Body) -> StepStory:
        step = self._named(body)
        began = body.get("started_us")
        step.began_us = int(began) if began is not None else at_us
        step.output = self._told(seq, body, "output")
        step.log = body.get("log")
        step.recorded = bool(body.get("recorded"))
        if not step.caught:
            step.error = None  # that of an attempt which was followed by a better one stands there
        if body.get("child_id") and body["child_id"] not in step.child_ids:
            step.child_ids.append(str(body["child_id"]))
        skipped = body.get("skipped") or (not self.gaps and not step.recorded and _left_no_trace(step, at_us))
        self._end(step, StepState.SKIPPED if skipped else StepState.DONE, at_us)
        return step

    # --- failures and ends of everything -----------------------------------------------------------------------

    def _on_branch_failed(self, seq: int, at_us: int, body: Body) -> None:
        del seq
        error, taken = body.get("error") or {}, str(body.get("taken") or "")
        if taken == "undo":
            # the event names what was being undone; which step of the undoing failed stands in the error alone
            failed = self._source_of(error)
            block = None if failed is None else around(failed, "undo")
        else:
            block = self._block(str(body["path"]))
        if block is None:
            return
        self._fail_chain(error, block.owner, at_us)
        block.error, block.taken = error, taken
        self._close_block(block, StepState.CANCELLED if taken in _STOPS else StepState.FAILED, at_us)

    def _on_error(self, seq: int, at_us: int, body: Body) -> None:
        del seq
        self.error = body.get("error") or {}
        self._fail_chain(self.error, None, at_us)
        self._end_all(StepState.FAILED, at_us)

    def _on_cancelled(self, seq: int, at_us: int, body: Body) -> None:
        del seq
        self.error = body
        self._end_all(StepState.CANCELLED, at_us)

    def _end_all(self, state: StepState, at_us: int) -> None:
        self.state, self.ended_us, self.paused = state, at_us, None
        for block in self.top:
            self._close_block(block, state if block.state is StepState.RUNNING else StepState.CANCELLED, at_us)


def _left_no_trace(step: StepStory, at_us: int) -> bool:
    """Whether a step did not do what steps of its kind cannot do unseen, so that its `when` must have been false."""
    if step.kind == StepKind.SLEEP.value:
        return step.began_us == at_us
    return step.kind in _SEEN_AT_WORK and not (step.attempts or step.waits or step.blocks)


_HANDLERS: Final[dict[str, Callable[[Story, int, int, Body], None]]] = {
    EventType.INIT.value: Story._on_init,
    EventType.INIT_BRANCH.value: Story._on_init_branch,
    EventType.STEP.value: Story._on_step,
    EventType.WAIT.value: Story._on_wait,
    EventType.RESUME.value: Story._on_resume,
    EventType.EXECUTION_PAUSED.value: Story._on_paused,
    EventType.EXECUTION_CONTINUED.value: Story._on_continued,
    EventType.DEADLINE_CHANGED.value: Story._on_deadline_changed,
    EventType.FINISH_BRANCH.value: Story._on_finish_branch,
    EventType.FINISH.value: Story._on_finish,
    EventType.ERROR.value: Story._on_error,
    EventType.CANCELLED.value: Story._on_cancelled,
    EventType.EFFECT_STARTED.value: Story._on_effect_started,
    EventType.EFFECT_FINISHED.value: Story._on_effect_finished,
    EventType.ATTEMPT_FAILED.value: Story._on_attempt_failed,
    EventType.BRANCH_FAILED.value: Story._on_branch_failed,
    EventType.ANSWER_REFUSED.value: Story._on_answer_refused,
}
