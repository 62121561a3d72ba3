"""How payloads cross Temporal: pydantic JSON, encrypted if there are keys, and beside the history if they are large."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter, pydantic_data_converter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
    ExternalStorage,
    JSONPlainPayloadConverter,
)

from engine.control.blobplaces import S3Place, open_s3
from engine.control.blobs import S3, BlobDriver, FileDriver
from engine.control.sealing import KeyRing, Sealer, read_ring
from engine.core.contracts.activities import ChatResult
from engine.settings import Settings
from engine.store.blobs import BlobStore

EXTERNAL_THRESHOLD_BYTES = 256 * 1024


class _EngineJson(PydanticJSONPlainPayloadConverter):
    def to_payload(self, value: Any) -> Payload | None:
        # one of our results leaves out what older interpreters would tell of and newer ones would not
        return super().to_payload(value.to_json() if isinstance(value, ChatResult) else value)


# Temporal builds a payload converter for every workflow run; one JSON converter for all of them keeps its compiled
# type adapters, which otherwise take more time than the run itself (1.5 ms each)
_JSON = _EngineJson()


class EnginePayloadConverter(CompositePayloadConverter):
    """Pydantic JSON for everything that is not bytes, null or a protobuf message."""

    def __init__(self) -> None:
        """Put our one JSON converter in the place of Temporal's plain one."""
        plain = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(_JSON if isinstance(one, JSONPlainPayloadConverter) else one for one in plain))


def data_converter(
    blob_dir: Path, *, ring: KeyRing | None = None, s3: S3Place | None = None, holders: BlobStore | None = None
) -> DataConverter:
    """Return the one data converter that clients, workers and the replayer share.

    Args:
        blob_dir: Folder for payloads of 256 KiB and more.
        ring: Keys to encrypt payloads with; None = they are not encrypted.
        s3: Where new large payloads go in place of the folder; those in it are still read.
        holders: Where references to large payloads are counted; None = they are not, and the payloads stay for ever.

    Returns:
        Pydantic JSON with encryption and external storage.
    """
    files = FileDriver(blob_dir, holders)
    drivers = [files] if s3 is None else [BlobDriver(S3, s3, holders), files]
    converter = dataclasses.replace(
        pydantic_data_converter,
        payload_converter_class=EnginePayloadConverter,
        # without keys too, so that it says which one is missing
        payload_codec=Sealer(ring),
        external_storage=ExternalStorage(
            drivers=drivers,
            driver_selector=lambda context, payload: drivers[0],
            payload_size_threshold=EXTERNAL_THRESHOLD_BYTES,
        ),
    )
    if ring is None:
        return converter
    # messages of errors may quote what nobody else shall read
    return dataclasses.replace(converter, failure_converter_class=DefaultFailureConverterWithEncodedAttributes)


def converter_of(settings: Settings, holders: BlobStore | None = None) -> DataConverter:
    """Return the data converter that the settings of a process want.

    Raises:
        InvalidInput: `config.invalid` if the keys or the place of large payloads are not right.
    """
    return data_converter(
        settings.blob_dir,
        ring=read_ring(settings.encryption_keys.get_secret_value()),
        s3=open_s3(settings) if settings.blobs else None,
        holders=holders,
    )


def blob_drivers(converter: DataConverter) -> list[BlobDriver]:
    """Return the places of large payloads of a data converter, that of new ones first."""
    storage = converter.external_storage
    return [] if storage is None else [driver for driver in storage.drivers if isinstance(driver, BlobDriver)]
