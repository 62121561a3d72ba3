"""The activities that look after backends: check how they are, fetch models, delete what nobody declared."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from activities.backends.base import Backend, ReadSecret
from activities.backends.facts import facts_in, facts_of_ollama
from activities.backends.ollama_models import OllamaModels
from activities.backends.transport import HttpBackend
from activities.candidates import FAILS_OVER
from activities.effects import Heartbeat, application_error
from activities.fleet import Fleet
from activities.llm import adapter_of
from engine.control.models import wake_pulls
from engine.control.reconciling import workflow_prefix
from engine.control.registry import DeclaredBackend, Registry, RegistryService
from engine.core.contracts.registry import (
    CHECK_ACTIVITY,
    PRUNE_ACTIVITY,
    CheckParams,
    CheckResult,
    PruneParams,
    PruneResult,
)
from engine.core.errors import BackendError, EngineError, NotFound
from engine.settings import BackendConfig
from engine.store.backend_states import BackendStateStore, CheckedBackend
from engine.store.pulls import PullStore

AT_ONCE = 20
MOST_S = 40.0
"""For one backend, so that one that crawls does not keep the others from being looked at."""
AGAIN_S = 0.5
"""After which one that did not answer is asked once more, before all workers pass it over."""
SHOWN_S = 600.0
"""For how long what an Ollama server told of a model is not asked for again."""
MOST_SHOWN = 200
IS_DOWN = (FAILS_OVER | {"backend.timeout"}) - {"backend.rate_limited"}
ANSWERS = frozenset({"backend.rate_limited", "backend.bad_reply", "backend.not_found"})
"""It is there: it limits its rate, or has no list of models, as some servers."""


class BackendKeeper:
    """What the activities share: the adapters of all backends.

    Args:
        registry: Backends and groups.
        states: What checks found.
        pulls: What is fetched.
        client: A connected client.
        task_queue: Task queue of the executions.
        read_secret: Reads secrets that hold keys; None = keys are in variables only.
    """

    def __init__(
        self,
        registry: RegistryService,
        states: BackendStateStore,
        pulls: PullStore,
        client: Client,
        *,
        task_queue: str,
        read_secret: ReadSecret | None = None,
    ) -> None:
        self.registry = registry
        self.states = states
        self.pulls = pulls
        self.client = client
        self.task_queue = task_queue
        self._read_secret = read_secret
        self._fleet = Fleet(())
        self._shown: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    async def adapters(self) -> tuple[Registry, dict[str, Backend]]:
        """Return all backends, with an adapter for each; to be used within `lease`."""
        registry = await self.registry.registry()
        self._fleet.change({name: item.config for name, item in registry.backends.items()}, self._make)
        return registry, {backend.name: backend for backend in self._fleet.backends}

    def lease(self) -> contextlib.AbstractContextManager[None]:
        """Keep the adapters as long as the block runs."""
        return self._fleet.lease()

    def _make(self, name: str, config: BackendConfig) -> HttpBackend:
        adapter = OllamaModels if config.kind == "ollama" else adapter_of(config)
        return adapter(name, config, self._read_secret)

    async def wake(self, backend: str) -> None:
        """Let a backend fetch what is in its queue."""
        await wake_pulls(self.client, backend, task_queue=self.task_queue)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._fleet.aclose()

    # --- one check ---------------------------------------------------------------------------------------------------

    async def look_at(self, item: DeclaredBackend, backend: Backend) -> CheckedBackend:
        """Ask a backend for its models, and say how it is."""
        assert isinstance(backend, HttpBackend)
        about: dict[str, Any] = {
            "backend": item.name,
            "source": item.source,
            "body": item.config.model_dump(mode="json", exclude_defaults=True),
        }
        began = time.monotonic()
        try:
            names, body = await self._listed(backend)
        except BackendError as error:
            told: dict[str, Any] = {"error_code": error.code, "error_message": error.message}
            if error.code in ANSWERS:
                return CheckedBackend(**about, state="up", latency_us=_since(began))
            return CheckedBackend(**about, state="down" if error.code in IS_DOWN else "refused", **told)
        latency_us = _since(began)
        try:
            missing = [name for name in item.config.models if name not in names and not await backend.has_model(name)]
            models = await self._told_of(backend, names, body)
        except BackendError as error:
            told = {"error_code": error.code, "error_message": error.message}
            return CheckedBackend(**about, state="down" if error.code in IS_DOWN else "refused", **told)
        return CheckedBackend(**about, state="up", latency_us=latency_us, missing=missing, models=models)

    async def _listed(self, backend: HttpBackend) -> tuple[list[str], Any]:
        try:
            return await backend.listed()
        except BackendError as error:
            if error.code not in IS_DOWN:
                raise
        await asyncio.sleep(AGAIN_S)
        return await backend.listed()

    async def _told_of(self, backend: HttpBackend, names: list[str], body: Any) -> Mapping[str, Mapping[str, Any]]:
        if not isinstance(backend, OllamaModels):
            facts = facts_in(body)
            return {name: facts.get(name, {}) for name in names}
        told: dict[str, Mapping[str, Any]] = {name: {} for name in names}
        for name in names[:MOST_SHOWN]:
            place, now = (backend.config.base_url, name), time.monotonic()
            known = self._shown.get(place)
            if known is None or now - known[0] > SHOWN_S:
                try:
                    known = (now, facts_of_ollama(await backend.show(name)))
                except BackendError as error:
                    if error.code in IS_DOWN:
                        raise
                    # it was deleted a moment ago, or is broken
                    known = (now, {})
                self._shown[place] = known
            told[name] = known[1]
        return told

    def forget(self, config: BackendConfig, model: str) -> None:
        """Ask anew what a model can do, since it was fetched or deleted."""
        self._shown.pop((config.base_url, model), None)


def _too_slow(item: DeclaredBackend) -> CheckedBackend:
    body = item.config.model_dump(mode="json", exclude_defaults=True)
    said = f"backend '{item.name}' took more than {MOST_S:g} s to tell of its models"
    return CheckedBackend(
        backend=item.name,
        source=item.source,
        body=body,
        state="down",
        error_code="backend.timeout",
        error_message=said,
    )


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1e6)


def _now_us() -> int:
    return time.time_ns() // 1_000


class ReconcileActivities:
    """The activities `backend.check` and `backend.prune`.

    Args:
        keeper: Knows all backends.
    """

    def __init__(self, keeper: BackendKeeper) -> None:
        self._keeper = keeper
        self._before: tuple[str, str] | None = None

    @activity.defn(name=CHECK_ACTIVITY)
    async def check(self, params: CheckParams) -> CheckResult:
        """Look at backends, write how they are, and let declared models be fetched that are missing.

        Args:
            params: At which.

        Returns:
            How they are.
        """
        beating = Heartbeat()
        try:
            with self._keeper.lease():
                result = await self._check(params.backend)
            await self._tidy()
        finally:
            beating.stop()
        return result

    async def _tidy(self) -> None:
        """Delete the workflow of the check before: thousands a day would tell nobody anything."""
        info = activity.info()
        if info.workflow_id is None or not info.workflow_id.startswith(workflow_prefix(self._keeper.task_queue)):
            return
        before, self._before = self._before, (info.workflow_id, info.workflow_run_id or "")
        if before is None or before == self._before:
            return
        client = self._keeper.client
        which = WorkflowExecution(workflow_id=before[0], run_id=before[1])
        with contextlib.suppress(RPCError):
            # it is gone, or goes with all others when its time is over
            await client.workflow_service.delete_workflow_execution(
                DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=which)
            )

    async def _check(self, only: str) -> CheckResult:
        keeper = self._keeper
        registry, adapters = await keeper.adapters()
        gate = asyncio.Semaphore(AT_ONCE)

        async def look(item: DeclaredBackend) -> CheckedBackend:
            async with gate:
                try:
                    async with asyncio.timeout(MOST_S):
                        return await keeper.look_at(item, adapters[item.name])
                except TimeoutError:
                    return _too_slow(item)

        wanted = [item for item in registry.backends.values() if not only or item.name == only]
        checks = await asyncio.gather(*(look(item) for item in wanted))
        states = await keeper.states.record(checks, now_us=_now_us()) if checks else {}
        if not only:
            for gone in await keeper.states.keep_only(list(registry.backends)):
                await keeper.pulls.drop_of(gone)
        for check in checks:
            for model in check.missing if registry.backends[check.backend].config.pull else ():
                await keeper.pulls.ask(check.backend, model, reason="declared", now_us=_now_us())
        for name in await keeper.pulls.waiting_backends():
            if name in registry.backends:
                await keeper.wake(name)
        return CheckResult(states={name: state.state for name, state in states.items()})

    @activity.defn(name=PRUNE_ACTIVITY)
    async def prune(self, params: PruneParams) -> PruneResult:
        """Delete models that a backend has and nobody declared, or say which they are.

        Args:
            params: Whose, and which.

        Returns:
            Which they are, and which were deleted.

        Raises:
            ApplicationError: A `backend.…` error, with its failure body.
        """
        beating = Heartbeat()
        try:
            with self._keeper.lease():
                return await self._prune(params)
        except EngineError as error:
            raise application_error(error) from None
        finally:
            beating.stop()

    async def _prune(self, params: PruneParams) -> PruneResult:
        keeper = self._keeper
        registry, adapters = await keeper.adapters()
        backend = adapters.get(params.backend)
        if not isinstance(backend, OllamaModels) or not backend.config.models:
            raise NotFound(f"there is no backend {params.backend} to delete models from", code="backend.not_found")
        declared = declared_of(params.backend, registry)
        there = await backend.list_models()
        undeclared = [name for name in there if plain(name) not in declared]
        deleted: list[str] = []
        if not params.dry_run:
            for name in undeclared:
                if not params.models or name in params.models:
                    await backend.delete(name)
                    deleted.append(name)
                    keeper.forget(backend.config, name)
                    await keeper.states.forget_model(params.backend, name)
        return PruneResult(undeclared=undeclared, deleted=deleted)


def plain(model: str) -> str:
    """Return a model's name without the tag that a name without one means."""
    return model.removesuffix(":latest")


def declared_of(backend: str, registry: Registry) -> set[str]:
    """Return the models of a backend that somebody named: itself, or a group."""
    config = registry.backends[backend].config
    members = (member for item in registry.groups.values() for member in item.group.models)
    named = [member.removeprefix(f"{backend}/") for member in members]
    return {plain(name) for name in (*config.models, config.default_model, *named) if name}
