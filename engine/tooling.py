"""What operators write Python tools with: the `@tool` decorator, its context, a set of tools, and how calls end."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.contracts.failures import clip
from engine.core.contracts.pools import POOL_HINT, is_pool
from engine.core.errors import ExpressionError, InvalidInput, ToolError
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.core.values import Json, to_json_value

P = ParamSpec("P")
R = TypeVar("R")

Effect: TypeAlias = ToolEffect | Literal["none", "read", "write", "external"]
"""What a tool does to the world."""

DEFAULT_TIMEOUT_S = 60.0
MAX_MESSAGE_CHARS = 500

TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_ARGUMENT_LINE = re.compile(r"(\*{0,2}\w+)(?:\s*\([^)]*\))?:\s*(.*)")
_OWN_CODE = re.compile(r"tool\.\S+\Z")
_SECTION = re.compile(r"(args|arguments|returns|raises|yields|examples?|notes?|attributes):\s*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Who calls a tool; passed to a tool that has a parameter annotated `ToolContext`.

    Attributes:
        idempotency_key: The same for every repetition of this call; hand it on to receivers that know such keys.
        execution_id: The execution.
        path: Step path of the call.
        attempt: The attempt, from 1.
        tenant: Tenant id.
        report: Takes what `progress` is told; None = nobody looks.
    """

    idempotency_key: str
    execution_id: str
    path: str
    attempt: int
    tenant: str
    report: Callable[[str | float], None] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, called: CallContext, report: Callable[[str | float], None] | None = None) -> ToolContext:
        """Return what a tool may know of a call."""
        return cls(
            idempotency_key=called.key,
            execution_id=called.execution_id,
            path=called.path,
            attempt=called.attempt,
            tenant=called.tenant,
            report=report,
        )

    def progress(self, told: str | float) -> None:
        """Say how far the call is, from any thread and as often as one likes: the last word of each second counts.

        Args:
            told: A text, of which 500 characters are kept, or the part that is done, from 0 to 1.

        Raises:
            ValueError: If a number is below 0 or above 1.
        """
        if not isinstance(told, str) and not 0 <= told <= 1:
            raise ValueError(f"progress is a text or a number from 0 to 1, not {told}")
        if self.report is not None:
            self.report(clip(told, MAX_MESSAGE_CHARS) if isinstance(told, str) else float(told))


@dataclass(frozen=True)
class Tool(Generic[P, R]):
    """A Python function that tasks may call; made by `@tool` and still callable as the function.

    Attributes:
        function: The function itself, async or not.
        name: The name by which steps call it.
        description: For models and people.
        effect: What it does to the world.
        idempotent: Whether a repeated call with the same key does no harm.
        timeout_s: Longest time of one call in seconds.
        process: Whether each call runs in a process of its own, which is killed when the call is cancelled.
        pool: Pool of workers that makes the calls; empty = every worker does.
    """

    function: Callable[P, R]
    name: str
    description: str
    effect: ToolEffect
    idempotent: bool
    timeout_s: float
    process: bool = False
    pool: str = ""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def contract(self) -> ToolContract:
        """Return what a plan needs to know of the tool, with the JSON Schema of its parameters.

        Raises:
            InvalidInput: `config.bad_tool` if a parameter's type has no JSON Schema.
        """
        return ToolContract(
            name=self.name,
            type="python",
            parameters=self.parameters,
            effect=self.effect,
            idempotent=self.idempotent,
            description=self.description,
            timeout_s=self.timeout_s,
            pool=self.pool,
        )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments; derived on first use, when all names in the annotations exist."""
        try:
            schema = self._model.model_json_schema(by_alias=True)
        except Exception as error:  # pydantic raises many classes here, and each means the same to the author
            raise InvalidInput(
                f"tool '{self.name}': its parameters have no JSON Schema: {error}",
                code="config.bad_tool",
                hint="annotate parameters with types that JSON can carry, or with pydantic models",
            ) from error
        for member in schema.get("properties", {}).values():
            member.pop("title", None)
        return {key: value for key, value in schema.items() if key not in ("title", "description")}

    def bind(self, arguments: Mapping[str, Any], context: ToolContext) -> dict[str, Any]:
        """Turn JSON arguments into the keyword arguments of the function.

        Args:
            arguments: JSON object.
            context: Passed on if the function asks for it.

        Returns:
            Typed values by parameter name; parameters that were not given keep the function's own defaults.

        Raises:
            pydantic.ValidationError: If an argument does not fit its annotation.
        """
        bound = self._model.model_validate(arguments)
        given = bound.model_fields_set
        result = {name: getattr(bound, attribute) for attribute, name in self._attributes.items() if attribute in given}
        if bound.model_extra:
            result.update(bound.model_extra)
        if self._context_parameter:
            result[self._context_parameter] = context
        return result

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def _context_parameter(self) -> str:
        named = [name for name in inspect.signature(self.function).parameters if self._hints.get(name) is ToolContext]
        return named[0] if named else ""

    @cached_property
    def _attributes(self) -> dict[str, str]:
        # attribute names of our own, because a parameter may be called `json` or `_x`, which a model cannot have
        names = [
            parameter.name
            for parameter in inspect.signature(self.function).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != self._context_parameter
        ]
        return {f"p{index}": name for index, name in enumerate(names)}

    @cached_property
    def _model(self) -> type[BaseModel]:
        signature = inspect.signature(self.function)
        described = _argument_docs(inspect.getdoc(self.function) or "")
        fields: dict[str, Any] = {}
        for attribute, name in self._attributes.items():
            default = signature.parameters[name].default
            fields[attribute] = (
                self._hints.get(name, Any),
                Field(
                    default=... if default is inspect.Parameter.empty else default,
                    alias=name,
                    description=described.get(name),
                ),
            )
        takes_more = any(item.kind is item.VAR_KEYWORD for item in signature.parameters.values())
        config = ConfigDict(extra="allow" if takes_more else "forbid", arbitrary_types_allowed=False)
        return create_model(self.name, __config__=config, **fields)


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    effect: Effect = ToolEffect.WRITE,
    idempotent: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    process: bool = False,
    pool: str = "",
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    description: str = "",
    effect: Effect = ToolEffect.WRITE,
    idempotent: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    process: bool = False,
    pool: str = "",
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Make a function a tool that tasks may call; used bare or with keywords.

    The function's annotations become the JSON Schema of its arguments, its docstring their description. A tool counts
    as a write that must not be repeated unless it says otherwise: declare `effect="read"` or `idempotent=True` to have
    it tried again after a transient error or the loss of a worker.

    Args:
        function: An async or ordinary function with named parameters; ordinary ones run in a thread.
        name: The name by which steps call it; default: the function's.
        description: For models and people; default: the first paragraph of the docstring.
        effect: `none`, `read`, `write` or `external`.
        idempotent: Whether a repeated call with the same idempotency key does no harm.
        timeout_s: Longest time of one call in seconds.
        process: Whether each call runs in a process of its own, which is killed when the call is cancelled or out of
            time; a thread could only be left behind. It costs the start of a Python process.
        pool: Pool of workers that makes the calls, such as `gpu`: those started with `everstep worker --pool gpu`.

    Returns:
        The tool, or a decorator if called with keywords.

    Raises:
        InvalidInput: `config.bad_tool` if the name, the effect, the time, the pool or the shape of the function will
            not do.
    """

    def decorate(target: Callable[P, R]) -> Tool[P, R]:
        label = name or getattr(target, "__name__", "")
        _check(target, label, effect, timeout_s)
        _check_pool(label, pool)
        return Tool(
            function=target,
            name=label,
            description=description or _summary(inspect.getdoc(target) or ""),
            effect=ToolEffect(effect),
            idempotent=idempotent,
            timeout_s=float(timeout_s),
            process=process,
            pool=pool,
        )

    return decorate if function is None else decorate(function)


@dataclass(frozen=True)
class ToolCatalog:
    """The operator's tools by name; a value that is built at start and passed on.

    Attributes:
        tools: Those in Python.
        others: Contracts of those that adapters of the worker call, such as integrations.
        sources: Name and file of the module where each of those in Python was found.
        rules: What everstep.toml says of those in Python, by name: members of their contracts.
    """

    tools: Mapping[str, Tool[..., Any]] = field(default_factory=dict)
    others: Mapping[str, ToolContract] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", MappingProxyType(dict(self.tools)))
        object.__setattr__(self, "others", MappingProxyType(dict(self.others)))

    @classmethod
    def of(cls, *tools: Tool[..., Any]) -> ToolCatalog:
        """Return a catalog of these tools.

        Raises:
            InvalidInput: `config.duplicate_tool` if two of them have one name.
        """
        by_name: dict[str, Tool[..., Any]] = {}
        for item in tools:
            if by_name.setdefault(item.name, item) is not item:
                raise InvalidInput(f"two tools are called '{item.name}'", code="config.duplicate_tool")
        return cls(by_name)

    def with_tools(self, tools: Iterable[Tool[..., Any]]) -> ToolCatalog:
        """Return a catalog that has these Python tools as well; they win over others of their names."""
        return dataclasses.replace(self, tools={**self.tools, **{tool.name: tool for tool in tools}})

    def get(self, name: str) -> Tool[..., Any] | None:
        """Return the Python tool of that name, or None."""
        return self.tools.get(name)

    def contracts(self) -> dict[str, ToolContract]:
        """Return the contracts of all tools by name."""
        own = {
            name: dataclasses.replace(item.contract(), **self.rules.get(name, {})) for name, item in self.tools.items()
        }
        return {**self.others, **own}

    def source_of(self, name: str) -> tuple[str, str]:
        """Return name and file of the module where a Python tool is found again by another process.

        Raises:
            KeyError: If there is no such tool.
        """
        if name in self.sources:
            return self.sources[name]
        function = self.tools[name].function
        return function.__module__, str(getattr(function, "__globals__", {}).get("__file__", ""))


# --- how a call begins and ends; the same in a worker and in tests ---------------------------------------------------


def call_arguments(
    tool: Tool[..., Any], params: ToolParams, report: Callable[[str | float], None] | None = None
) -> dict[str, Any]:
    """Return the keyword arguments of a call.

    Args:
        tool: The tool.
        params: The call.
        report: Takes what the tool says of its progress.

    Raises:
        ToolError: `tool.bad_arguments` if they do not fit the function.
    """
    try:
        return tool.bind(params.arguments, ToolContext.of(params.context, report))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "/".join(str(part) for part in first["loc"]) or "arguments"
        raise ToolError(
            f"tool '{tool.name}' does not take these arguments: {place}: {clip(first['msg'], MAX_MESSAGE_CHARS)}",
            code="tool.bad_arguments",
        ) from error


def call_result(tool: Tool[..., Any], returned: Any) -> Json:
    """Return as JSON what a function returned: pydantic models and dataclasses are dumped, wherever they stand.

    Raises:
        ToolError: `tool.bad_result` if JSON cannot hold it.
    """
    try:
        return to_json_value(_plain(returned), where=f"the result of tool '{tool.name}'")
    except (ExpressionError, RecursionError) as error:
        raise ToolError(
            str(error) or f"the result of tool '{tool.name}' is nested without end",
            code="tool.bad_result",
            hint="return text, numbers, lists, objects, dataclasses or pydantic models",
        ) from error


def call_failure(tool: Tool[..., Any], raised: BaseException) -> ToolError:
    """Return the error of a call whose function raised something.

    Args:
        tool: The tool.
        raised: A ToolError with a code of its own below `tool.` keeps it; everything else becomes `tool.failed`.
    """
    told = clip(raised.message if isinstance(raised, ToolError) else str(raised), MAX_MESSAGE_CHARS)
    if isinstance(raised, ToolError) and _OWN_CODE.match(raised.code):
        # the tool's own words, but bounded, and with details that can travel
        try:
            details = to_json_value(raised.details)
        except ExpressionError as reason:
            details = {"dropped": reason.message}
        return ToolError(told, code=raised.code, hint=raised.hint, retryable=raised.retryable, details=details)
    facts = {
        "exception": type(raised).__name__,
        "traceback": clip("".join(_frames(tool, raised)[-5:])),
    }
    if isinstance(raised, ToolError):
        # other first words belong to other speakers: a tool must not pass for a limit or a model
        code = clip(str(raised.code), 100)
        return ToolError(
            f"tool '{tool.name}' raised an error with the code '{code}', which does not begin with 'tool.': {told}",
            code="tool.failed",
            hint=f"raise ToolError with a code such as 'tool.{re.sub(r'[^A-Za-z0-9_]+', '_', code)}'",
            details={**facts, "code": code},
        )
    return ToolError(f"tool '{tool.name}' failed: {type(raised).__name__}: {told}", code="tool.failed", details=facts)


def _frames(tool: Tool[..., Any], raised: BaseException) -> list[str]:
    """Return the frames of a traceback as text, from the tool's own function on: those around it are ours."""
    frames = list(traceback.walk_tb(raised.__traceback__))
    own = inspect.unwrap(tool.function).__code__
    first = next((number for number, (frame, _) in enumerate(frames) if frame.f_code is own), 0)
    return traceback.format_list(traceback.StackSummary.extract(iter(frames)))[first:]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value


# --- reading functions -----------------------------------------------------------------------------------------------


def _check(target: Any, name: str, effect: ToolEffect | str, timeout_s: float) -> None:
    def refuse(reason: str, hint: str = "") -> InvalidInput:
        return InvalidInput(f"tool '{name}' {reason}", code="config.bad_tool", hint=hint)

    if not inspect.isfunction(target):
        raise refuse("is not made of a function", "put @tool on a plain or async function")
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise refuse("is a generator", "return a list instead of yielding")
    if not TOOL_NAME.match(name):
        raise refuse("has a name that models cannot call", "use letters, digits, _ and -, at most 64 characters")
    if effect not in set(ToolEffect):
        raise refuse(f"has the unknown effect '{effect}'", f"use one of {', '.join(ToolEffect)}")
    if not timeout_s > 0:
        raise refuse(f"has a time limit of {timeout_s} s", "timeout_s must be above 0")
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise refuse(f"takes '{parameter.name}' by position only", "arguments are passed by name")
        if parameter.default is not parameter.empty and not _is_json(parameter.default):
            raise refuse(
                f"has a default for '{parameter.name}' that JSON cannot hold", "use None and replace it inside"
            )


def _check_pool(name: str, pool: str) -> None:
    if pool and not is_pool(pool):
        raise InvalidInput(
            f"tool '{name}' has a pool that cannot be called '{pool}'",
            code="config.bad_tool",
            hint=POOL_HINT,
        )


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, default=_dump_model, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _dump_model(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)


def _summary(doc: str) -> str:
    return " ".join(doc.split("\n\n", 1)[0].split())


def _argument_docs(doc: str) -> dict[str, str]:
    """Read the `Args:` section of a Google docstring: {name: text}."""
    found: dict[str, str] = {}
    inside, indent, current = False, -1, ""
    for line in doc.splitlines():
        text = line.strip()
        if _SECTION.match(text) and line == line.lstrip():
            inside, indent, current = text.lower().startswith("arg"), -1, ""
            continue
        if not inside or not text:
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent < 0 else indent
        match = _ARGUMENT_LINE.match(text) if depth == indent else None
        if match:
            current = match[1].lstrip("*")
            found[current] = match[2]
        elif current:
            found[current] = f"{found[current]} {text}".strip()
    return found
