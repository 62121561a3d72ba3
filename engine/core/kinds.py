"""The fixed vocabularies: step kinds, statuses, event types; bottom of the import graph. Workflow-safe."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

Dialect = Literal["everstep", "julep-2024", "julep-2025", "contenox"]
"""How the texts of a definition are read; ours first."""
JULEP_NAMES: Final = frozenset({"user", "session", "arguments"})
"""What expressions of Julep's dialects see beside: who asks and where, which is null in a task that was started by
itself, and once more the input of the named list."""


class StepKind(StrEnum):
    """What a step of a task does; the value is the marker key an author writes (for `yield` it is `workflow`)."""

    EVALUATE = "evaluate"
    PROMPT = "prompt"
    TOOL_CALL = "tool_call"
    AGENT = "agent"
    EMBED = "embed"
    SEARCH = "search"
    IF_ELSE = "if_else"
    SWITCH = "switch"
    FOREACH = "foreach"
    MAP_REDUCE = "map_reduce"
    PARALLEL = "parallel"
    RACE = "race"
    WHILE = "while"
    UNTIL = "until"
    LISTEN = "listen"
    YIELD = "yield"
    TASK = "task"
    RETURN = "return"
    WAIT_FOR_INPUT = "wait_for_input"
    APPROVE = "approve"
    WAIT_FOR_EVENT = "wait_for_event"
    SLEEP = "sleep"
    SET = "set"
    GET = "get"
    LOG = "log"
    ERROR = "error"


class ExecutionStatus(StrEnum):
    """Where an execution stands (contracts/julep.md §4.1, and `paused`, which is ours)."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    AWAITING_INPUT = "awaiting_input"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the execution can never change again."""
        return self in (ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)


class EventType(StrEnum):
    """What the interpreter reports; the first block maps to transitions, the second is told only to operators."""

    INIT = "init"
    INIT_BRANCH = "init_branch"
    STEP = "step"
    WAIT = "wait"
    RESUME = "resume"
    FINISH_BRANCH = "finish_branch"
    FINISH = "finish"
    ERROR = "error"
    CANCELLED = "cancelled"

    EFFECT_STARTED = "effect.started"
    EFFECT_FINISHED = "effect.finished"
    ATTEMPT_FAILED = "attempt.failed"
    BRANCH_FAILED = "branch.failed"
    ANSWER_ACCEPTED = "answer.accepted"
    ANSWER_REFUSED = "answer.refused"
    EVENT_RECEIVED = "event.received"
    MESSAGE_TAKEN = "message.taken"
    EXECUTION_PAUSED = "execution.paused"
    EXECUTION_CONTINUED = "execution.continued"
    BREAKS_CHANGED = "breaks.changed"
    DEADLINE_CHANGED = "deadline.changed"
    CONTROL_REFUSED = "control.refused"

    @property
    def is_transition(self) -> bool:
        """Whether callers see the event as a transition of the execution."""
        return "." not in self.value


class ToolEffect(StrEnum):
    """What a tool does to the world; decides together with `idempotent` whether a lost call may be repeated."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    EXTERNAL = "external"
