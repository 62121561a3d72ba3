"""Answers the calls of a task under test: from a script, by running harmless tools, from a recording, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from engine.core.contracts.activities import ChatParams, ChatResult, ToolParams, Usage
from engine.core.contracts.children import ChildParams
from engine.core.contracts.lookups import EmbedParams, SearchParams, made_up
from engine.core.diagnostics import did_you_mean
from engine.core.errors import BackendError, RunError, ToolError, run_error_from_json
from engine.core.kinds import ToolEffect
from engine.core.run.effects import Call, CallOutcome, Failed, Ok
from engine.core.values import Json, canonical_json
from engine.dryrun.effects import START_US, Answered
from engine.dryrun.replies import with_calls
from engine.dryrun.scripted import CALLS, ScriptedReplies, agent_paths
from engine.tooling.calls import call_arguments, call_failure, call_result
from engine.tooling.catalog import ToolCatalog
from engine.tooling.definition import Tool

MARKS: Final = ("$reply", "$error", "$message", CALLS, "$finish", "$tokens", "$cost", "$after")
"""Members by which an object in a script says more than a plain reply."""
TOOL_WORDS: Final = ("tool", "effect")
"""First words of the codes with which the call of a tool may fail."""
CALL_S: Final = 0.001
"""How long a scripted call takes by the virtual clock."""

_COUNTERS = re.compile(r"\[\d+\]|~\d+")

Source = Callable[[Call], Answered | None]
"""Answers a call, or leaves it to the next source."""


@dataclass(slots=True)
class CallSeen:
    """One call that a task made.

    Attributes:
        path: Step path, loop counters included.
        label: The step's label; what a person would call the call, if it has none.
        kind: `prompt`, `tool`, `embed`, `search` or `task`.
        name: Model, tool or task.
        attempt: The attempt, from 1.
        request: {messages, model, settings, …}, the arguments, or {input} of a task.
        reply: What came back: the reply's text or message, or the output of the tool or task; None if it failed.
        error: {code, message, …} if it failed.
    """

    path: str
    label: str
    kind: str
    name: str
    attempt: int
    request: dict[str, Json]
    reply: Json = None
    error: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the members as JSON."""
        return dataclasses.asdict(self)


def names_of(call: Call) -> list[str]:
    """Return the names by which a script may mean a call: path, label, path without counters; tool, task, `prompt`."""
    path = call.params.context.path
    called = "prompt"
    if isinstance(call.params, ToolParams):
        called = call.params.tool.name
    elif isinstance(call.params, ChildParams):
        called = call.params.task.name
    elif isinstance(call.params, EmbedParams | SearchParams):
        called = "embed" if isinstance(call.params, EmbedParams) else "search"
    names = [path, call.summary, *agent_paths(path)] if called == "prompt" else [path, call.summary]
    plain = [_COUNTERS.sub("", name) for name in (path, *agent_paths(path))]
    tools = [call.tool] if call.tool else []
    return list(dict.fromkeys([*names, *(plain if called == "prompt" else plain[:1]), *tools, called]))


def seen_call(call: Call) -> CallSeen:
    """Return the record of a call that was just started."""
    params = call.params
    kind, name, request = "prompt", "", {}
    if isinstance(params, ChatParams):
        name, request = params.model, chat_request(params)
    elif isinstance(params, ChildParams):
        kind, name, request = "task", params.task.name, {"input": params.input}
    elif isinstance(params, ToolParams):
        kind, name, request = "tool", params.tool.name, dict(params.arguments)
    elif isinstance(params, EmbedParams):
        kind, name, request = "embed", params.model, lookup_request(params)
    elif isinstance(params, SearchParams):
        kind, request = "search", lookup_request(params)
    return CallSeen(params.context.path, call.summary, kind, name, params.context.attempt, request)


def chat_request(params: ChatParams) -> dict[str, Json]:
    """Return what decides a model's reply."""
    request: dict[str, Json] = {"messages": params.messages, "model": params.model, "settings": params.settings}
    for key in ("tools", "tool_choice", "output_schema"):
        value = getattr(params, key)
        if value:
            request[key] = value
    if params.wants is not None:
        wants = params.wants
        if wants.models:
            request["models"] = [params.model, *wants.models]
        if wants.needs is not None:
            request["needs"] = wants.needs.to_json()
        if wants.tool_mode != "auto":
            request["tool_mode"] = wants.tool_mode
    return request


def lookup_request(params: EmbedParams | SearchParams) -> dict[str, Json]:
    """Return what decides the vectors, or what is found."""
    if isinstance(params, EmbedParams):
        told: dict[str, Json] = {"texts": params.texts, "model": params.model, "instruction": params.instruction}
    else:
        told = {name: getattr(params, name) for name in ("text", "vector", "metadata_filter", "options")}
        told |= {params.owner.kind: params.owner.id} if params.owner.kind else {}
    return {name: value for name, value in told.items() if value}


@dataclass(slots=True)
class Replies:
    """The handler of a run under test: asks its sources in order and keeps what was asked and answered.

    Attributes:
        sources: Where replies come from.
        calls: What was called.
        unanswered: Says for each call that no source had a reply for which one it is.
    """

    sources: Sequence[Source]
    calls: list[CallSeen] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    def __call__(self, call: Call) -> Answered:
        """Answer one call; without a reply it fails, and the test with it."""
        seen = seen_call(call)
        self.calls.append(seen)
        for source in self.sources:
            answered = source(call)
            if answered is not None:
                answered = _within_limit(call, answered)
                _keep(seen, answered.outcome)
                return answered
        self.unanswered.append(f"{seen.kind} '{seen.label}' at {seen.path} has no reply{_remedy(call)}")
        error = RunError(f"the test has no reply for {seen.kind} '{seen.label}' at {seen.path}", code="test.no_reply")
        seen.error = error.to_json()
        return Answered(Failed(error))

    def refused(self, call: Call, answered: Answered) -> None:
        """Keep a call that was refused for its arguments before anything could answer it."""
        seen = seen_call(call)
        self.calls.append(seen)
        _keep(seen, answered.outcome)


def _remedy(call: Call) -> str:
    params = call.params
    if not isinstance(params, ToolParams) or params.tool.type != "python":
        return ""
    return f"; write one under `replies`, or let the tool really run: `run_tools: [{params.tool.name}]`"


def _within_limit(call: Call, answered: Answered) -> Answered:
    """Let a call that takes too long end as it would in an activity."""
    if answered.after_s <= call.timeout_s:
        return answered
    limit = f"{call.timeout_s:g} s"
    if isinstance(call.params, ChatParams | EmbedParams):
        error: RunError = BackendError(
            f"the model did not answer within {limit}", code="backend.timeout", retryable=True
        )
    else:
        name = call.params.tool.name if isinstance(call.params, ToolParams) else call.summary
        error = ToolError(f"tool '{name}' took longer than {limit}", code="tool.timeout", retryable=call.repeatable)
    return Answered(Failed(error), call.timeout_s)


def _keep(seen: CallSeen, outcome: CallOutcome) -> None:
    if isinstance(outcome, Failed):
        seen.error = outcome.error.to_json()
    elif isinstance(outcome, Ok):
        seen.reply = outcome.value
        if seen.kind in ("embed", "search") and isinstance(outcome.value, dict):
            seen.reply = outcome.value.get("output")
        if seen.kind == "prompt" and isinstance(outcome.value, dict):
            message = outcome.value.get("message") or {}
            # a reply of tool calls has no text: then the whole message counts
            seen.reply = message.get("content") or message


# --- scripts -------------------------------------------------------------------------------------------------------


class Script:
    """Replies by name, or in the order of the calls.

    Args:
        table: By step label, step path (with or without loop counters), tool name, or `prompt`; a list is used up item
            by item and its last item stays. Or one list for all calls in their order.
    """

    def __init__(self, table: Mapping[str, Json] | Sequence[Json]) -> None:
        self._order: list[Json] | None = None
        self._table: dict[str, list[Json]] = {}
        if isinstance(table, Mapping):
            self._table = {key: list(value) if isinstance(value, list) else [value] for key, value in table.items()}
        else:
            self._order = list(table)
        self.used: set[str] = set()

    def __call__(self, call: Call) -> Answered | None:
        """Answer a call that the script knows."""
        if self._order is not None:
            return _allowed(call, _scripted_for(call, self._order.pop(0))) if self._order else None
        for name in names_of(call):
            replies = self._table.get(name)
            if replies:
                self.used.add(name)
                return _allowed(call, _scripted_for(call, replies.pop(0) if len(replies) > 1 else replies[0]))
        return None

    def problems(self, calls: Sequence[CallSeen]) -> list[str]:
        """Say which replies nobody asked for."""
        if self._order is not None:
            left = len(self._order)
            return [f"{left} of the replies {'was' if left == 1 else 'were'} never asked for"] if left else []
        known = [name for seen in calls for name in (seen.label, seen.path, seen.name)]
        return [_unused(name, known) for name in self._table if name not in self.used]


def _unused(name: str, known: Sequence[str]) -> str:
    near = did_you_mean(name, known)
    called = ", ".join(dict.fromkeys(known)) or "nothing"
    return f"the reply '{name}' was never asked for; {near or f'calls were: {called[:200]}'}"


def _scripted_for(call: Call, reply: Json) -> Answered:
    answered = scripted(reply, is_chat=isinstance(call.params, ChatParams))
    if isinstance(call.params, EmbedParams | SearchParams) and isinstance(answered.outcome, Ok):
        return dataclasses.replace(answered, outcome=Ok(made_up(call.params, answered.outcome.value)))
    return answered


def scripted(reply: Json, *, is_chat: bool) -> Answered:
    """Return the outcome that a line of a script means.

    Args:
        reply: A plain reply: the text of a prompt's reply (anything else is its JSON) or a tool's output. Or an object
            of MARKS: {$reply}, {$error: CODE | {code, message, retryable, details}}, {$message, $finish} for a whole
            chat message, {$calls: [{TOOL: ARGUMENTS}]} for one that asks for tools; each with $tokens, $cost
            (dollars) and $after (seconds).
        is_chat: Whether a prompt asked.
    """
    marks = {key: reply[key] for key in MARKS if key in reply} if isinstance(reply, dict) else {}
    if not marks:
        return Answered(Ok(_chat(reply) if is_chat else reply), CALL_S)
    after_s = float(marks.get("$after", CALL_S))
    if "$error" in marks:
        return Answered(Failed(_error(marks["$error"])), after_s)
    if not is_chat:
        return Answered(Ok(marks.get("$reply")), after_s)
    chat = _chat(marks.get("$reply", ""), tokens=int(marks.get("$tokens", 0)))
    if "$cost" in marks:
        chat["cost"] = f"{Decimal(str(marks['$cost'])):f}"
    if "$message" in marks:
        chat["message"] = {"role": "assistant", **marks["$message"]}
        chat["finish_reason"] = "tool_calls" if chat["message"].get("tool_calls") else "stop"
    if CALLS in marks:
        chat = with_calls(chat, marks[CALLS])
    if "$finish" in marks:
        chat["finish_reason"] = marks["$finish"]
    return Answered(Ok(chat), after_s)


def _allowed(call: Call, answered: Answered) -> Answered:
    """Let a tool fail in a script with such codes only as it can have in a worker."""
    outcome = answered.outcome
    if not isinstance(call.params, ToolParams) or not isinstance(outcome, Failed):
        return answered
    code = outcome.error.code
    if code.split(".", 1)[0] in TOOL_WORDS:
        return answered
    error = ToolError(
        f"the reply of tool '{call.params.tool.name}' has the code '{code}', which no tool can fail with: "
        f"{outcome.error.message}",
        hint="codes of tools begin with 'tool.', those of lost and stopped calls with 'effect.'",
    )
    return Answered(Failed(error), answered.after_s)


def _chat(reply: Json, *, tokens: int = 0) -> dict[str, Json]:
    text = reply if isinstance(reply, str) else canonical_json(reply)
    result = ChatResult(
        id="test",
        model="test",
        backend="test",
        created=START_US // 1_000_000,
        message={"role": "assistant", "content": text},
        finish_reason="stop",
        usage=Usage(completion_tokens=tokens, total_tokens=tokens),
    )
    return result.to_json()


def _error(given: Json) -> RunError:
    body = {"code": given} if isinstance(given, str) else dict(given)
    body.setdefault("message", f"scripted {body.get('code', 'error')}")
    return run_error_from_json(body, retryable=bool(body.get("retryable", False)))


def invented(call: Call) -> Answered:
    """Answer a call with something that fits, as `dry-run` does."""
    return ScriptedReplies()(call)


# --- tools that really run -----------------------------------------------------------------------------------------


class RealTools:
    """Runs Python tools in this process: those that do nothing to the world, and those that the test names.

    Args:
        catalog: The operator's tools.
        names: Tools that run although they read or write.
    """

    def __init__(self, catalog: ToolCatalog, names: Sequence[str] = ()) -> None:
        self._catalog = catalog
        self._names = frozenset(names)

    def __call__(self, call: Call) -> Answered | None:
        """Run the tool of a call, if it is one that may run."""
        params = call.params
        if not isinstance(params, ToolParams) or params.tool.type != "python":
            return None
        tool = self._catalog.get(params.tool.name)
        if tool is None or (tool.effect is not ToolEffect.NONE and tool.name not in self._names):
            return None
        return Answered(_run_tool(tool, params), CALL_S)


def _run_tool(tool: Tool[..., Any], params: ToolParams) -> CallOutcome:
    try:
        arguments = call_arguments(tool, params)
        try:
            # what a tool prints must not get into the output of a command
            with contextlib.redirect_stdout(sys.stderr):
                result = tool.function(**arguments)
                if inspect.isawaitable(result):
                    result = _await(result)
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # all that a tool raises is its failure
            return Failed(call_failure(tool, error))
        return Ok(call_result(tool, result))
    except ToolError as error:
        return Failed(error)


def _await(awaitable: Any) -> Any:
    """Wait for an async tool in a loop of its own, since a test may itself run in one."""
    box: list[Any] = []
    raised: list[BaseException] = []

    async def wait() -> Any:
        return await awaitable

    def work() -> None:
        try:
            box.append(asyncio.run(wait()))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return box[0]
