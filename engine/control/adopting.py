"""Makes rows of executions that the store has never heard of, from the inputs of their workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT
from engine.control.failing import is_shared
from engine.core.contracts.execution import ExecutionParams
from engine.core.errors import NotFound
from engine.store.projection import ProjectionStore
from engine.store.purging import PurgeStore
from engine.store.rows import Named

AT_ONCE = 16
"""Inputs that are read at one time: each is one call, which mostly waits."""

log = structlog.get_logger(__name__)


async def adopt_from_temporal(client: Client, store: ProjectionStore, execution_id: str) -> str:
    """Make the row of an execution that the store has never heard of, from the input of its workflow.

    Returns:
        Its tenant.

    Raises:
        NotFound: `execution.not_found` if Temporal does not know it, if it is no execution of this engine, or if it
            was purged.
        RPCError: If Temporal does not answer.
    """
    if await PurgeStore(store.database).was_purged(execution_id):
        raise unknown(execution_id)
    tenant, named = await _read_named(client, execution_id)
    await store.ensure_executions([(execution_id, tenant, named)])
    return tenant


async def adopt_many(client: Client, store: ProjectionStore, ids: Iterable[str]) -> list[str]:
    """Do what `adopt_from_temporal` does for many: several are read at one time, all are stored in one transaction.

    Returns:
        Those that have a row now; left out are those that Temporal does not know, those that are none of ours, and
        those that cannot be read or stored, of which the log tells.

    Raises:
        RPCError: If Temporal does not answer.
        Exception: What the store says if it does not answer.
    """
    gate, purges = asyncio.Semaphore(AT_ONCE), PurgeStore(store.database)
    found: list[tuple[str, str, Named]] = []

    async def read(execution_id: str) -> None:
        async with gate:
            try:
                if await purges.was_purged(execution_id):
                    return
                tenant, named = await _read_named(client, execution_id)
            except NotFound as error:
                log.warning("an execution cannot be adopted", execution=execution_id, reason=error.message)
            except Exception as error:
                if is_shared(error):
                    raise
                log.error("an execution cannot be adopted", execution=execution_id, exc_info=error)
            else:
                found.append((execution_id, tenant, named))

    try:
        async with asyncio.TaskGroup() as group:
            for execution_id in ids:
                group.create_task(read(execution_id))
    except ExceptionGroup as errors:
        # callers that adopt one know the error by itself
        raise errors.exceptions[0] from errors
    try:
        if found:
            await store.ensure_executions(found)
    except Exception as error:
        if is_shared(error):
            raise
        return await _store_each(store, found)
    return [execution_id for execution_id, _, _ in found]


async def _store_each(store: ProjectionStore, found: Iterable[tuple[str, str, Named]]) -> list[str]:
    """Store one after another what could not be stored together, so that one that cannot be holds up no other."""
    stored: list[str] = []
    for item in found:
        try:
            await store.ensure_executions([item])
        except Exception as error:
            if is_shared(error):
                raise
            log.error("an execution cannot be adopted", execution=item[0], exc_info=error)
        else:
            stored.append(item[0])
    return stored


async def read_params(client: Client, execution_id: str) -> ExecutionParams:
    """Return what an execution's workflow began with.

    Raises:
        NotFound: `execution.not_found` if Temporal does not know it, or if it is no execution of this engine.
        RPCError: If Temporal does not answer.
    """
    return (await _read_start(client, execution_id))[0]


async def _read_start(client: Client, execution_id: str) -> tuple[ExecutionParams, HistoryEvent]:
    event = await _first_event(client, execution_id)
    started = event.workflow_execution_started_event_attributes
    if started.first_execution_run_id != started.original_execution_run_id:
        # only the first run of a chain carries the input
        event = await _first_event(client, execution_id, started.first_execution_run_id)
        started = event.workflow_execution_started_event_attributes
    try:
        decoded = await client.data_converter.decode(list(started.input.payloads), [ExecutionParams])
    except (ValueError, RuntimeError) as error:  # what converters raise for a payload of another shape
        raise unknown(execution_id) from error
    params = decoded[0] if decoded else None
    if not isinstance(params, ExecutionParams):
        raise unknown(execution_id)
    return params, event


async def _read_named(client: Client, execution_id: str) -> tuple[str, Named]:
    params, event = await _read_start(client, execution_id)
    started = event.workflow_execution_started_event_attributes
    origin = params.origin
    agent_id = str((params.plan.get("agent") or {}).get("id") or "") if origin is None else origin.agent_id
    return params.tenant, Named(
        task_id=params.task_id,
        task_name=started.workflow_type.name,
        task_version=params.task_version,
        agent_id=agent_id,
        input=params.input,
        metadata=params.metadata,
        labels=tuple(params.labels),
        actor=params.actor,
        trace=params.trace,
        created_us=params.created_us or event.event_time.ToMicroseconds(),
        parent_id="" if origin is None else origin.execution_id,
        parent_path="" if origin is None else origin.path,
        forked_from="" if params.fork is None else params.fork.execution_id,
        fork_kind="" if params.fork is None else params.fork.kind,
        fork_path="" if params.fork is None else params.fork.path,
    )


def unknown(execution_id: str) -> NotFound:
    """Return the error for an execution that Temporal does not know."""
    return NotFound(f"Temporal knows no execution {execution_id}", code="execution.not_found")


async def _first_event(client: Client, execution_id: str, run_id: str | None = None) -> HistoryEvent:
    handle = client.get_workflow_handle(execution_id, run_id=run_id)
    try:
        async for event in handle.fetch_history_events(page_size=1, rpc_timeout=RPC_TIMEOUT):
            return event
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise unknown(execution_id) from error
    raise unknown(execution_id)
