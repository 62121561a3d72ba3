"""The API as a real server in the test's own loop, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from engine.core.plan.ir import ToolContract
from engine.edge.server import bind, serve_api
from engine.settings import Settings
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url


@dataclass
class ApiServer:
    """A running API.

    Attributes:
        http: Client whose base is `/api`.
        url: Address of the server.
        stop: Ends the server when it is set.
        serving: The server's task.
    """

    http: httpx.AsyncClient
    url: str
    stop: asyncio.Event
    serving: asyncio.Task[None]

    @property
    def port(self) -> int:
        """Port of the server."""
        return int(self.url.rpartition(":")[2])


def settings_for(folder: Path, **more: Any) -> Settings:
    """Return settings of a test, with its store in `lab.db`."""
    return Settings(
        data_dir=folder,
        database_url=store_url(folder / "lab.db"),
        project_file=folder / "everstep.toml",
        **{"port": 0, **more},
    )


@contextlib.asynccontextmanager
async def api_server(
    settings: Settings,
    *,
    temporal: str,
    contracts: dict[str, ToolContract] | None = None,
    answer_timeout_s: float = 8.0,
) -> AsyncIterator[ApiServer]:
    """Serve the API for the length of the block."""
    listener = bind(settings)
    started, stop = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        serve_api(
            settings,
            listener=listener,
            started=started.set,
            stop=stop,
            contracts=contracts or {},
            temporal_address=temporal,
            answer_timeout_s=answer_timeout_s,
        )
    )
    waiter = asyncio.create_task(started.wait())
    await asyncio.wait({serving, waiter}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        waiter.cancel()
        serving.result()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=f"{url}/api", timeout=PATIENCE_S, trust_env=False) as http:
            yield ApiServer(http, url, stop, serving)
    finally:
        stop.set()
        await serving
        listener.close()


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream."""

    id: str
    data: dict[str, Any]


async def read_stream(http: httpx.AsyncClient, path: str, *, most: int = 10_000, last_id: str = "") -> list[Told]:
    """Read a stream until the server ends it, or until so many events were told."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    told: list[Told] = []
    event_id = ""
    async with http.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                told.append(Told(event_id, json.loads(line.removeprefix("data: "))))
                if len(told) >= most:
                    return told
    return told
