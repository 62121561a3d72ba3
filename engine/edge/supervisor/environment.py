"""What the processes of `dev` find in their environment, and so which language model prompts go to."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.edge.supervisor.places import LOOPBACK

if TYPE_CHECKING:
    # `dev` imports what the API needs in a thread, while the other processes start
    pass
from engine.edge.supervisor.interfaces import DevOptions


def model_source(project_file: Path, environment: Mapping[str, str], *, bundled: bool = True) -> str:
    """Say which language model prompts go to.

    Args:
        project_file: The operator's everstep.toml; may be missing.
        environment: Environment variables.
        bundled: Whether the bundled model may be used.

    Returns:
        `openai` (OPENAI_API_KEY or OPENAI_BASE_URL is set), `everstep.toml`, `bundled` or `none`.
    """
    if environment.get("OPENAI_API_KEY") or environment.get("OPENAI_BASE_URL"):
        return "openai"
    if project_file.is_file():
        try:
            if tomllib.loads(project_file.read_text(encoding="utf-8")).get("backends"):
                return "everstep.toml"
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            # the worker and the API read the file too and say what is wrong with it
            return "none"
    return "bundled" if bundled else "none"


def child_environment(options: DevOptions, ports: Mapping[str, int], *, bundled: bool) -> dict[str, str]:
    """Return the environment of the children: ours, with the addresses and folders of this run.

    Args:
        options: What the user asked for.
        ports: Ports by name.
        bundled: Whether the bundled model is used.
    """
    environment = dict(os.environ)
    environment |= {
        "EVERSTEP_DATA_DIR": str(options.data_dir.absolute()),
        "EVERSTEP_PROJECT_FILE": str(options.project_file.absolute()),
        "TEMPORAL_ADDRESS": f"{LOOPBACK}:{ports['temporal']}",
        "TEMPORAL_NAMESPACE": "default",
        "PYTHONUNBUFFERED": "1",
    }
    # one worker for everything: nobody else would make the calls of pools
    environment.setdefault("EVERSTEP_POOL", "*")
    environment.pop("EVERSTEP_MODEL_URL", None)
    # worker and repair would fight for one port; the API shows its metrics beside them
    environment.pop("EVERSTEP_METRICS_PORT", None)
    if bundled:
        environment["EVERSTEP_MODEL_URL"] = f"http://{LOOPBACK}:{ports['model']}/v1"
    return environment
