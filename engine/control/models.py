"""Use cases on the models of backends: list, declare, fetch, delete what nobody declared; and checks when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError

from engine.control.connect import TemporalConnection
from engine.control.definitions import now_us
from engine.control.registry import DeclaredBackend, RegistryService, Source, with_found
from engine.core.contracts.doors import doors_queue
from engine.core.contracts.registry import (
    PRUNE_WORKFLOW,
    PULL_WORKFLOW,
    RECONCILE_WORKFLOW,
    SIGNAL_PULL,
    CheckParams,
    CheckResult,
    PruneParams,
    PruneResult,
    PullParams,
)
from engine.core.errors import BackendError, Conflict, NotFound, Unavailable
from engine.settings import BackendConfig, Capabilities, Price
from engine.store.backend_states import BackendState, BackendStateStore, FoundModel
from engine.store.pulls import PullFacts, PullStore

WAIT = timedelta(seconds=30)
"""For a worker that checks or prunes because somebody asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSight:
    """A model of a backend, as it is shown.

    Attributes:
        backend: The backend.
        model: Its name there.
        declared: Whether the operator declared it.
        found: What the backend told of it; None = it did not say that it has it.
        capabilities: What it can do; what is declared wins.
        price: What it costs.
    """

    backend: DeclaredBackend
    model: str
    declared: bool
    found: FoundModel | None
    capabilities: Capabilities
    price: Price | None


class ModelService:
    """Looks after models.

    Args:
        registry: Backends and groups.
        states: What checks found.
        pulls: What is fetched.
        temporal: The connection to Temporal.
        task_queue: Task queue of the executions.
    """

    def __init__(
        self,
        registry: RegistryService,
        states: BackendStateStore,
        pulls: PullStore,
        temporal: TemporalConnection,
        *,
        task_queue: str,
    ) -> None:
        self.registry = registry
        self.states = states
        self.pulls = pulls
        self._temporal = temporal
        self._task_queue = task_queue

    # --- reads -----------------------------------------------------------------------------------------------------

    async def backends(self) -> dict[str, DeclaredBackend]:
        """Return all backends: those declared here, and those that only workers know, such as the bundled model."""
        known = dict((await self.registry.registry()).backends)
        for name, state in (await self.states.all()).items():
            if name not in known and state.source in ("environment", "file", "bundled"):
                source = cast(Source, state.source)
                config = BackendConfig.model_validate(state.body)
                known[name] = DeclaredBackend(name=name, source=source, config=config)
        return known

    async def backend(self, name: str) -> DeclaredBackend:
        """Return a backend.

        Raises:
            NotFound: `backend.not_found`.
        """
        found = (await self.backends()).get(name)
        return await self.registry.backend(name) if found is None else found

    async def state(self, backend: str) -> BackendState | None:
        """Return what the last check of a backend found; None = it was not looked at yet."""
        return (await self.states.all()).get(backend)

    async def sights(self, backend: str = "") -> list[ModelSight]:
        """Return the models of all backends, or of one, by backend and name.

        Raises:
            NotFound: `backend.not_found`.
        """
        declared = {backend: await self.backend(backend)} if backend else await self.backends()
        found: dict[str, dict[str, FoundModel]] = {}
        for model in await self.states.models(backend or None):
            found.setdefault(model.backend, {})[model.model] = model
        return [sight for item in declared.values() for sight in sights_of(item, found.get(item.name, {}))]

    async def sight(self, backend: str, model: str) -> ModelSight:
        """Return one model.

        Raises:
            NotFound: `backend.not_found`, `model.not_found`.
        """
        for sight in await self.sights(backend):
            if sight.model == model:
                return sight
        raise NotFound(
            f"the backend '{backend}' has no model {model[:80]} that anybody knows of",
            code="model.not_found",
            hint=f"list them: `everstep models ls --backend {backend}`",
        )

    # --- declarations ----------------------------------------------------------------------------------------------

    async def declare(self, backend: str, model: str, given: Mapping[str, Any], *, actor: str = "") -> ModelSight:
        """Declare a model at a backend, or change what is declared of it.

        Args:
            backend: The backend.
            model: The model.
            given: Those of `price` and `capabilities` that are said; None takes one away.
            actor: Who declares it.

        Raises:
            NotFound: `backend.not_found`.
            InvalidInput: `backend.invalid`.
            Conflict: `backend.of_file`, `registry.moved`.
        """
        known = await self.registry.backend(backend)
        body = {} if known.facts is None else known.facts.body
        changes: dict[str, Any] = {"models": list(dict.fromkeys([*body.get("models", []), model]))}
        for member, part in (("price", "prices"), ("capabilities", "capabilities")):
            if member in given:
                others = {name: said for name, said in body.get(part, {}).items() if name != model}
                changes[part] = others if given[member] is None else {**others, model: given[member]}
        await self.registry.change_backend(backend, changes, actor=actor)
        return await self.sight(backend, model)

    async def withdraw(self, backend: str, model: str, *, actor: str = "") -> None:
        """Declare a model no more; the backend keeps it.

        Raises:
            NotFound: `backend.not_found`, `model.not_found`.
            Conflict: `backend.of_file`, `backend.last_model`, `registry.moved`.
        """
        known = await self.registry.backend(backend)
        body = {} if known.facts is None else known.facts.body
        if known.facts is not None and model not in body.get("models", []):
            raise NotFound(
                f"the model {model[:80]} is not declared at the backend '{backend}'",
                code="model.not_found",
                hint=f"list them: `everstep models ls --backend {backend}`",
            )
        left = [name for name in body.get("models", []) if name != model]
        if known.facts is not None and not left:
            raise Conflict(
                f"'{model}' is the only model declared at '{backend}', which without one would take any name",
                code="backend.last_model",
                hint=f"remove the backend, or say that it takes any: `everstep backends set {backend} --any-model`",
            )
        changes: dict[str, Any] = {"models": left}
        for part in ("prices", "capabilities"):
            changes[part] = {name: said for name, said in body.get(part, {}).items() if name != model}
        await self.registry.change_backend(backend, changes, actor=actor)

    # --- what workers do -------------------------------------------------------------------------------------------

    async def check(self, backend: str = "") -> CheckResult:
        """Let a worker look at backends now, and wait for what it finds.

        Raises:
            NotFound: `backend.not_found`.
            Unavailable: `unreachable`, or `backend.no_worker` if no worker did it in time.
        """
        if backend:
            await self.backend(backend)
        body = await self._ask(RECONCILE_WORKFLOW, CheckParams(backend=backend), f"check:{backend}", CheckResult)
        assert isinstance(body, CheckResult)
        return body

    async def prune(self, backend: str, *, models: Sequence[str] = (), dry_run: bool = True) -> PruneResult:
        """Delete the models that a backend has and nobody declared, or say which they are.

        Raises:
            NotFound: `backend.not_found`.
            Conflict: `backend.not_pulling` unless it is an Ollama server, `backend.declares_none` if no model of it is
                declared.
            BackendError: It does not answer.
            Unavailable: As `check`.
        """
        known = await self.pulling_backend(backend)
        if not known.config.models:
            raise Conflict(
                f"no model is declared at '{backend}', so that all of its models would go",
                code="backend.declares_none",
                hint=f"declare those that stay: `everstep models add {backend} MODEL`",
            )
        params = PruneParams(backend=backend, models=list(models), dry_run=dry_run)
        body = await self._ask(PRUNE_WORKFLOW, params, f"prune:{backend}", PruneResult)
        assert isinstance(body, PruneResult)
        return body

    async def pulling_backend(self, backend: str) -> DeclaredBackend:
        """Return a backend whose models can be fetched and deleted.

        Raises:
            NotFound: `backend.not_found`.
            Conflict: `backend.not_pulling`.
        """
        known = await self.backend(backend)
        if known.config.kind != "ollama":
            raise Conflict(
                f"the backend '{backend}' is of kind {known.config.kind}, which fetches and deletes no models",
                code="backend.not_pulling",
                hint="only backends of kind ollama do",
            )
        return known

    async def pull(self, backend: str, model: str, *, actor: str = "") -> PullFacts:
        """Let a backend fetch a model.

        Raises:
            NotFound: `backend.not_found`.
            Conflict: `backend.not_pulling`.
            Unavailable: `unreachable`: it stands in the queue, and begins when Temporal can be reached.
        """
        await self.pulling_backend(backend)
        facts = await self.pulls.ask(backend, model, reason="asked", now_us=now_us(), actor=actor)
        assert facts is not None
        await self.wake(backend)
        return facts

    async def wake(self, backend: str) -> None:
        """Let what a backend is to fetch be fetched; what is under way goes on.

        Raises:
            Unavailable: `unreachable`.
        """
        client = await self._temporal.client()
        with self._temporal.errors():
            await wake_pulls(client, backend, task_queue=self._task_queue)

    async def find_pull(self, pull: str) -> PullFacts:
        """Return a fetch.

        Raises:
            NotFound: `pull.not_found`.
        """
        found = await self.pulls.find(pull)
        if found is None:
            raise _no_pull(pull)
        return found

    async def cancel_pull(self, pull: str) -> PullFacts:
        """Want a fetch no more; one under way is broken off within a second or two.

        Raises:
            NotFound: `pull.not_found`.
            Conflict: `pull.ended`.
        """
        facts = await self.pulls.cancel(pull, now_us=now_us())
        if facts is None:
            raise _no_pull(pull)
        if facts.state != "cancelled":
            raise Conflict(f"the fetch of '{facts.model}' has ended: it is {facts.state}", code="pull.ended")
        return facts

    async def _ask(
        self, workflow: str, params: CheckParams | PruneParams, name: str, shape: type[CheckResult] | type[PruneResult]
    ) -> CheckResult | PruneResult:
        client = await self._temporal.client()
        with self._temporal.errors():
            handle = await client.start_workflow(
                workflow,
                params,
                id=f"everstep-{self._task_queue}:{name}",
                task_queue=doors_queue(self._task_queue),
                result_type=shape,
                # two who ask for the same at the same time get the same answer, but who prunes means it
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
                if isinstance(params, CheckParams)
                else WorkflowIDConflictPolicy.TERMINATE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                execution_timeout=WAIT,
            )
            try:
                result: CheckResult | PruneResult = await handle.result()
            except WorkflowFailureError as error:
                raise _failure_of(error) from error
        return result


async def wake_pulls(client: Client, backend: str, *, task_queue: str) -> None:
    """Start the workflow that fetches the models of a backend, or tell it that there are more."""
    await client.start_workflow(
        PULL_WORKFLOW,
        PullParams(backend=backend),
        id=f"everstep-{task_queue}:pull:{backend}",
        task_queue=doors_queue(task_queue),
        start_signal=SIGNAL_PULL,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    )


def _failure_of(error: WorkflowFailureError) -> BackendError | Unavailable:
    cause = error.cause
    while isinstance(cause, ActivityError) and cause.cause is not None:
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        body = dict(cause.details[0]) if cause.details and isinstance(cause.details[0], dict) else {}
        return BackendError(cause.message, code=cause.type or "backend", hint=str(body.get("hint") or ""))
    return Unavailable(
        "no worker did it in time",
        code="backend.no_worker",
        hint="start a worker: `everstep worker`, or `everstep dev`, which brings one",
    )


def sights_of(backend: DeclaredBackend, found: Mapping[str, FoundModel]) -> list[ModelSight]:
    """Return the models of a backend: the declared ones in their order, then those that it told of."""
    config = backend.config
    told = {name: Capabilities.model_validate(model.body.get("capabilities") or {}) for name, model in found.items()}
    whole = with_found(config, told)
    declared = list(dict.fromkeys([*([config.default_model] if config.default_model else []), *config.models]))
    return [
        ModelSight(
            backend=backend,
            model=name,
            declared=name in declared,
            found=found.get(name),
            capabilities=whole.capabilities_of(name),
            price=config.price_of(name),
        )
        for name in dict.fromkeys([*declared, *sorted(found)])
    ]


def _no_pull(pull: str) -> NotFound:
    return NotFound(f"there is no fetch {pull[:80]}", code="pull.not_found", hint="list them: `everstep models pulls`")
