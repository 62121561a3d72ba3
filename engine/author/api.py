"""The author API: everything that `from engine import …` offers, gathered from the modules of this package."""

from __future__ import annotations

from engine.author.agents import Approval, Next, SearchOptions, ToolRule, agent, embed, search
from engine.author.blocks import (
    Case,
    case,
    foreach,
    if_,
    listen,
    map_,
    otherwise,
    parallel,
    race,
    switch,
    until,
    while_,
)
from engine.author.calls import (
    Message,
    Settings,
    assistant,
    call_tool,
    prompt,
    run_task,
    run_workflow,
    system,
    user,
)
from engine.author.dispatch import Collect, Concurrency, Cron, Debounce, Dispatch, Singleton, Trigger
from engine.author.plain_steps import error, evaluate, get, log, return_, set_, sleep
from engine.author.step import Cache, Check, Modifiers, Retry, Step, Steps
from engine.author.task import Allow, Limits, Require, Task
from engine.author.tools import FunctionTool, HttpTool
from engine.author.values import Expr, Value, expr
from engine.author.waits import approve, wait_for_event, wait_for_input
from engine.tooling import Tool, ToolContext, tool

__all__ = [
    "Allow",
    "Approval",
    "Cache",
    "Case",
    "Check",
    "Collect",
    "Concurrency",
    "Cron",
    "Debounce",
    "Dispatch",
    "Expr",
    "FunctionTool",
    "HttpTool",
    "Limits",
    "Message",
    "Modifiers",
    "Next",
    "Require",
    "Retry",
    "SearchOptions",
    "Settings",
    "Singleton",
    "Step",
    "Steps",
    "Task",
    "Tool",
    "ToolContext",
    "ToolRule",
    "Trigger",
    "Value",
    "agent",
    "approve",
    "assistant",
    "call_tool",
    "case",
    "embed",
    "error",
    "evaluate",
    "expr",
    "foreach",
    "get",
    "if_",
    "listen",
    "log",
    "map_",
    "otherwise",
    "parallel",
    "prompt",
    "race",
    "return_",
    "run_task",
    "run_workflow",
    "search",
    "set_",
    "sleep",
    "switch",
    "system",
    "tool",
    "until",
    "user",
    "wait_for_event",
    "wait_for_input",
    "while_",
]
