"""Buckets of an S3 server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import SecretStr

from engine.settings import Settings


def s3_settings(endpoint: str, folder: Path, bucket: str, *, make: bool = True) -> Settings:
    """Return settings whose large payloads go to a bucket, which is made."""
    if make:
        request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    return Settings(
        data_dir=folder,
        blobs=f"s3://{bucket}/everstep",
        blobs_endpoint=endpoint,
        blobs_access_key=SecretStr("access"),
        blobs_secret_key=SecretStr("secret"),
    )


class Outage:
    """A proxy on loopback in front of a service, which a test takes away and gives back.

    Attributes:
        port: Where clients connect.
        refused: How many connections came while the service was away.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._away = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.refused = 0

    def begin(self) -> None:
        """Cut all connections and take no more."""
        self._away.set()
        for writer in self._writers:
            writer.close()

    def end(self) -> None:
        """Let the service answer again."""
        self._away.clear()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Outage]:
        """Pass connections on for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.begin()
            server.close()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away.is_set():
            self.refused += 1
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(_pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while said := await source.read(65_536):
            target.write(said)
            await target.drain()
    target.close()
