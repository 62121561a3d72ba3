"""Makes a Python function a tool that tasks may call: the `@tool` decorator, and the context of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, create_model

from engine.core.contracts.activities import CallContext
from engine.core.contracts.failures import clip
from engine.core.errors import InvalidInput
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.tooling.reading import argument_docs, check_function, check_pool, summary_of

P = ParamSpec("P")
R = TypeVar("R")

Effect: TypeAlias = ToolEffect | Literal["none", "read", "write", "external"]
"""What a tool does to the world."""

DEFAULT_TIMEOUT_S = 60.0
MAX_MESSAGE_CHARS = 500


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
        described = argument_docs(inspect.getdoc(self.function) or "")
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
        check_function(target, label, effect, timeout_s)
        check_pool(label, pool)
        return Tool(
            function=target,
            name=label,
            description=description or summary_of(inspect.getdoc(target) or ""),
            effect=ToolEffect(effect),
            idempotent=idempotent,
            timeout_s=float(timeout_s),
            process=process,
            pool=pool,
        )

    return decorate if function is None else decorate(function)
