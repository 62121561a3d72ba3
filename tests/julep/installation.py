"""One installation as real processes for this folder: an API that asks for keys, a worker, a scripted model."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.apiprocess import api_process
from tests.support.dev_process import mock_model
from tests.support.patience import PATIENCE_S, START_S
from tests.support.postgres import store_url
from tests.support.servers import clean_environment
from tests.support.stage import Helper, write_project

ROOT_KEY = "the-operators-key"
WEATHER_CALL = {"name": "get_weather", "arguments": {"city": "Ghent"}}
STORY = "Once upon a time there was a loop."
SCRIPT: dict[str, Any] = {
    "models": ["mock", "mock-large"],
    "rules": [
        {
            "match": "tell a story",
            "reply": "Once upon a time there was a loop.",
            "stream": {"chunk_chars": 6, "delay_s": 0.1},
        },
        {"match": "what is the weather", "turn": 0, "tool_calls": [WEATHER_CALL]},
        {"match": "be refused", "status": 400},
    ],
}
"""Whatever no rule is about is answered with its last user message."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a tenant.

    Attributes:
        tenant: The tenant.
        text: What clients send.
    """

    tenant: str
    text: str


@dataclass(frozen=True, slots=True)
class Installation:
    """A running installation.

    Attributes:
        url: Address of the API, with `/api`: what a client of Julep is given as its base URL.
    """

    url: str

    def new_key(self, *, tenant: str = "", scope: str = "admin") -> Key:
        """Make a key.

        Args:
            tenant: Whose; empty = a tenant nobody else has, so that no test sees the things of another.
            scope: What it permits.
        """
        tenant = tenant or f"t{uuid.uuid4().hex[:12]}"
        with httpx.Client(trust_env=False, timeout=PATIENCE_S) as http:
            body = {"name": "test", "scopes": [scope], "tenant": tenant}
            answer = http.post(f"{self.url}/keys", json=body, headers={"Authorization": f"Bearer {ROOT_KEY}"})
            assert answer.status_code == 201, answer.text
        return Key(tenant, str(answer.json()["key"]))


@contextlib.contextmanager
def installation(
    folder: Path, temporal: str, *, project: str = "", script_of: dict[str, Any] | None = None
) -> Iterator[Installation]:
    """Run an installation for the length of the block; everything is ready when it begins.

    Args:
        folder: A folder of its own.
        temporal: Address of a running Temporal server.
        project: What everstep.toml says, with MODEL for the address of the model; empty = what most tests need.
        script_of: What the model says; None = SCRIPT.
    """
    script = folder / "script.json"
    script.write_text(json.dumps(script_of or SCRIPT), encoding="utf-8")
    with mock_model(script) as model:
        write_project(folder, llm_url=model)
        if project:
            (folder / "everstep.toml").write_text(project.replace("MODEL", model), encoding="utf-8")
        shared = {
            "TEMPORAL_ADDRESS": temporal,
            "EVERSTEP_TASK_QUEUE": f"julep-{uuid.uuid4().hex[:8]}",
            "EVERSTEP_API_KEY": ROOT_KEY,
        }
        with api_process(folder, **shared) as api, _worker(folder, shared):
            yield Installation(f"{api.url}/api")


@contextlib.contextmanager
def _worker(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    everything = {
        **clean_environment(),
        "EVERSTEP_DATA_DIR": str(folder),
        "EVERSTEP_DATABASE_URL": store_url(folder / "lab.db"),
        "EVERSTEP_PROJECT_FILE": str(folder / "everstep.toml"),
        **environment,
    }
    worker = Helper("worker", ["worker", "run"], folder, everything)
    worker.start()
    try:
        deadline = time.monotonic() + START_S
        while not worker.is_ready:
            if time.monotonic() > deadline or not worker.is_running:
                raise RuntimeError(f"the worker did not get ready:\n{worker.log[-4000:]}")
            time.sleep(0.02)
        yield
    finally:
        worker.kill()
