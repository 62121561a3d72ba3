"""Starts the telemetry of a process as the standard variables (OTEL_…) say; without them nothing is even imported."""

from __future__ import annotations

import os

from engine.obs.telemetry import OFF, Service, Telemetry


def sends_traces() -> bool:
    """Whether the standard variables (OTEL_…) say that spans are to be sent."""
    return _wanted("TRACES")


def sends_metrics() -> bool:
    """Whether the standard variables (OTEL_…) say that metrics are to be sent."""
    return _wanted("METRICS")


def _wanted(signal: str) -> bool:
    if disabled() or os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() != "otlp":
        return False
    return any(os.environ.get(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT", "").strip() for name in ("", f"{signal}_"))


def disabled() -> bool:
    """Whether OTEL_SDK_DISABLED switches everything off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def start_telemetry(role: Service, *, content: bool = False, scraped: bool = False) -> Telemetry:
    """Start traces and metrics as the standard variables (OTEL_…) say.

    Args:
        role: What the process is; its service is called `everstep-ROLE` if OTEL_SERVICE_NAME does not name it.
        content: Whether spans may carry messages, arguments and outputs.
        scraped: Whether metrics are also kept to be read as Prometheus' text.

    Returns:
        Telemetry that the caller closes; one that does nothing if nothing is wanted.
    """
    traces, metrics = sends_traces(), sends_metrics()
    if disabled() or not (traces or metrics or scraped):
        return OFF
    # imported late: the libraries cost a tenth of a second, which no process without telemetry need pay
    from engine.obs.sdk import SdkTelemetry

    return SdkTelemetry(role, traces=traces, metrics=metrics, content=content, scraped=scraped)
