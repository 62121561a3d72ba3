"""The activities of steps that run another task: find it and check its input, and give the child its plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from temporalio import activity

from activities.effects import Heartbeat, application_error, unexpected
from activities.tracing import effect_span
from engine.core.contracts.children import PLAN_ACTIVITY, RESOLVE_ACTIVITY, PlanParams, ResolvedTask, ResolveParams
from engine.core.errors import EngineError
from engine.obs.telemetry import OFF, Telemetry

T = TypeVar("T")


class Children(Protocol):
    """Knows the tasks (engine.control.children)."""

    async def resolve(self, params: ResolveParams) -> ResolvedTask:
        """Find a task, and make sure that it can be run with an input.

        Raises:
            EngineError: There is none, or it cannot; a retryable one if nobody can tell at present.
        """
        ...

    async def plan(self, params: PlanParams) -> dict[str, Any]:
        """Return the plan of a task's version.

        Raises:
            EngineError: There is none any more; a retryable one if nobody can tell at present.
        """
        ...


class ChildActivities:
    """The activities `task.resolve` and `task.plan`."""

    def __init__(self, children: Callable[[], Children], *, telemetry: Telemetry = OFF) -> None:
        """Bind the activities.

        Args:
            children: Returns what knows the tasks; called once, when the first of them is to be run.
            telemetry: Where spans and metrics go.
        """
        self._telemetry = telemetry
        self._make = children
        self._made: Children | None = None

    @property
    def _children(self) -> Children:
        if self._made is None:
            self._made = self._make()
        return self._made

    @activity.defn(name=RESOLVE_ACTIVITY)
    async def resolve(self, params: ResolveParams) -> ResolvedTask:
        """Find a task, and make sure that it can be run with an input.

        Args:
            params: What is asked.

        Returns:
            The version of the task that is meant.

        Raises:
            ApplicationError: The error of `Children.resolve` with its failure body.
        """
        with effect_span(self._telemetry, RESOLVE_ACTIVITY, params.context):
            return await _look_up(lambda: self._children.resolve(params))

    @activity.defn(name=PLAN_ACTIVITY)
    async def plan(self, params: PlanParams) -> dict[str, Any]:
        """Return the plan of a task's version.

        Args:
            params: What is asked.

        Raises:
            ApplicationError: The error of `Children.plan` with its failure body.
        """
        return await _look_up(lambda: self._children.plan(params))


async def _look_up(work: Callable[[], Awaitable[T]]) -> T:
    beating = Heartbeat()
    try:
        return await work()
    except EngineError as error:
        if error.retryable:
            raise  # Temporal asks again: a store that is away for a while ends no execution
        raise application_error(error) from None
    except Exception as error:
        activity.logger.error("a look-up of a task failed unexpectedly", exc_info=error)
        raise application_error(unexpected(error)) from None
    finally:
        beating.stop()
