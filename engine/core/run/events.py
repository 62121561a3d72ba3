"""Events: what the interpreter says happened, as the record that travels, and their rolling hash. Workflow-safe."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.core.kinds import EventType
from engine.core.values import Json, compact_json


class EventRecord(NamedTuple):
    """One event on its way out of the workflow; a plain tuple, because dataclasses do not survive the sandbox border.

    Attributes:
        execution_id: The execution.
        run_id: The run that emitted it.
        seq: Number of the event in the execution, from 1, counted on over continue-as-new.
        now_us: Time of the workflow task, Unix microseconds.
        type: Value of an EventType.
        body: JSON text of the event's body.
        tenant: Whose run emitted it; empty = it does not say, and only `init` can tell. Not stored with each event.
    """

    execution_id: str
    run_id: str
    seq: int
    now_us: int
    type: str
    body: str
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An event inside the interpreter.

    Body members by type (all JSON):
        every type: `branch` (scope path of the branch, `` for the root)
        init: workflow, scope, input, task, task_id, version, metadata, parent? {execution_id, path, keys?}, labels?,
            actor?, created_us? (when it was asked for), trace? (traceparent of what started it), forked? {kind,
            execution_id, path, seed, keys} (the execution whose recorded steps it takes; `keys` = what the idempotency
            keys of calls are made of in place of its own id)
        init_branch: path, workflow, scope, construct, parent, input, of? (bodies that a loop or fan will run),
            messages? (ids of those that began the turn)
        step: path, workflow, index, scope, kind, label, output, next (index or null), attempts?, state?, log?,
            child_id? (the execution that it started), started_us? (if it did not begin in this very activation),
            recorded? (true: the output is that of the execution it was forked from; nothing was run; then also at_us,
            input?, state?, labels? as `Recorded` has them)
        wait: path, workflow, index, scope, label, wait_id, info, schema, deadline_us?
        resume: path, workflow, index, scope, wait_id, output, key, actor, opened_us, expired?
        finish_branch: path, workflow, scope, output
        finish: output;  error: error {code, message, step, attempts, details};  cancelled: reason, actor
        effect.started: path, effect_id, kind, name, attempt, request; of a task also child_id, task_id, version; the
            request of an agent's turn has only the messages that are new, `before` = how many were told before
        effect.finished: path, effect_id, kind, attempt, outcome (ok, failed, cancelled), error? {code, message},
            took_s?, deliveries? (if it was handed to a worker more than once); of a prompt also model, backend,
            finish_reason, usage (without cached_tokens, cache_write_tokens, reasoning_tokens that are 0), cost (dollars
            as text, null = unknown), reply (the message); a tool's output stands in the event of its step
        attempt.failed: path, effect_id (of its last call; PATH#ATTEMPT if it made none), kind, attempt, error,
            retry_in_s (null = no more), overflow? (truncate, summarise: an agent's conversation has outgrown the model)
            and messages (how many are left out or summarised; 0 = results of tools were shortened)
        branch.failed: path, error, taken? (collect, skip, race, undo; interrupt and rollback: the path is that of a
            turn which a message stopped; of one that was recorded also recorded: true, at_us, state, labels)
        answer.accepted / answer.refused: key, wait_id, actor, value / code, message
        execution.paused: key, actor, reason, at? (path of the step before which it stopped; with an empty key it did so
            by itself), already? (true: it was paused before)
        execution.continued: key, actor, reason?, breaks?, why? (cancel, limit.time: it was not told to)
        breaks.changed: key, actor, breaks (paths, in order)
        deadline.changed: key, actor, wait_id (of a wait; path of a sleep), deadline_us (null = none)
            all of these have repeated: true when a key came again and nothing was done
        control.refused: key, actor, kind, code, message
        message.taken: message_id, name, disposition (started, queued, joined, interrupting, rolling_back, kept,
            rejected), actor, value, path? (of the step that took it), turn? (that it begins), code? and message? (why
            it was rejected), repeated? (the id came before; then without value)
    """

    type: EventType
    body: dict[str, Json]


def roll_digest(digest: str, seq: int, type_: str, body: str) -> str:
    """Return the hash of a chain of events after one more.

    Args:
        digest: Hash so far; empty text before the first event.
        seq: Number of the event.
        type_: Its type.
        body: Its JSON text, byte for byte.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.blake2b(f"{digest}\n{seq}\n{type_}\n{body}".encode(), digest_size=8).hexdigest()


def roll_time(times: int, now_us: int) -> int:
    """Return the hash of the times of a chain of events after one more; 0 before the first event.

    Told apart from `roll_digest`, since a workflow task that is made again may tell the same at another time.
    """
    return (times * 1_000_003 + now_us) & 0xFFFF_FFFF_FFFF


def encode_body(event: Event) -> str:
    """Return the JSON text of an event's body."""
    return compact_json(event.body)


def now_to_us(seconds: float) -> int:
    """Turn Unix seconds into microseconds."""
    return round(seconds * 1_000_000)


def body_of(record: EventRecord) -> dict[str, Any]:
    """Parse the body of a record."""
    parsed: dict[str, Any] = json.loads(record.body)
    return parsed
