"""What steps and tasks are made of: names, schemas, policies, rules, with their places in the source. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.core.diagnostics import NOWHERE, Position
from engine.core.spec.nodes import Node
from engine.core.values import Json

OnItemError = Literal["fail", "collect", "skip"]

OnOverflow = Literal["error", "truncate", "summarise"]

ToolMode = Literal["auto", "native", "json"]


@dataclass(frozen=True, slots=True)
class NameSpec:
    """A name and where it stands."""

    text: str
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True)
class SchemaSpec:
    """A JSON Schema and the node it was read from."""

    value: Json
    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySpec:
    """The author's retry policy; durations in seconds."""

    attempts: int = 1
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 30.0
    on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """What must hold of a result, what is said if it does not, and what is done then; None = by the step's kind."""

    condition: Node
    message: Node | None = None
    on_fail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """How long the outcome of an equal call is used again, and what else must be the same for that."""

    ttl_s: float
    key: Node | None = None
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsSpec:
    """What whoever answers must be able to do, and may cost at most; None = not looked at."""

    tools: bool = False
    vision: bool = False
    json_schema: bool = False
    context: int | None = None
    max_price: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalSpec:
    """Which calls of a tool a person has to approve; without condition all."""

    condition: Node | None = None
    info: Node | None = None
    deadline: Node | None = None
    default: Node | None = None


@dataclass(frozen=True, slots=True)
class NextSpec:
    """A tool that may follow another one, if a condition on that one's result holds."""

    tool: NameSpec
    condition: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRuleSpec:
    """What an agent must observe about one of its tools.

    Attributes:
        tool: The tool.
        first: Whether it must be called before any other.
        next: What alone may be called right after it; None = anything.
        only_after: The tools right after which it may be called; empty = any time.
        at_most: Most calls.
        ends: Whether the loop ends with its result.
        required: Whether the loop cannot end before it was called.
        approve: Which calls wait for a person; None = none.
        path: Its place in the structure.
    """

    tool: NameSpec
    first: bool = False
    next: tuple[NextSpec, ...] | None = None
    only_after: tuple[NameSpec, ...] = ()
    at_most: int | None = None
    ends: bool = False
    required: bool = False
    approve: ApprovalSpec | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionToolSpec:
    """A function tool that is written out in a prompt step."""

    name: NameSpec
    description: str = ""
    parameters: SchemaSpec | None = None
