"""Stores a large result while its call still gives signs of life, so that a store that is away costs no outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from temporalio import activity
from temporalio.converter import (
    DataConverter,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from engine.core.errors import Unavailable

PAUSE_S = 1.0
"""How often a store that is away is asked again; the time limit of the call ends it."""

log = structlog.get_logger(__name__)


async def keep_early(result: Any) -> None:
    """Store what a call gave where the SDK will store it in a moment, which then finds it there.

    The SDK stores a result when the call is over and beats no more: a store that does not answer within seconds would
    lose the result, and with it the outcome of a call that must not be made again. Nothing is done for small results.

    Args:
        result: What the activity returns.
    """
    converter = _converter()
    storage = None if converter is None else converter.external_storage
    if converter is None or storage is None:
        return
    payload = converter.payload_converter.to_payloads([result])[0]
    if payload.ByteSize() < storage.payload_size_threshold:
        return
    info = activity.info()
    owner = info.workflow_id or ""
    codec: Any = converter.payload_codec
    if isinstance(codec, WithSerializationContext):
        codec = codec.with_context(WorkflowSerializationContext(namespace=info.namespace, workflow_id=owner))
    if codec is not None:
        [payload] = await codec.encode([payload])
    if payload.ByteSize() < storage.payload_size_threshold:
        return
    target = StorageDriverWorkflowInfo(namespace=info.namespace, id=owner)
    while True:
        try:
            await storage.drivers[0].store(StorageDriverStoreContext(target=target), [payload])
        except (Unavailable, OSError) as error:
            log.warning("a large result cannot be stored yet", execution=owner, path=info.activity_id, error=str(error))
            await asyncio.sleep(PAUSE_S)
        else:
            return


def _converter() -> DataConverter | None:
    try:
        return activity.client().data_converter
    except RuntimeError:
        return None  # calls for recordings are made without a worker
