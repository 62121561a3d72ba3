"""Temporal's own command line, as other hands use it."""

from __future__ import annotations

import subprocess

from engine.edge.supervisor.temporal import find_temporal
from tests.support.lab import Lab

QUICK_DELETES = [f'history.{queue}ProcessorUpdateAckInterval="1s"' for queue in ("transfer", "timer", "visibility")]
"""Settings of a server that deletes what has just ended at once; otherwise it takes half a minute to find out that
the work which the end made is done."""


def temporal_cli(lab: Lab, *arguments: str) -> str:
    """Run a command of Temporal's against the laboratory's server and return what it printed."""
    address = lab.client.service_client.config.target_host
    done = subprocess.run(
        [find_temporal(), *arguments, "--address", address], input="y\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
