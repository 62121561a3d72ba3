"""Shows a plan as an outline: each step with its place, kind and what a person would call it. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.ir import Plan
from engine.core.plan.lists import inner_blocks, named_lists, positions
from engine.core.plan.ops import (
    AgentOp,
    ApproveOp,
    EmbedOp,
    ErrorOp,
    EvaluateOp,
    EventOp,
    ForeachOp,
    GetOp,
    IfElseOp,
    ListenOp,
    LogOp,
    MapReduceOp,
    Op,
    ParallelOp,
    PromptOp,
    RaceOp,
    ReturnOp,
    SearchOp,
    SetOp,
    SleepOp,
    SwitchOp,
    TaskOp,
    ToolCallOp,
    UntilOp,
    WaitOp,
    WhileOp,
    YieldOp,
)

MAX_TITLE_CHARS = 72
_MAX_PART_CHARS = 40


@dataclass(frozen=True, slots=True)
class OutlineRow:
    """One step of an outline.

    Attributes:
        path: Path of the step without loop counters, such as `main.3.then.0`.
        kind: Its kind.
        label: The author's name for it; empty if there is none.
        title: What a person would call it.
        depth: Number of lists around it, 0 at the top of a named list.
    """

    path: str
    kind: str
    label: str
    title: str
    depth: int

    def to_json(self) -> dict[str, Any]:
        """Return {path, kind, label, title, depth}."""
        return {
            "path": self.path,
            "kind": self.kind,
            "label": self.label,
            "title": self.title,
            "depth": self.depth,
        }


def plan_outline(plan: Plan) -> list[OutlineRow]:
    """Return all steps of a plan in the order of the source, `main` first.

    Args:
        plan: The plan.

    Returns:
        One row per step; the rows of a step's inner lists follow it with a greater depth.
    """
    rows: list[OutlineRow] = []
    for name, first in named_lists(plan).items():
        for path, block in positions(plan, name, first).items():
            _add_block(plan, block, path, 0, rows)
    return rows


def _add_block(plan: Plan, number: int, path: str, depth: int, rows: list[OutlineRow]) -> None:
    for index, op in enumerate(plan.blocks[number].ops):
        here = f"{path}.{index}"
        rows.append(OutlineRow(here, op.op.value, op.label, op_title(op), depth))
        for inner in inner_blocks(op):
            _add_block(plan, inner, f"{here}.{plan.blocks[inner].name}", depth + 1, rows)


def op_title(op: Op) -> str:
    """Return what a person would call a step: its label, or its kind with a few words about it.

    Args:
        op: The step.

    Returns:
        One line of at most 72 characters.
    """
    if op.label:
        return _clip(op.label, MAX_TITLE_CHARS)
    words = _words(op)
    return _clip(f"{_verb(op)} {words}" if words else _verb(op), MAX_TITLE_CHARS)


def _verb(op: Op) -> str:
    match op:
        case ToolCallOp():
            return "tool"
        case IfElseOp():
            return "if"
        case MapReduceOp():
            return "map"
        case YieldOp():
            return "workflow"
        case WaitOp():
            return "wait for input"
        case ApproveOp():
            return "approve"
        case EventOp():
            return "wait for event"
        case _:
            return op.op.value


def _words(op: Op) -> str:
    match op:
        case PromptOp() | AgentOp():
            return _prompt_words(op.messages)
        case EmbedOp():
            return _value_words(op.text)
        case SearchOp():
            return "by a vector" if op.text is None else _value_words(op.text)
        case ToolCallOp():
            return op.tool
        case YieldOp():
            return op.workflow
        case TaskOp():
            return op.task
        case IfElseOp() | WhileOp() | UntilOp():
            return _clip(op.condition.source, _MAX_PART_CHARS)
        case SwitchOp():
            return f"{len(op.cases)} cases"
        case ForeachOp():
            return f"in {_clip(op.items.source, _MAX_PART_CHARS)}"
        case MapReduceOp():
            return f"over {_clip(op.over.source, _MAX_PART_CHARS)}"
        case ParallelOp():
            return f"{len(op.branches)} branches"
        case RaceOp():
            return f"{len(op.branches)} branches" if op.take == 1 else f"{op.take} of {len(op.branches)} branches"
        case SleepOp():
            return f"{op.seconds.value:g} s" if isinstance(op.seconds, Lit) else _value_words(op.seconds)
        case EvaluateOp() | ReturnOp():
            return _value_words(op.value)
        case SetOp():
            return _value_words(op.values)
        case GetOp():
            return _value_words(op.key)
        case ErrorOp() | LogOp():
            return _value_words(op.message)
        case EventOp():
            return op.event
        case ListenOp():
            return op.messages
        case WaitOp() | ApproveOp():
            return "" if op.info == Lit(None) else _value_words(op.info)


def _prompt_words(messages: Value) -> str:
    """Return the first words of the last message that a person wrote."""
    contents: list[str] = []
    match messages:
        case Arr():
            contents = [_content(item) for item in messages.items]
        case Lit(value=list() as items):
            contents = [_content(Lit(item)) for item in items]
        case _:
            contents = [_value_words(messages)]
    spoken = [text for text in contents if text]
    return _clip(f"“{_clip(spoken[-1], _MAX_PART_CHARS)}”", MAX_TITLE_CHARS) if spoken else ""


def _content(message: Value) -> str:
    match message:
        case Obj():
            content = message.items.get("content")
            return "" if content is None else _value_words(content)
        case Lit(value=dict() as members):
            return _value_words(Lit(members.get("content")))
        case _:
            return _value_words(message)


def _value_words(value: Value) -> str:
    match value:
        case Expr() | Tmpl():
            return _clip(value.source, _MAX_PART_CHARS)
        case Obj():
            return _clip(", ".join(value.items), _MAX_PART_CHARS)
        case Arr():
            return f"{len(value.items)} items"
        case Lit(value=str() as text):
            return _clip(text, _MAX_PART_CHARS)
        case Lit(value=dict() as members):
            return _clip(", ".join(members), _MAX_PART_CHARS)
        case Lit(value=list() as items):
            return f"{len(items)} items"
        case Lit(value=None):
            return "null"
        case Lit(value=bool() as flag):
            return "true" if flag else "false"
        case Lit():
            return str(value.value)


def _clip(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
