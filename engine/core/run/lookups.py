"""Stage: steps that embed texts and search documents — building the call, reading its outcome. Workflow-safe."""

from __future__ import annotations

from typing import Any

from engine.core.contracts.activities import CallContext
from engine.core.contracts.lookups import EmbedParams, Owner, SearchParams
from engine.core.errors import BugError, InputRejected, RunError
from engine.core.ids import shorten_id
from engine.core.lang.failures import type_name
from engine.core.plan.grant import DEFAULT_MODEL, Grant
from engine.core.plan.ops import EmbedOp, SearchOp
from engine.core.plan.search_options import OPTION_BOUNDS, WHOLE_OPTIONS
from engine.core.run.authority import check_model, model_bound
from engine.core.run.calls import idempotency_key
from engine.core.run.effects import Call, CallOutcome, Failed, Stopped
from engine.core.run.frames import CallFrame, GuardFrame
from engine.core.run.guards import attempt_id
from engine.core.run.spending import check_may_spend, check_spent, count_reply, limits_of_calls
from engine.core.run.state import Branch
from engine.core.run.tracing import below
from engine.core.run.walker import Walker
from engine.core.values import Json

MOST_TEXTS = 1_000
"""Of one step; more go into a map, whose vectors do not travel as one value."""
MAX_SUMMARY_CHARS = 120


def begin_lookup(branch: Branch) -> None:
    """Push the frame of the call; the interpreter starts it as soon as calls may start."""
    guard = branch.stack[-1]
    assert isinstance(guard, GuardFrame)
    call_id = shorten_id(attempt_id(guard.path, guard.attempt))
    branch.stack.append(CallFrame(guard.path, guard.input, call_id, parked=True))


def is_lookup(walker: Walker, branch: Branch) -> bool:
    """Whether the topmost frame of a branch is the call of such a step."""
    return isinstance(_op_of(walker, branch), EmbedOp | SearchOp)


def send_lookup(walker: Walker, branch: Branch, frame: CallFrame) -> None:
    """Start the call of a frame.

    Raises:
        RunError: If what is looked for cannot be computed or is of the wrong kind, or a limit is reached.
    """
    guard, op = branch.stack[-2], _op_of(walker, branch)
    assert isinstance(guard, GuardFrame)
    check_may_spend(walker)
    timeout_s = op.mods.timeout_s if op is not None else None
    timeout_s = walker.plan.defaults.chat_timeout_s if timeout_s is None else timeout_s
    if isinstance(op, EmbedOp):
        _send_embed(walker, branch, frame, guard, op, timeout_s)
    elif isinstance(op, SearchOp):
        _send_search(walker, branch, frame, guard, op, timeout_s)


def _op_of(walker: Walker, branch: Branch) -> Any:
    guard = branch.stack[-2] if len(branch.stack) > 1 else None
    return walker.op_at(walker.step_frame_below(branch, guard)) if isinstance(guard, GuardFrame) else None


def _send_embed(
    walker: Walker, branch: Branch, frame: CallFrame, guard: GuardFrame, op: EmbedOp, timeout_s: float
) -> None:
    value = walker.evaluator.evaluate(op.text, branch, f"{guard.path}/text", guard.input)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputRejected(
            f"what {guard.path} is to embed is not a text or a list of texts but {type_name(value)}",
            hint="give a text, or a list of at least one text",
        )
    if len(texts) > MOST_TEXTS:
        raise InputRejected(
            f"{guard.path} is to embed {len(texts)} texts, but {MOST_TEXTS} are the most",
            hint="let a map run the step for parts of the list",
        )
    instruction = _text(walker, branch, guard, "instruction", op.instruction)
    check_model(walker.plan, op.model)
    context = _context(walker, guard, model_bound(walker.plan, op.model))
    params = EmbedParams(
        context=context,
        texts=texts,
        instruction=instruction,
        model=op.model,
        timeout_s=timeout_s,
        limits=limits_of_calls(walker),
    )
    request: dict[str, Json] = {"texts": texts, "model": op.model}
    if instruction:
        request["instruction"] = instruction
    _start(walker, branch, frame, guard, op, params, request, f"embed {op.model}".strip())


def _send_search(
    walker: Walker, branch: Branch, frame: CallFrame, guard: GuardFrame, op: SearchOp, timeout_s: float
) -> None:
    text = _text(walker, branch, guard, "text", op.text)
    vector = _vector(walker, branch, guard, op)
    wanted = _object(walker, branch, guard, "metadata_filter", op.metadata_filter)
    options = _object(walker, branch, guard, "options", op.options)
    _check_options(guard.path, options)
    if not text.strip() and vector is None:
        raise InputRejected(f"{guard.path} is to search for nothing", hint="give a text that is not empty, or a vector")
    agent, user = (_text(walker, branch, guard, name, getattr(op, name)) for name in ("agent", "user"))
    if agent and user:
        raise InputRejected(f"{guard.path} names an agent and a user", hint="documents have one owner: name one")
    agent = agent or ("" if user else walker.plan.agent.id)
    params = SearchParams(
        context=_context(walker, guard, _search_bound(walker)),
        text=text,
        vector=vector,
        metadata_filter=wanted,
        owner=Owner(kind="user" if user else "agent" if agent else "", id=user or agent),
        options=options,
        timeout_s=timeout_s,
        limits=limits_of_calls(walker),
    )
    told: dict[str, Json] = {"text": text, "vector": vector, "metadata_filter": wanted, "agent": agent, "user": user}
    request = {name: value for name, value in {**told, "options": options}.items() if value}
    _start(walker, branch, frame, guard, op, params, request, "search")


def _search_bound(walker: Walker) -> Grant | None:
    # the model is that of the documents, which only the activity knows
    models = walker.plan.allow.models
    return None if models is None or DEFAULT_MODEL in models else Grant(models=models)


def _start(
    walker: Walker,
    branch: Branch,
    frame: CallFrame,
    guard: GuardFrame,
    op: EmbedOp | SearchOp,
    params: EmbedParams | SearchParams,
    request: dict[str, Json],
    name: str,
) -> None:
    # both change nothing, so a call whose outcome was lost is simply made again
    call = Call(
        id=frame.call_id,
        params=params,
        summary=(op.label or name)[:MAX_SUMMARY_CHARS],
        repeatable=True,
        timeout_s=params.timeout_s,
    )
    body: dict[str, Json] = {
        "path": frame.path,
        "effect_id": frame.call_id,
        "kind": op.op.value,
        "name": params.model if isinstance(params, EmbedParams) else "",
        "attempt": guard.attempt,
        "request": request,
    }
    if op.label:
        body["label"] = op.label
    walker.start_call(branch, frame, call, body)


def _context(walker: Walker, guard: GuardFrame, allow: Grant | None) -> CallContext:
    identity = walker.identity
    return CallContext(
        tenant=identity.tenant,
        execution_id=identity.execution_id,
        path=guard.path,
        key=idempotency_key(identity.keys, guard.path),
        attempt=guard.attempt,
        allow=allow,
        trace=below(identity.trace, identity.execution_id, guard.path),
    )


# --- what is computed ----------------------------------------------------------------------------------------------


def _value(walker: Walker, branch: Branch, guard: GuardFrame, name: str, value: Any) -> Json:
    if value is None:
        return None
    return walker.evaluator.evaluate(value, branch, f"{guard.path}/{name}", guard.input)


def _text(walker: Walker, branch: Branch, guard: GuardFrame, name: str, value: Any) -> str:
    found = _value(walker, branch, guard, name, value)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise _wrong(guard.path, name, "a text", found)
    return found


def _object(walker: Walker, branch: Branch, guard: GuardFrame, name: str, value: Any) -> dict[str, Any]:
    found = _value(walker, branch, guard, name, value)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(guard.path, name, "an object", found)
    return found


def _vector(walker: Walker, branch: Branch, guard: GuardFrame, op: SearchOp) -> list[float] | None:
    found = _value(walker, branch, guard, "vector", op.vector)
    if found is None:
        return None
    if not isinstance(found, list) or not found or not all(_is_number(item) for item in found):
        raise _wrong(guard.path, "vector", "a list of numbers", found)
    if not any(found):
        raise InputRejected(f"the vector of {guard.path} has no direction: all its numbers are 0")
    return [float(item) for item in found]


def _check_options(path: str, options: dict[str, Any]) -> None:
    # what was written out was checked by the compiler; this is for what is computed
    for name, value in options.items():
        bounds = OPTION_BOUNDS.get(name)
        if value is None or bounds is None:
            continue
        fits = _is_number(value) and (name not in WHOLE_OPTIONS or value == int(value))
        if not fits or not bounds[0] <= value <= bounds[1]:
            kind = "a whole number" if name in WHOLE_OPTIONS else "a number"
            raise _wrong(path, name, f"{kind} from {bounds[0]} to {bounds[1]}", value)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(path: str, name: str, wanted: str, found: Json) -> InputRejected:
    shown = f"{found:g}" if isinstance(found, int | float) and not isinstance(found, bool) else type_name(found)
    return InputRejected(f"`{name}` of {path} must be {wanted}, not {shown}")


# --- outcomes ------------------------------------------------------------------------------------------------------


def take_lookup(walker: Walker, branch: Branch, frame: CallFrame, outcome: CallOutcome) -> None:
    """Take the outcome of the call that the topmost frame waits for.

    Raises:
        RunError: The error of the call, for the guards below.
    """
    branch.stack.pop()
    if isinstance(outcome, Failed):
        raise outcome.error
    if isinstance(outcome, Stopped):
        raise RunError("the call was cancelled by other hands", code="effect.cancelled")
    if not isinstance(outcome.value, dict):
        raise BugError(f"the call of {frame.path} ended without a result")
    count_reply(walker, outcome.value)
    check_spent(walker)
    walker.give(branch, outcome.value["output"])
