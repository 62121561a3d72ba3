"""The metrics of all processes: name, kind, unit, attributes and what they say; the documents show this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# what the GenAI conventions recommend
_GEN_AI_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_GEN_AI_TOKENS = tuple(float(4**power) for power in range(14))


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric.

    Attributes:
        kind: How it counts.
        unit: Unit of its values.
        says: What it tells, for people.
        attributes: Names of the attributes that its values carry; none of them grows with executions or tasks.
        process: Which processes have it.
        bounds: Upper bounds of a histogram's buckets.
    """

    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    says: str
    attributes: tuple[str, ...] = ()
    process: str = "worker"
    bounds: tuple[float, ...] = ()


TOKENS = "gen_ai.client.token.usage"
CHAT_SECONDS = "gen_ai.client.operation.duration"
STARTED = "everstep.executions.started"
ENDED = "everstep.executions.ended"
BY_STATUS = "everstep.executions"
EFFECT_SECONDS = "everstep.effect.duration"
EFFECT_FAILURES = "everstep.effect.failures"
EVENTS_WRITTEN = "everstep.events.written"
FLUSH_LAG = "everstep.events.lag"
QUEUE_DEPTH = "everstep.events.queued"
REPAIRED = "everstep.repair.executions"
STREAMS = "everstep.streams.open"
REQUEST_SECONDS = "http.server.request.duration"

_MODEL = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")

INSTRUMENTS: dict[str, Instrument] = {
    TOKENS: Instrument(
        "histogram", "{token}", "Tokens of a model call", (*_MODEL, "gen_ai.token.type"), bounds=_GEN_AI_TOKENS
    ),
    CHAT_SECONDS: Instrument(
        "histogram", "s", "How long a model call took", (*_MODEL, "error.type"), bounds=_GEN_AI_SECONDS
    ),
    STARTED: Instrument("counter", "{execution}", "Executions that began"),
    ENDED: Instrument(
        "counter", "{execution}", "Executions whose end was stored", ("everstep.status",), "worker, repair, api"
    ),
    BY_STATUS: Instrument(
        "gauge", "{execution}", "Executions in the store, counted at most every 5 s", ("everstep.status",), "api"
    ),
    EFFECT_SECONDS: Instrument(
        "histogram",
        "s",
        "How long an attempt at a model or tool call took",
        ("everstep.effect.kind", "everstep.outcome"),
        bounds=_SECONDS,
    ),
    EFFECT_FAILURES: Instrument(
        "counter", "{attempt}", "Attempts at calls that failed", ("everstep.effect.kind", "error.type")
    ),
    EVENTS_WRITTEN: Instrument("counter", "{event}", "Events written to the store by the live path"),
    FLUSH_LAG: Instrument(
        "histogram", "s", "Age of the oldest event of a batch when it was in the store", bounds=_SECONDS
    ),
    QUEUE_DEPTH: Instrument("gauge", "{event}", "Events that wait to be written"),
    REPAIRED: Instrument(
        "counter", "{execution}", "Executions whose rows were made those of their history", process="repair"
    ),
    STREAMS: Instrument("gauge", "{stream}", "Streams that are open", process="api"),
    REQUEST_SECONDS: Instrument(
        "histogram",
        "s",
        "How long an answer took; of a stream, until it began",
        ("http.request.method", "http.route", "http.response.status_code"),
        "api",
        _SECONDS,
    ),
}
