"""The codes that an operator finds on executions: what each means and what to do; the documents show this table."""

from __future__ import annotations

from dataclasses import dataclass

from engine.control.stuck import ACTIVITY_RETRIES, NO_WORKER, PAUSED, WORKFLOW_TASK_FAILS
from engine.store.upkeep import GONE


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a code.

    Attributes:
        where: Where the code stands: `stuck` or `error` of an execution, or the list of a reindex.
        means: What has happened.
        remedy: What to do.
    """

    where: str
    means: str
    remedy: str


REMEDIES: dict[str, Remedy] = {
    NO_WORKER: Remedy(
        "stuck",
        "Work waits for ten seconds or longer, and no worker has asked the task queue for any since.",
        "Start a worker (`everstep worker`) with the same `EVERSTEP_TASK_QUEUE` and `TEMPORAL_ADDRESS`; if some run, "
        "they are too busy: start more. `everstep doctor` lists those alive. The execution goes on by itself.",
    ),
    WORKFLOW_TASK_FAILS: Remedy(
        "stuck",
        "Workers take the execution up, and fail three times or more; the message has Temporal's reason.",
        "If the reason is a nondeterminism error, run workers of the version that began the execution, or reset it "
        "(`temporal workflow reset`). Otherwise mend what the message and the workers' logs name.",
    ),
    ACTIVITY_RETRIES: Remedy(
        "stuck",
        "Temporal delivers a call for the third time or more: workers die, or do not know this kind of call. Failures "
        "of the call itself are attempts, which `everstep steps` lists; they do not make an execution stuck.",
        "Look at the logs of the workers; run workers of one version on one task queue.",
    ),
    PAUSED: Remedy(
        "stuck",
        "Somebody paused the workflow with Temporal's own tools; the message says who and why.",
        "`temporal workflow unpause --workflow-id ID`, or leave it.",
    ),
    GONE: Remedy(
        "error",
        "Temporal no longer has the execution, and it had not ended: it was deleted by hand, or its server lost its "
        "data. Its events stay readable.",
        "Start it anew. If its Temporal comes back, the execution is taken up again by itself.",
    ),
    "execution.terminated": Remedy(
        "error",
        "Somebody ended the workflow with `temporal workflow terminate`: at once, without `finally` and `undo`.",
        "The message has the reason, `details.actor` who it was. Use `everstep cancel`, which cleans up.",
    ),
    "execution.timed_out": Remedy(
        "error",
        "The workflow's own time limit in Temporal passed. Everstep sets none: somebody else started or reset it.",
        "Start it anew with `limits: {time: …}` in the task, which cleans up.",
    ),
    "replay.failed": Remedy(
        "reindex",
        "A history does not replay with the interpreter of this version. The stored rows stay; they are marked as not "
        "verified.",
        "Run `everstep reindex ID` with the version that ran the execution. If it is that one, report it.",
    ),
    "reindex.failed": Remedy(
        "reindex",
        "An execution could not be rebuilt for a reason that no other code names. The stored rows stay.",
        "The log on standard error has the reason; report it.",
    ),
}
