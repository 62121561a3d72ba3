"""The codec server: shows payloads to Temporal's UI and command line as they were before they were encrypted."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, StorageDriverClaim, StorageDriverRetrieveContext

from engine.control.claims import claim_in
from engine.control.payloads import blob_drivers, converter_of
from engine.core.errors import InvalidInput
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import FOR_OPERATORS, MAY_ADMIN
from engine.edge.http.services import In
from engine.edge.native.shapes import Body

router = APIRouter(prefix="/codec", tags=["codec"], dependencies=[FOR_OPERATORS])

SHOWN_BYTES = 2 * 1024 * 1024
"""Largest payload that is fetched from beside the history; of larger ones the reference is shown."""

Base64 = Annotated[str, Field(max_length=64 * 1024 * 1024)]


class PayloadBody(Body):
    """A payload in Temporal's JSON.

    Attributes:
        metadata: Values in base64.
        data: In base64.
        externalPayloads: What the payload refers to, in Temporal's words.
    """

    metadata: dict[str, Base64] = Field(default_factory=dict)
    data: Base64 = ""
    externalPayloads: list[dict[str, Any]] = Field(default_factory=list)


class PayloadsBody(Body):
    """Payloads in Temporal's JSON.

    Attributes:
        payloads: The payloads.
    """

    payloads: list[PayloadBody] = Field(default_factory=list, max_length=10_000)


@router.post("/decode", dependencies=[MAY_ADMIN])
async def decode(request: Request, services: In) -> dict[str, Any]:
    """Decrypt payloads; large ones that stand beside the history are fetched, up to 2 MB each."""
    body = await read_model(request, PayloadsBody)
    converter = converter_of(services.settings)
    fetched = [await _fetched(converter, payload) for payload in _read(body)]
    codec = converter.payload_codec
    return _write(fetched if codec is None else await codec.decode(fetched))


@router.post("/encode", dependencies=[MAY_ADMIN])
async def encode(request: Request, services: In) -> dict[str, Any]:
    """Encrypt payloads, for signals and starts that an operator sends with Temporal's own tools."""
    body = await read_model(request, PayloadsBody)
    codec = converter_of(services.settings).payload_codec
    payloads = _read(body)
    return _write(payloads if codec is None else await codec.encode(payloads))


async def _fetched(converter: DataConverter, payload: Payload) -> Payload:
    claim = claim_in(payload)
    size = sum(item.size_bytes for item in payload.external_payloads)
    if claim is None or size > SHOWN_BYTES:
        return payload
    name, blob = claim
    driver = next((one for one in blob_drivers(converter) if one.name() == name), None)
    if driver is None:
        return payload
    data = {"sha256": blob.digest, "made": f"{blob.made_us:x}"}
    [found] = await driver.retrieve(StorageDriverRetrieveContext(), [StorageDriverClaim(claim_data=data)])
    return found


def _read(body: PayloadsBody) -> list[Payload]:
    try:
        return [
            Payload(
                metadata={name: base64.b64decode(text, validate=True) for name, text in one.metadata.items()},
                data=base64.b64decode(one.data, validate=True),
                external_payloads=[
                    Payload.ExternalPayloadDetails(size_bytes=int(item.get("sizeBytes", 0)))
                    for item in one.externalPayloads
                ],
            )
            for one in body.payloads
        ]
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidInput(
            f"a payload is not in Temporal's JSON: {error}", code="request.invalid", hint="bytes stand in base64"
        ) from error


def _write(payloads: list[Payload]) -> dict[str, Any]:
    return {"payloads": [_payload_json(payload) for payload in payloads]}


def _payload_json(payload: Payload) -> dict[str, Any]:
    metadata = {name: base64.b64encode(value).decode() for name, value in sorted(payload.metadata.items())}
    told: dict[str, Any] = {"metadata": metadata, "data": base64.b64encode(payload.data).decode()}
    if payload.external_payloads:
        told["externalPayloads"] = [{"sizeBytes": str(item.size_bytes)} for item in payload.external_payloads]
    return told
