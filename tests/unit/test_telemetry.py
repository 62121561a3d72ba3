"""Telemetry of a process: what switches it on, what it costs when it is off, and the spans of requests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import StreamingResponse

from engine.edge.http.access import AccessLog
from engine.obs.metrics import ENDED, INSTRUMENTS, QUEUE_DEPTH
from engine.obs.start import start_telemetry
from engine.obs.telemetry import OFF, SpanData, Telemetry, current_traceparent, trace_for
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.servers import free_port, serve_app

ROOT = Path(__file__).resolve().parents[2]
TRACE, CALLER = "ab" * 16, "cd" * 8


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OtlpReceiver]:
    """A receiver to which the environment points."""
    taken = OtlpReceiver()
    async with serve_app(taken) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield taken


@pytest.fixture
async def telemetry(receiver: OtlpReceiver) -> AsyncIterator[Telemetry]:
    """Telemetry that sends to the receiver."""
    started = start_telemetry("api", scraped=True)
    yield started
    await asyncio.to_thread(started.close)


def span(name: str) -> SpanData:
    """Return a span that is over."""
    return SpanData(name=name, trace_id=TRACE, span_id=CALLER, parent_id="", start_us=1, end_us=2)


# --- on and off ----------------------------------------------------------------------------------------------------


def test_without_an_endpoint_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_telemetry("worker") is OFF
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert start_telemetry("worker", scraped=True) is OFF


def test_a_worker_without_telemetry_does_not_import_the_sdk() -> None:
    code = (
        "import sys, worker\nfrom engine.obs.start import start_telemetry\nstart_telemetry('worker')\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_metrics_alone_send_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    started = start_telemetry("worker", scraped=True)
    assert (started.traces, started.metrics, started.sends_metrics) == (False, True, False)
    started.close()


async def test_a_collector_that_is_away_stops_neither_spans_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")
    started = start_telemetry("worker")
    started.emit(span(f"s{number}") for number in range(2_000))
    await asyncio.to_thread(started.close)


# --- spans and metrics ---------------------------------------------------------------------------------------------


async def test_spans_of_our_own_ids_and_of_the_sdk_reach_the_collector(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    telemetry.emit([span("made")])
    with telemetry.span("outer", parent=f"00-{TRACE}-{CALLER}-01"), telemetry.span("inner"):
        here = current_traceparent()
    came = {one.name: one for one in await receiver.until(lambda spans: len(spans) == 3)}
    assert came["made"].span_id == came["outer"].parent_id == CALLER
    assert came["inner"].parent_id == came["outer"].span_id
    assert here == f"00-{TRACE}-{came['inner'].span_id}-01"
    assert {one.service for one in came.values()} == {"everstep-api"}
    assert current_traceparent() == ""


async def test_only_a_request_starts_a_trace(receiver: OtlpReceiver, telemetry: Telemetry) -> None:
    with telemetry.span("nobodys"):
        assert current_traceparent() == ""
    with telemetry.span("unsampled", parent=f"00-{TRACE}-{CALLER}-00"):
        assert current_traceparent().endswith("-00")
    with telemetry.span("request", kind="server"):
        pass
    assert [one.name for one in await receiver.until(lambda spans: len(spans) >= 1)] == ["request"]


def test_an_execution_joins_the_trace_of_its_request_or_gets_one() -> None:
    own = trace_for("e1")
    assert own != trace_for("e1")
    assert own.split("-")[2] == trace_for("e1").split("-")[2]
    assert own.endswith("-01")


async def test_every_instrument_can_be_used_and_is_shown(telemetry: Telemetry) -> None:
    for name, instrument in INSTRUMENTS.items():
        if instrument.kind == "counter":
            telemetry.count(name, 1, dict.fromkeys(instrument.attributes, "x"))
        elif instrument.kind == "histogram":
            telemetry.record(name, 1.0, dict.fromkeys(instrument.attributes, "x"))
        else:
            telemetry.observe(name, lambda: [(7, {})])
    shown = telemetry.scrape()
    assert shown is not None
    text = shown[0].decode()
    for name in INSTRUMENTS:
        assert f"# TYPE {name.replace('.', '_')}" in text, name
    assert 'everstep_executions_ended_total{everstep_status="x"' in text
    assert ENDED in INSTRUMENTS
    assert f"{QUEUE_DEPTH.replace('.', '_')}{{" in text


# --- requests ------------------------------------------------------------------------------------------------------


def an_app(telemetry: Telemetry, go_on: asyncio.Event) -> FastAPI:
    """Return an app with a route below a prefix, a stream, and a route that breaks."""
    app, router = FastAPI(), APIRouter()

    @router.get("/things/{name}")
    async def thing(name: str) -> dict[str, str]:
        return {"name": name, "here": current_traceparent()}

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield "data: 1\n\n"
            await go_on.wait()
            yield "data: 2\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("no")

    app.include_router(router, prefix="/api")
    app.add_middleware(AccessLog, telemetry=telemetry)
    return app


async def test_a_request_is_a_span_named_by_its_route_in_the_trace_of_its_caller(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    async with serve_app(an_app(telemetry, asyncio.Event())) as url, httpx.AsyncClient(base_url=url) as http:
        sent = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "r1"}
        answer: dict[str, Any] = (await http.get("/api/things/a", headers=sent)).json()
        await http.get("/nowhere/at/all")
        await http.get("/api/broken")
        came = {one.name: one for one in await receiver.until(lambda spans: len(spans) == 3)}
    found = came["GET /api/things/{name}"]
    assert (found.kind, found.trace_id, found.parent_id) == ("server", TRACE, CALLER)
    assert answer["here"] == f"00-{TRACE}-{found.span_id}-01"
    assert found.attributes["http.response.status_code"] == 200
    assert found.attributes["url.path"] == "/api/things/a"
    assert found.attributes["everstep.request.id"] == "r1"
    assert found.error is None
    # what callers invent is in no name
    assert came["GET"].attributes["http.response.status_code"] == 404
    assert came["GET /api/broken"].error is not None
    shown = telemetry.scrape()
    assert shown is not None
    assert 'http_route="/api/things/{name}"' in shown[0].decode()


async def test_a_stream_is_a_span_until_it_begins(receiver: OtlpReceiver, telemetry: Telemetry) -> None:
    go_on = asyncio.Event()

    def open_streams() -> bool:
        shown = telemetry.scrape()
        return shown is not None and any(
            line.startswith("everstep_streams_open{") and line.endswith(" 1.0")
            for line in shown[0].decode().split("\n")
        )

    async with serve_app(an_app(telemetry, go_on)) as url, httpx.AsyncClient(base_url=url) as http:
        async with http.stream("GET", "/api/stream") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "data: 1"
            # its span is there while it still goes on
            (one,) = await receiver.until(lambda spans: len(spans) == 1)
            assert one.name == "GET /api/stream"
            assert open_streams()
            go_on.set()
            assert "data: 2" in [line async for line in lines]
        assert not open_streams()
    assert len(receiver.spans) == 1


async def test_without_telemetry_the_callers_trace_is_continued_all_the_same() -> None:
    async with serve_app(an_app(OFF, asyncio.Event())) as url, httpx.AsyncClient(base_url=url) as http:
        sent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        assert (await http.get("/api/things/a", headers=sent)).json()["here"] == sent["traceparent"]
        assert (await http.get("/api/things/a", headers={"traceparent": "rubbish"})).json()["here"] == ""
