"""What each of our processes does around its work: it shows metrics, says that it is ready, and hears signals."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

from engine.core.errors import Conflict
from engine.obs.start import start_telemetry
from engine.obs.telemetry import Service, Telemetry

if TYPE_CHECKING:
    from engine.settings import Settings


def stop_on_signals() -> asyncio.Event:
    """Return what SIGINT and SIGTERM set from now on, in place of ending the process."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def announce(role: str) -> None:
    """Say on standard output that the process is ready, in one JSON line: the supervisor waits for it."""
    print(json.dumps({"ready": True, "role": role}), flush=True)  # noqa: T201


def open_telemetry(role: Service, settings: Settings) -> Telemetry:
    """Start traces and metrics, and show the latter if a port for it is set.

    Args:
        role: What the process is.
        settings: Settings of the process.

    Returns:
        Telemetry that the caller closes.

    Raises:
        Conflict: `port.in_use`.
    """
    telemetry = start_telemetry(role, content=settings.trace_content, scraped=settings.metrics_port is not None)
    telemetry.adopt_tools()
    if settings.metrics_port is not None:
        try:
            telemetry.serve(settings.metrics_host, settings.metrics_port)
        except OSError as error:
            raise Conflict(
                f"metrics cannot be shown at {settings.metrics_host}:{settings.metrics_port}: {error.strerror}",
                code="port.in_use",
                hint="give each process of this machine an EVERSTEP_METRICS_PORT of its own",
            ) from error
    return telemetry
