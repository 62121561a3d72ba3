"""A dry run: a task without server, model and tools, whose calls are answered from a table or made up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.core.contracts.activities import ChatParams, ToolParams
from engine.core.contracts.children import ChildParams
from engine.core.contracts.lookups import EmbedParams, SearchParams, made_up
from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput
from engine.core.plan.ir import Plan
from engine.core.plan.ops import TaskOp
from engine.core.plan.planned import refuse_planned
from engine.core.plan.render import plan_outline
from engine.core.run.effects import Call, Ok
from engine.core.run.require import unmet_requirements
from engine.core.schemas import value_problems
from engine.core.values import Json, canonical_json
from engine.dryrun.effects import START_US, Answered
from engine.dryrun.replies import chat_reply, example_of, with_calls
from engine.dryrun.running import DryRun, run_in_memory

CALLS = "$calls"
"""Member of a scripted reply: the tools that the model asks for."""
_COUNTER = re.compile(r"\[\d+\]|~\d+")


def agent_paths(path: str) -> list[str]:
    """Return the path of the agent in whose turn a step stands, as a list; empty if it stands in none."""
    around, turn, _ = path.rpartition(".turn[")
    return [around] if turn else []


def _scripted_chat(reply: Json) -> dict[str, Json]:
    if isinstance(reply, dict) and CALLS in reply:
        return with_calls(chat_reply(""), reply[CALLS])
    return chat_reply(reply if isinstance(reply, str) else canonical_json(reply))


class ScriptedReplies:
    """Answers calls from a table, and invents what the table does not say.

    Args:
        table: Replies by step label, step path, tool or task; a list is used up item by item, its last item stays.
            For prompts a text is the reply, {$calls: [{TOOL: ARGUMENTS}]} one that asks for tools, anything else is its
            JSON. The replies of an agent go by its own label or path.
    """

    def __init__(self, table: Mapping[str, Json] | None = None) -> None:
        self._table = {key: list(value) if isinstance(value, list) else [value] for key, value in (table or {}).items()}
        self.invented: dict[str, None] = {}

    def __call__(self, call: Call) -> Answered:
        """Answer one call."""
        params = call.params
        is_chat = isinstance(params, ChatParams)
        names = [call.summary, params.context.path, *agent_paths(params.context.path)]
        if isinstance(params, ToolParams):
            names.append(params.tool.name)
        elif isinstance(params, ChildParams):
            names += [call.tool, params.task.name] if call.tool else [params.task.name]
        for name in names:
            if name in self._table:
                replies = self._table[name]
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if isinstance(params, EmbedParams | SearchParams):
                    return Answered(Ok(made_up(params, reply)))
                return Answered(Ok(_scripted_chat(reply) if is_chat else reply))
        # an unlabelled prompt can be named by its path only
        self.invented[params.context.path if is_chat and call.summary.startswith("prompt") else call.summary] = None
        return Answered(Ok(self._invent(call)))

    def _invent(self, call: Call) -> Json:
        params = call.params
        if isinstance(params, ChatParams):
            if params.output_schema is not None:
                return chat_reply(canonical_json(example_of(params.output_schema)))
            if params.tool_choice == "required" and params.tools:
                function = params.tools[0]["function"]
                return with_calls(chat_reply(""), [{function["name"]: example_of(function.get("parameters"))}])
            words = str(params.messages[-1].get("content", ""))[:60]
            return chat_reply(f"(reply to: {words})", model=params.model or "dry-run")
        if isinstance(params, EmbedParams | SearchParams):
            return made_up(params)
        if not isinstance(params, ToolParams):
            name = params.task.name if isinstance(params, ChildParams) else params.task
            return {"dry_run": True, "task": name, "arguments": params.input}
        told = {"dry_run": True, "tool": params.tool.name, "arguments": params.arguments}
        if params.tool.type == "api_call":
            return {"status_code": 200, "headers": {}, "json": told, "content": ""}
        return told


def dry_run(
    plan: Plan, given: Json, *, replies: Mapping[str, Json] | None = None, answers: Sequence[Json] = ()
) -> DryRun:
    """Run a task without server, model and tools.

    Args:
        plan: The plan.
        given: The input.
        replies: See `ScriptedReplies`.
        answers: Answers to waits in order.

    Returns:
        Outcome and events.

    Raises:
        CompileError: `task.not_runnable` if something of the plan cannot be run yet.
        InvalidInput: `input.invalid` if the input does not fit the task's schema, `input.requirement` if a condition of
            the task does not hold.
    """
    refuse_planned(plan)
    problems = value_problems(given, plan.input_schema, whole="input")
    if problems:
        raise InvalidInput(f"the input does not fit the task: {'; '.join(problems)}")
    unmet = unmet_requirements(plan, given, now_us=START_US)
    if unmet:
        raise InvalidInput(f"the task does not take this input: {'; '.join(unmet)}", code="input.requirement")
    _check_replies(plan, replies or {})
    script = ScriptedReplies(replies)
    ran = run_in_memory(plan, given, script, answers=answers)
    return replace(ran, invented=tuple(script.invented))


def _check_replies(plan: Plan, replies: Mapping[str, Json]) -> None:
    rows = plan_outline(plan)
    known = {row.label for row in rows} | {row.path for row in rows} | set(plan.tools)
    known |= {op.task.partition("@")[0] for block in plan.blocks for op in block.ops if isinstance(op, TaskOp)}
    known |= {tool.runs.partition("@")[0] for tool in plan.tools.values() if tool.runs}
    for name in replies:
        if name not in known and _COUNTER.sub("", name) not in known:
            raise InvalidInput(
                f"the replies name '{name}', which is no step label, step path, tool or task of a step",
                code="replies.unknown",
                hint=did_you_mean(name, known) or "`everstep validate -v` and the events of a dry run show the paths",
            )
