"""The tree of steps and bodies that a story is told of: where each one stands, and what is open. Workflow-safe."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from engine.core.ids import shorten_path
from engine.core.run.steps import MAX_LIST_PATH_CHARS
from engine.core.run.story_parts import BlockStory, StepState, StepStory, Told, WaitStory, add_usage, walk
from engine.core.run.usage import UsageSums

_BLOCK: Final = re.compile(r"^(?P<step>.+\.\d+)(?:[~!]\d+)?(?:\.[^.]+|\[\d+\])$")
_MARK: Final = re.compile(r"[~!]\d+$")
_LATEST_BEGUN: Final = 64
"""How many of the latest steps are looked at for the one that entered a list whose path had to be shortened."""

Body = dict[str, Any]


class StepTree:
    """Steps and the bodies they run, as far as events have told of them.

    Attributes:
        top: The bodies `main` and `finally`, as far as they were entered.
        steps: All visits of steps by path, in the order in which they began.
    """

    def __init__(self) -> None:
        self.top: list[BlockStory] = []
        self.steps: dict[str, StepStory] = {}
        self._blocks: dict[str, BlockStory] = {}
        self._waits: dict[str, tuple[StepStory, WaitStory]] = {}
        self._begun: deque[StepStory] = deque(maxlen=_LATEST_BEGUN)

    def walk(self) -> Iterator[StepStory]:
        """Yield all steps as the task has them: each before those inside it, `finally` last."""
        return walk(self.top)

    def totals(self) -> dict[str, UsageSums]:
        """Return by path what each step and all steps inside it used; that of the execution by the empty path."""
        sums = {"": UsageSums()} | {path: replace(step.usage) for path, step in self.steps.items()}
        for path, step in reversed(self.steps.items()):
            owner = step.block.owner
            add_usage(sums["" if owner is None else owner.path], sums[path])
        return sums

    # --- places ------------------------------------------------------------------------------------------------

    def _block(self, path: str) -> BlockStory:
        """Return a body; one whose beginning is missing is made with what its path tells."""
        found = self._blocks.get(path)
        if found is None:
            match = _BLOCK.match(path)
            owner = None if match is None else self._step(match["step"])
            found = self._add_block(path, owner)
        return found

    def _add_block(self, path: str, owner: StepStory | None) -> BlockStory:
        block = self._blocks[path] = BlockStory(path, owner)
        (self.top if owner is None else owner.blocks).append(block)
        return block

    def _step(self, path: str) -> StepStory:
        """Return a step; one whose beginning is missing is made, and is not taken for one that still runs."""
        step = self.steps.get(path)
        if step is None:
            before, _, index = path.rpartition(".")
            block = self._block(before or path)
            depth = 0 if block.owner is None else block.owner.depth + 1
            step = StepStory(path, block, int(index) if index.isdecimal() else 0, depth)
            self.steps[path] = step
            block.steps.append(step)
        return step

    def _owner_of_list(self, path: str, workflow: str) -> StepStory | None:
        """Return the step that enters a named list whose path was shortened, which hides it; None = not found."""
        for begun in reversed(self._begun):
            # the mark of a repeated attempt stands between the step and the list
            for marked in (begun.path, f"{begun.path}~{begun.attempt + 1}", f"{begun.path}!{begun.attempt + 1}"):
                if shorten_path(f"{marked}.{workflow}", MAX_LIST_PATH_CHARS) == path:
                    return begun
        return None

    def _begin(self, block: BlockStory, index: int, given: Told | None, at_us: int) -> None:
        """Note that the step at a place of a body begins."""
        step = self._step(f"{block.path}.{index}")
        step.began_us, step.input = at_us, given
        self._begun.append(step)
        open_step(step)

    # --- ends --------------------------------------------------------------------------------------------------

    def _fail_inside(self, step: StepStory, error: Body, at_us: int) -> None:
        """Say of all between the step that an error comes from and a step around it that they failed."""
        if self._source_of(error) is not step:
            self._fail_chain(error, step, at_us)
        self._close_inside(step, at_us)

    def _source_of(self, error: Body) -> StepStory | None:
        path = str(error.get("step") or "")
        return self.steps.get(path) or self.steps.get(_MARK.sub("", path))

    def _fail_chain(self, error: Body, until: StepStory | None, at_us: int) -> None:
        source = step = self._source_of(error)
        while step is not None and step is not until and step.state not in (StepState.DONE, StepState.SKIPPED):
            if step is source:
                step.error = step.error or error
            self._end(step, StepState.FAILED, at_us)
            step.block.state, step.block.ended_us = StepState.FAILED, at_us
            step = step.block.owner

    def _end(self, step: StepStory, state: StepState, at_us: int) -> None:
        """End a step and all that still runs inside it."""
        self._close_inside(step, at_us)
        step.ended_us = step.ended_us if step.state.is_end and step.ended_us else at_us
        step.state, step.retry_at_us = state, 0
        self._stop_waits(step, at_us)
        for attempt in reversed(step.attempts):
            if attempt.outcome != "running":
                break
            attempt.outcome = "unknown"
        _shut(step)

    def _stop_waits(self, step: StepStory, at_us: int) -> None:
        for wait in reversed(step.waits):
            if wait.outcome:
                break
            expired = (step.error or {}).get("code") == "wait.expired"
            wait.outcome, wait.closed_us = "expired" if expired else "stopped", at_us
            self._waits.pop(wait.wait_id, None)

    def _close_inside(self, step: StepStory, at_us: int) -> None:
        for block in list(step.open.values()):
            self._close_block(block, StepState.CANCELLED, at_us)

    def _close_block(self, block: BlockStory, state: StepState, at_us: int) -> None:
        """End a body: what still runs inside was stopped. Not recursive, since lists may be a thousand levels deep."""
        if block.state is StepState.RUNNING or state is StepState.FAILED:
            block.state, block.ended_us = state, block.ended_us or at_us
        inside: list[StepStory] = list(block.open.values())
        found: list[StepStory] = []
        while inside:
            step = inside.pop()
            found.append(step)
            for body in step.open.values():
                if body.state is StepState.RUNNING:
                    body.state, body.ended_us = StepState.CANCELLED, at_us
                inside.extend(body.open.values())
        for step in reversed(found):
            step.open.clear()
            if step.state.is_end:
                _shut(step)
            else:
                self._end(step, StepState.CANCELLED, at_us)


def around(step: StepStory, construct: str) -> BlockStory | None:
    """Return the innermost body of a construct in which a step stands."""
    block: BlockStory | None = step.block
    while block is not None and block.construct != construct:
        block = None if block.owner is None else block.owner.block
    return block


def open_step(step: StepStory) -> None:
    """Enter a step that runs into the lists of what is open around it, as far up as it is not there already."""
    inner: StepStory | None = step
    while inner is not None and inner.path not in inner.block.open:
        block = inner.block
        block.open[inner.path] = inner
        inner = block.owner
        if inner is not None:
            inner.open[block.path] = block


def _shut(step: StepStory) -> None:
    """Take a step that has ended out of the lists of what is open around it."""
    inner: StepStory | None = step
    while inner is not None and inner.state.is_end and not inner.open:
        block = inner.block
        block.open.pop(inner.path, None)
        if block.open or block.owner is None:
            return
        inner = block.owner
        inner.open.pop(block.path, None)
