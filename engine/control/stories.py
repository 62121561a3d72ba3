"""Use case: the story of an execution: its steps by place and name, their whole values, what they are called."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Final

from engine.control.folding import FoldedStory, Folder
from engine.core.errors import EngineError, InvalidInput, NotFound
from engine.core.plan.codec import plan_from_json
from engine.core.plan.ir import Plan
from engine.core.plan.paths import Places
from engine.core.plan.render import plan_outline
from engine.core.run.projection import ExecutionFacts, LabelOf, no_label
from engine.core.run.story_parts import StepStory
from engine.core.run.story_views import Show, Titles, no_titles, show_whole
from engine.store.definitions import Definitions
from engine.store.projection import ProjectionStore
from engine.store.stories import StoryReader

MOST_WHOLE_CHARS = 8_000_000
"""What the whole values of one answer may hold together; one step is always shown."""
LEAST_PREFIX_CHARS = 6
MOST_CANDIDATES = 10

_COUNTERS: Final = re.compile(r"(?<!case)(?<=[a-z])\[\d+\]|[~!]\d+")
_PREFIX: Final = re.compile(r"[0-9a-f-]+")


class StoryService:
    """Tells the stories of executions.

    Args:
        store: The projection.
        definitions: The tasks, which name steps of which no event has told anything yet.
    """

    def __init__(self, store: ProjectionStore, definitions: Definitions) -> None:
        self._reader = StoryReader(store.database)
        self._definitions = definitions
        self._folder = Folder(self._reader)

    @property
    def reader(self) -> StoryReader:
        """Where the events come from."""
        return self._reader

    async def fold(self, facts: ExecutionFacts) -> FoldedStory:
        """Return the story of an execution, its values cut.

        Args:
            facts: The execution.

        Raises:
            InvalidInput: `story.too_long`.
        """
        return await self._folder.fold(facts)

    async def whole(self, facts: ExecutionFacts, steps: list[tuple[StepStory, set[int]]]) -> tuple[Show, int]:
        """Read the whole values of steps, of as many as one answer may hold.

        Args:
            facts: The execution.
            steps: Steps with the numbers of the events whose values are wanted.

        Returns:
            What shows their values, and the number of steps whose values it has: all, or those that come first.
        """
        wanted = set[int]().union(*(seqs for _, seqs in steps))
        sizes = await self._reader.sizes(facts.id, wanted, tenant=facts.tenant)
        room, taken, count = MOST_WHOLE_CHARS, set[int](), 0
        for _, seqs in steps:
            room -= sum(sizes.get(seq, 0) for seq in seqs - taken)
            if room < 0 and count:
                break
            taken |= seqs
            count += 1
        return show_whole(await self._reader.bodies(facts.id, taken, tenant=facts.tenant)), count

    async def titles(self, facts: ExecutionFacts, steps: Iterable[StepStory]) -> Titles:
        """Return what names the steps of which no event has told yet what they are: the task's plan."""
        if all(step.kind for step in steps):
            return no_titles
        plan = await self._plan_of(facts)
        return no_titles if plan is None else await asyncio.to_thread(_titles_of, plan)

    async def labels(self, facts: ExecutionFacts) -> LabelOf:
        """Return what knows the labels of an execution's steps: the task's plan."""
        plan = await self._plan_of(facts)
        return no_label if plan is None else Places(plan).label_at

    async def _plan_of(self, facts: ExecutionFacts) -> Plan | None:
        try:
            task = await self._definitions.get_task(
                facts.task_id, tenant=facts.tenant, version=facts.task_version, removed=True
            )
            return await asyncio.to_thread(plan_from_json, task.plan)
        except EngineError:
            # a task of another store, or a plan of another version: the steps go without names
            return None

    async def full_id(self, prefix: str, *, tenant: str) -> list[dict[str, Any]]:
        """Return the executions whose ids begin with a text, at most `MOST_CANDIDATES`.

        Raises:
            InvalidInput: `execution.short_id` if the text is too short, or no beginning of an id.
        """
        text = prefix.strip().lower()
        if len(text) < LEAST_PREFIX_CHARS or not _PREFIX.fullmatch(text):
            raise InvalidInput(
                f"{prefix[:60]!r} is no beginning of an execution's id",
                code="execution.short_id",
                hint=f"give its id, or the first {LEAST_PREFIX_CHARS} or more characters of it",
            )
        found = await self._reader.ids_like(text, tenant=tenant, limit=MOST_CANDIDATES)
        return [item._asdict() for item in found]


def steps_at(folded: FoldedStory, name: str) -> list[StepStory]:
    """Return the visits of the step that a caller names.

    Args:
        folded: The story.
        name: A path (`main.3.do[17].0`), a path without counters for all visits (`main.3.do.0`), or a label.

    Raises:
        NotFound: `step.not_found`.
    """
    step = folded.story.steps.get(name)
    if step is not None:
        return [step]
    found = [step for step in folded.order if static_path(step.path) == name] or [
        step for step in folded.order if step.label == name
    ]
    if not found:
        raise NotFound(
            f"no step {name[:200]!r} of the execution has begun",
            code="step.not_found",
            hint="`everstep steps ID` lists those that have",
        )
    return found


def static_path(path: str) -> str:
    """Return a step path without the counters of loops and repeated blocks, as the task's outline has it."""
    return _COUNTERS.sub("", path)


def _titles_of(plan: Plan) -> Titles:
    rows = {static_path(row.path): (row.kind, row.label) for row in plan_outline(plan)}
    lists = sorted({path.partition(".")[0] for path in rows})

    def title(path: str) -> tuple[str, str]:
        plain = static_path(path)
        if plain in rows:
            return rows[plain]
        # inside named lists, the innermost list begins the path that the outline has
        starts = [plain.rfind(f".{name}.") + 1 for name in lists]
        return rows.get(plain[max(starts, default=0) :], ("", ""))

    return title
