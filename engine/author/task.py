"""A task in Python: the same tree as that of a task file, with the places of the author's calls in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Never, cast

from engine.author.dispatch import Dispatch
from engine.author.places import Place, author_error, caller_place
from engine.author.schemas import Schema, schema_of
from engine.author.step import Steps, as_json, as_node, part, steps_of
from engine.author.tools import AnyTool, tool_entry
from engine.author.values import Condition, Duration, Value, given, plain, seconds
from engine.author.yaml_writer import write_yaml
from engine.core.diagnostics import NOWHERE
from engine.core.spec import codes, vocabulary
from engine.core.spec.nodes import MapNode
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an execution may use; reaching a limit ends it.

    Attributes:
        steps: Steps in all, those in loops counted each time.
        rounds: Rounds of loops.
        time: Time from start to end.
        tokens: Tokens of all model calls.
        cost: What the model calls may cost.
    """

    steps: int | None = None
    rounds: int | None = None
    time: Duration | None = None
    tokens: int | None = None
    cost: float | None = None

    def plain(self) -> dict[str, Json]:
        """Return the limits as a task file has them."""
        return given(
            steps=plain(self.steps, "steps"),
            rounds=plain(self.rounds, "rounds"),
            time=None if self.time is None else seconds(self.time, "time"),
            tokens=plain(self.tokens, "tokens"),
            cost=plain(self.cost, "cost"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """A condition that the input must fulfil before an execution is made.

    Attributes:
        if_: An expression; `_` is the input.
        message: What the caller is told if it is not true.
    """

    if_: Condition
    message: Value = None

    def plain(self) -> dict[str, Json]:
        """Return the rule as a task file has it."""
        return {"if": plain(self.if_, "if_"), **given(message=plain(self.message, "message"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """What the task may reach; None is everything within the tenant, an empty list nothing.

    Attributes:
        tools: Names of tools.
        models: Names of models.
        hosts: Hosts that HTTP tools may call.
        secrets: Names of secrets.
        tasks: Names of other tasks.
    """

    tools: Sequence[str] | None = None
    models: Sequence[str] | None = None
    hosts: Sequence[str] | None = None
    secrets: Sequence[str] | None = None
    tasks: Sequence[str] | None = None

    def plain(self) -> dict[str, Json]:
        """Return the bounds as a task file has them."""
        return given(
            tools=plain(self.tools, "tools"),
            models=plain(self.models, "models"),
            hosts=plain(self.hosts, "hosts"),
            secrets=plain(self.secrets, "secrets"),
            tasks=plain(self.tasks, "tasks"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        main: The steps where it starts.
        name: Its name; default: the name of the variable that holds it in a task file.
        description: For people.
        input: What its input must be: a pydantic model, another type, or a JSON Schema.
        tools: Tools of its own, and Python tools that prompts offer with `tools="all"`.
        workflows: Sub-workflows by name, for `run_workflow`.
        finally_: Steps that run at the end, however it comes; they see `error` and `output`.
        require: Conditions that the input must fulfil.
        allow: What it may reach; [] = nothing.
        limits: What an execution may use.
        dispatch: How executions are started.
        metadata: Data of the author's own.
        canonical_name: A stable name of the author's own.
        inherit_tools: Whether the agent's tools may be used as well.
        place: Where it was made.
    """

    main: Steps
    name: str = ""
    description: str = ""
    input: Schema | None = None
    tools: Sequence[AnyTool | Mapping[str, Value]] = ()
    workflows: Mapping[str, Steps] = field(default_factory=dict)
    finally_: Steps | None = None
    require: Sequence[Require] = ()
    allow: Allow | Sequence[Never] | None = None
    limits: Limits | None = None
    dispatch: Dispatch | Mapping[str, Value] | None = None
    metadata: Mapping[str, Value] | None = None
    canonical_name: str = ""
    inherit_tools: bool | None = None
    place: Place = field(init=False, compare=False, repr=False)
    _body: dict[str, Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", caller_place())
        object.__setattr__(self, "_body", self._members())

    def to_json(self, name: str = "") -> dict[str, Json]:
        """Return the task as a task file would hold it.

        Args:
            name: Name of a task that has none of its own.
        """
        members: dict[str, Json] = as_json(self._named(name))
        return members

    def to_node(self, name: str = "", file: str = "") -> MapNode:
        """Return the tree of the task for the reader of tasks, with the places of the calls that made it.

        Args:
            name: Name of a task that has none of its own.
            file: The file whose places count; what was made elsewhere has the place of its surroundings. Default: the
                file that made the task.
        """
        position = self.place.position if file in ("", self.place.file) else NOWHERE
        node = as_node(self._named(name), position, file or self.place.file)
        assert isinstance(node, MapNode)
        return node

    def to_yaml(self, name: str = "") -> str:
        """Return the task as the text of a YAML file; reading it gives the same task.

        Args:
            name: Name of a task that has none of its own.
        """
        return write_yaml(self.to_json(name))

    def _named(self, name: str) -> dict[str, Any]:
        return {"name": name, **self._body} if name and not self.name else self._body

    def _members(self) -> dict[str, Any]:
        inherit = plain(self.inherit_tools, "inherit_tools")
        return {
            **given(
                name=plain(self.name or None, "name"),
                description=plain(self.description or None, "description"),
                canonical_name=plain(self.canonical_name or None, "canonical_name"),
                metadata=plain(self.metadata, "metadata"),
                input_schema=None if self.input is None else schema_of(self.input, "input"),
                require=[part(item, Require, "require") for item in self.require] or None,
                allow=_allowed(self.allow),
                limits=None if self.limits is None else part(self.limits, Limits, "limits"),
                dispatch=_dispatched(self.dispatch),
                inherit_tools=inherit,
                tools=[tool_entry(item) for item in self.tools] or None,
            ),
            "main": steps_of(self.main, "main"),
            **{self._workflow_name(name): _as_list(steps, name) for name, steps in self.workflows.items()},
            **({} if self.finally_ is None else {"finally": steps_of(self.finally_, "finally_")}),
        }

    def _workflow_name(self, name: str) -> str:
        if name in vocabulary.TASK_KEYS:
            message = f"a sub-workflow cannot be called '{name}', since that is a setting of tasks"
            raise author_error(codes.BAD_NAME, message, "give it another name")
        return str(plain(name, "workflows"))


def _allowed(allow: Allow | Sequence[Never] | None) -> Json:
    if allow is None or (isinstance(allow, (list, tuple)) and not allow):
        return None if allow is None else []
    # a list of names would not say of which kind they are
    return part(cast("Allow", allow), Allow, "allow")


def _dispatched(dispatch: Dispatch | Mapping[str, Value] | None) -> Json:
    return dispatch.plain() if isinstance(dispatch, Dispatch) else plain(dispatch, "dispatch")


def _as_list(steps: Steps, name: str) -> list[Any]:
    # beside the settings of a task, only a list is recognised as a sub-workflow
    found = steps_of(steps, name)
    return found if isinstance(found, list) else [found]
