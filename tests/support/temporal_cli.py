"""Temporal's own command line, as other hands use it."""

from __future__ import annotations

import subprocess

from engine.edge.supervisor.temporal import find_temporal
from tests.support.lab import Lab


def temporal_cli(lab: Lab, *arguments: str) -> str:
    """Run a command of Temporal's against the laboratory's server and return what it printed."""
    address = lab.client.service_client.config.target_host
    done = subprocess.run(
        [find_temporal(), *arguments, "--address", address], input="y\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
