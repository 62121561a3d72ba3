"""What models write goes by PostgreSQL's NOTIFY where the store is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from engine.broker.choosing import choose_transport, token_publisher
from engine.broker.postgres import PostgresTransport
from engine.broker.rooms import RoomReader, TokenRooms
from engine.broker.transport import Role
from tests.support.postgres import PostgresServer, on_postgres, store_url
from tests.unit.test_token_broker import shown


async def until(true: Callable[[], object]) -> None:
    """Wait until something is so; the test's own limit ends it."""
    while not true():  # noqa: ASYNC110 - the server sets no event
        await asyncio.sleep(0.005)


async def test_tokens_go_over_notify_in_packets_that_fit(postgres: PostgresServer, tmp_path: Path) -> None:
    with on_postgres(postgres, tmp_path):
        url = store_url(tmp_path / "lab.db")
        transport = choose_transport(Role.API, data_dir=tmp_path, store_url=url)
        assert isinstance(transport, PostgresTransport)
        rooms = TokenRooms(transport, shown)
        worker = token_publisher(data_dir=tmp_path, store_url=url)
        worker.start()
        try:
            with rooms.joined("default", "e1") as room, rooms.joined("other", "e1") as theirs:
                call = worker.call(
                    tenant="default", execution_id="e1", path="main.0", effect_id="main.0#1", attempt=1, delivery=1
                )
                call.tell("content", "early ")
                await until(lambda: room.version)
                assert RoomReader(room).take() == b"main.0@1:0=early ;"
                text = "ä\0'x" * 10_000
                call.tell("content", text)
                await until(lambda: room.calls["main.0#1"].text.end == 6 + len(text))
                assert "".join(piece.text for piece in room.calls["main.0#1"].text.since(6)) == text
                assert not theirs.version
                call.close()
        finally:
            await worker.close()
            await rooms.close()
