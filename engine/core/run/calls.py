"""Stage: steps that call a model or a tool — building the call, reading and repairing its outcome. Workflow-safe."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from engine.core.contracts.activities import CallContext, ChatParams, ToolParams
from engine.core.errors import (
    BackendError,
    BugError,
    ExpressionError,
    InputRejected,
    RunError,
    ToolError,
)
from engine.core.ids import shorten_id, unmarked_path
from engine.core.kinds import EventType
from engine.core.lang.failures import type_name
from engine.core.plan.grant import Grant
from engine.core.plan.ops import PromptOp, ToolCallOp
from engine.core.run.agent_calls import agent_op, call_mark, contract_of_call
from engine.core.run.agent_talk import agent_of, new_messages, told_request, with_conversation
from engine.core.run.approvals import approved_arguments
from engine.core.run.asking import whom_to_ask
from engine.core.run.authority import check_secrets, check_tool, tool_bound
from engine.core.run.checking import FailedCheck, ask_person, first_failed
from engine.core.run.effects import Call, CallOutcome, Failed, Ok, Stopped
from engine.core.run.frames import CallFrame, GuardFrame
from engine.core.run.guards import attempt_id
from engine.core.run.spending import check_may_spend, check_spent, count_reply, keep_of, limits_of_calls
from engine.core.run.state import Branch
from engine.core.run.toolwaits import waits_for_others
from engine.core.run.tracing import below
from engine.core.run.walker import Walker
from engine.core.schemas import value_problems
from engine.core.values import Json, to_json_value

LEAST_ROUND_S = 1.0
"""A repair round is sent even if the rounds before it used up the attempt's time; it fails by its own timeout."""
MAX_SUMMARY_CHARS = 120

_FENCE = re.compile(r"```[a-zA-Z]*")


@dataclass(frozen=True, slots=True)
class Repair:
    """A reply that does not fit its schema, or its checks, is sent back with what is wrong."""

    problems: tuple[str, ...]
    error: RunError | None = None
    is_cut: bool = False


def idempotency_key(keys: str, path: str) -> str:
    """Return the key of a step visit: execution (see `Identity.keys`), path and loop counters, never attempt or run."""
    return f"{keys}:{shorten_id(unmarked_path(path))}"


def begin_call(walker: Walker, branch: Branch, guard: GuardFrame, op: PromptOp | ToolCallOp) -> None:
    """Push the frame of a call; the interpreter starts it as soon as calls may start."""
    path = guard.path
    frame = CallFrame(path, guard.input, shorten_id(attempt_id(path, guard.attempt)), parked=True)
    if isinstance(op, PromptOp) and agent_of(branch, guard, op) is None:
        frame.messages = build_messages(walker, branch, op, path, guard.input)
    branch.stack.append(frame)


def send_call(walker: Walker, branch: Branch, frame: CallFrame) -> None:
    """Start the call of a frame.

    Raises:
        RunError: If the arguments cannot be computed or do not fit, or a limit is reached.
    """
    guard = branch.stack[-2]
    assert isinstance(guard, GuardFrame)
    op = walker.op_at(walker.step_frame_below(branch, guard))
    if isinstance(op, PromptOp):
        _send_prompt(walker, branch, frame, guard, op)
    elif isinstance(op, ToolCallOp):
        _send_tool(walker, branch, frame, guard, op)


def _context(walker: Walker, guard: GuardFrame, allow: Grant | None, suffix: str = "") -> CallContext:
    identity = walker.identity
    return CallContext(
        tenant=identity.tenant,
        execution_id=identity.execution_id,
        path=guard.path,
        key=idempotency_key(identity.keys, guard.path) + suffix,
        attempt=guard.attempt,
        allow=allow,
        trace=below(identity.trace, identity.execution_id, guard.path),
    )


# --- prompts -------------------------------------------------------------------------------------------------------


def build_messages(
    walker: Walker, branch: Branch, op: PromptOp, path: str, given: Json, *, instructions: str | None = None
) -> list[dict[str, Any]]:
    """Evaluate a prompt's messages; a text is one user message, the instructions come first if no system message does.

    Args:
        walker: The execution.
        branch: The branch.
        op: The step.
        path: Its path.
        given: Its input.
        instructions: Those to put first; None = those of the task's agent.

    Raises:
        RunError: `expression.…` if they cannot be computed, `input.rejected` if they are no messages.
    """
    value = walker.evaluator.evaluate(op.messages, branch, f"{path}/messages", given)
    raw = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(raw, list) or not raw:
        raise InputRejected(f"the prompt of {path} is not a text or a list of messages", hint="give role and content")
    messages: list[dict[str, Any]] = []
    for number, message in enumerate(raw):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InputRejected(
                f"message {number} of {path} is not an object with a role", hint="give role and content"
            )
        messages.append(message)
    instructions = walker.plan.agent.instructions if instructions is None else instructions
    if instructions and not any(message["role"] == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": instructions})
    return messages


def _send_prompt(walker: Walker, branch: Branch, frame: CallFrame, guard: GuardFrame, op: PromptOp) -> None:
    check_may_spend(walker)
    own = walker.evaluator.evaluate(op.settings, branch, f"{guard.path}/settings", guard.input)
    asked = whom_to_ask(walker.plan, op, own, guard.path)
    agent = agent_of(branch, guard, op)
    messages = (frame.messages or []) if agent is None else new_messages(agent)
    timeout_s = _time_of_round(walker, frame, op)
    suffix = f"/repair{frame.round}" if frame.round else ""
    params = ChatParams(
        context=_context(walker, guard, asked.bound, suffix),
        messages=messages,
        model=asked.model,
        settings=asked.settings,
        tools=list(op.tools),
        tool_choice=op.tool_choice,
        output_schema=op.output_schema,
        timeout_s=timeout_s,
        wants=asked.wants,
        limits=limits_of_calls(walker),
        keep=keep_of(walker, branch, op.mods.cache, guard.path, guard.input, guard.attempt),
    )
    label = op.label if agent is None else agent_op(walker, branch, agent).label
    summary = label or f"prompt {asked.model}".strip()
    request: dict[str, Json] = {"messages": messages, **asked.to_json()}
    if agent is not None:
        params = with_conversation(walker, agent, frame, op, params)
        request |= told_request(agent, params)
    call = Call(id=frame.call_id, params=params, summary=_clip(summary), repeatable=True, timeout_s=timeout_s)
    walker.start_call(branch, frame, call, _started(frame, guard, op, asked.model, request))


def _time_of_round(walker: Walker, frame: CallFrame, op: PromptOp) -> float:
    """Return what is left of the attempt's time; without a `timeout` each round has the longest time of a call."""
    limit_s = op.mods.timeout_s
    if limit_s is None:
        return walker.plan.defaults.chat_timeout_s
    return max(round(limit_s - frame.spent_s, 3), min(LEAST_ROUND_S, limit_s))


def chat_output(result: dict[str, Json], parsed: Json = None, *, has_parsed: bool = False) -> dict[str, Json]:
    """Return a model's reply in the shape that tasks see: an OpenAI chat completion.

    Args:
        result: ChatResult as JSON.
        parsed: The object of a structured reply.
        has_parsed: Whether there is one; it stands as `choices[0].message.parsed`.
    """
    message = dict(result["message"])
    if has_parsed:
        message["parsed"] = parsed
    return {
        "id": result["id"],
        "object": "chat.completion",
        "created": result["created"],
        "model": result["model"],
        "backend": result["backend"],
        "choices": [{"index": 0, "finish_reason": result["finish_reason"], "message": message, **_likely(result)}],
        "usage": result.get("usage"),
    }


def _likely(result: dict[str, Json]) -> dict[str, Json]:
    """Return how likely the tokens were, as a choice has it, if the backend told it."""
    told = result.get("logprobs")
    return {} if told is None else {"logprobs": {"content": told}}


def parse_reply(text: Json) -> tuple[Json, str]:
    """Read the JSON of a structured reply, code fences or not.

    Returns:
        (value, "") or (None, what is wrong).
    """
    if not isinstance(text, str) or not text.strip():
        return None, "the reply is empty"
    try:
        parsed = json.loads(_unfenced(text), parse_constant=_no_constant)
        return to_json_value(parsed, where="the reply"), ""
    except ExpressionError as error:
        return None, error.message
    except (ValueError, RecursionError) as error:
        return None, f"the reply is not JSON: {error}"


def _unfenced(text: str) -> str:
    """Return what a code fence around a whole text holds; without one the text as it is."""
    # no pattern for all of it: models that go astray write thousands of blanks, which it would try over and over
    whole = text.strip()
    opened = _FENCE.match(whole)
    if opened is None or not whole.endswith("```") or len(whole) < opened.end() + 3:
        return text
    inner = whole[opened.end() : -3]
    line_end = inner.rfind("\n", 0, len(inner) - len(inner.lstrip()))
    return text if line_end < 0 else inner[line_end + 1 :].rstrip()


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON value")


def read_reply(walker: Walker, op: PromptOp, result: dict[str, Json]) -> Json | Repair:
    """Turn a ChatResult into the step's output, or say what has to be repaired.

    Raises:
        BackendError: `backend.tool_calls` if `unwrap` meets a reply that only calls tools.
    """
    count_reply(walker, result)
    message = result["message"]
    if op.output_schema is not None and not message.get("tool_calls"):
        parsed, problem = parse_reply(message.get("content"))
        problems = [] if problem else value_problems(parsed, op.output_schema)
        if problem or problems:
            cut = _cut_off(result)
            # where the text of half a reply ends is nothing that anybody can act on
            return Repair((*([cut or problem] if cut or problem else []), *problems), is_cut=bool(cut))
        return parsed if op.unwrap else chat_output(result, parsed, has_parsed=True)
    if not op.unwrap:
        return chat_output(result)
    if message.get("tool_calls"):
        raise BackendError(
            "the model answered with tool calls, which `unwrap` cannot turn into text",
            code="backend.tool_calls",
            hint="leave `unwrap` out and look at choices[0].message.tool_calls",
        )
    return message.get("content") or ""


def _cut_off(result: dict[str, Json]) -> str:
    if result.get("finish_reason") != "length":
        return ""
    used = (result.get("usage") or {}).get("completion_tokens")
    return f"the reply was cut off{f' after {used} tokens' if used else ''} (max_tokens)"


def ask_again(
    walker: Walker, branch: Branch, frame: CallFrame, op: PromptOp, result: dict[str, Json], repair: Repair
) -> None:
    """Send a reply that does not fit back to the model.

    Raises:
        BackendError: `backend.bad_reply` when all repair rounds are used up.
    """
    problems = "; ".join(repair.problems)
    error = repair.error or BackendError(
        f"the model's reply does not fit the output schema: {problems}",
        code="backend.bad_reply",
        hint="raise max_tokens in the settings of the step, or ask for less"
        if repair.is_cut
        else "simplify output_schema, raise max_tokens or use a stronger model",
        retryable=False,
        details={"reply": str(result["message"].get("content"))[:2000], "rounds": frame.round},
    )
    if frame.round >= op.repair:
        raise error
    guard = branch.stack[-2]
    assert isinstance(guard, GuardFrame)
    walker.emit(
        EventType.ATTEMPT_FAILED,
        {
            "path": frame.path,
            "effect_id": frame.call_id,
            "kind": op.op.value,
            "attempt": guard.attempt,
            "error": {"code": error.code, "message": error.message, "details": error.details},
            "retry_in_s": 0,
            "repair": frame.round + 1,
        },
    )
    frame.round += 1
    frame.spent_s += float(result.get("took_s") or 0.0)
    frame.call_id = shorten_id(f"{attempt_id(frame.path, guard.attempt)}/repair{frame.round}")
    frame.messages = [
        *(frame.messages or []),
        {"role": "assistant", "content": result["message"].get("content") or ""},
        {
            "role": "user",
            "content": f"That does not fit: {problems}. Answer again with nothing but the corrected "
            + ("reply." if op.output_schema is None else "JSON."),
        },
    ]
    frame.parked = True


# --- tools ---------------------------------------------------------------------------------------------------------


def _send_tool(walker: Walker, branch: Branch, frame: CallFrame, guard: GuardFrame, op: ToolCallOp) -> None:
    block = walker.step_frame_below(branch, guard)
    contract = contract_of_call(walker, branch, block, op)
    if frame.replied:
        take_outcome(walker, branch, frame, Ok(frame.reply))
        return
    if guard.decided is None:
        path = f"{guard.path}/arguments"
        arguments, frame.secrets = walker.evaluator.arguments(op.arguments, branch, path, guard.input)
    else:
        arguments, frame.secrets = approved_arguments(op.tool, guard.decided), guard.decided.get("secrets", [])
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ToolError(
            f"the arguments of tool '{op.tool}' are not an object but {type_name(arguments)}",
            code="tool.bad_arguments",
            hint="write `arguments:` as an object",
        )
    check_tool(walker.plan, contract, arguments)
    check_secrets(walker.plan, contract, frame.secrets)
    if waits_for_others(walker, branch, frame, op, contract, arguments):
        return
    if contract.runs:
        # still parked: the interpreter goes on with it as with the call of a step that runs a task
        frame.runs, frame.input = contract.runs, arguments
        return
    # whoever makes the call need not know
    if contract.approve or contract.own_approve:
        contract = replace(contract, approve=(), own_approve=())
    timeout_s = op.mods.timeout_s or contract.timeout_s
    bound = tool_bound(walker.plan, contract, frame.secrets)
    context = _context(walker, guard, bound, call_mark(block, op, arguments))
    keep = keep_of(walker, branch, op.mods.cache, guard.path, guard.input, guard.attempt)
    params = ToolParams(
        context=context, tool=contract, arguments=arguments, timeout_s=timeout_s, keep=keep, secrets=frame.secrets
    )
    call = Call(
        id=frame.call_id,
        params=params,
        summary=_clip(op.label or op.tool),
        repeatable=contract.repeatable,
        timeout_s=timeout_s,
    )
    walker.start_call(branch, frame, call, _started(frame, guard, op, op.tool, {"arguments": arguments}))


# --- outcomes ------------------------------------------------------------------------------------------------------


def take_outcome(walker: Walker, branch: Branch, frame: CallFrame, outcome: CallOutcome) -> None:
    """Take the outcome of the call that the topmost frame waits for.

    Raises:
        RunError: The error of the call, for the guards below.
    """
    guard = branch.stack[-2]
    assert isinstance(guard, GuardFrame)
    op = walker.op_at(walker.step_frame_below(branch, guard))
    if isinstance(outcome, Failed):
        branch.stack.pop()
        raise outcome.error
    if isinstance(outcome, Stopped):
        branch.stack.pop()
        raise RunError("the call was cancelled by other hands", code="effect.cancelled")
    if isinstance(op, PromptOp):
        _take_reply(walker, branch, frame, op, outcome)
    elif isinstance(op, ToolCallOp):
        found = first_failed(walker, branch, op, frame.path, outcome.value)
        _take_checked(walker, branch, frame, op, outcome.value, found)
    else:
        raise BugError(f"a {op.op} step made a call")


def _take_reply(walker: Walker, branch: Branch, frame: CallFrame, op: PromptOp, outcome: Ok) -> None:
    reply = read_reply(walker, op, outcome.value)
    if isinstance(reply, Repair):
        ask_again(walker, branch, frame, op, outcome.value, reply)
        return
    check_spent(walker)
    found = first_failed(walker, branch, op, frame.path, reply)
    if found is not None and found.check.on_fail == "repair" and frame.round < op.repair:
        ask_again(walker, branch, frame, op, outcome.value, Repair((found.message,), found.error(reply)))
        return
    _take_checked(walker, branch, frame, op, reply, found)


def _take_checked(
    walker: Walker, branch: Branch, frame: CallFrame, op: PromptOp | ToolCallOp, output: Json, found: FailedCheck | None
) -> None:
    branch.stack.pop()
    if found is None:
        walker.give(branch, output)
    elif found.check.on_fail == "ask":
        ask_person(walker, branch, op, frame.path, frame.call_id, found, output)
    else:
        raise found.error(output)


def _started(
    frame: CallFrame, guard: GuardFrame, op: PromptOp | ToolCallOp, name: str, request: dict[str, Json]
) -> dict[str, Json]:
    body: dict[str, Json] = {
        "path": frame.path,
        "effect_id": frame.call_id,
        "kind": op.op.value,
        "name": name,
        "attempt": guard.attempt,
        "request": request,
    }
    if op.label:
        body["label"] = op.label
    return body


def _clip(text: str) -> str:
    return text if len(text) <= MAX_SUMMARY_CHARS else f"{text[: MAX_SUMMARY_CHARS - 1]}…"
