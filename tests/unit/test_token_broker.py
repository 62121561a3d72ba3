"""Tests of the way of what models write: running texts, packets, sockets, and who gets what."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from engine.broker.messages import Hello, Told, Want, Wants, decode, encode, split_piece, wants_in_packets
from engine.broker.publishing import Call, TokenPublisher
from engine.broker.rooms import PieceReader, RoomReader, TokenRooms
from engine.broker.running import Piece, RunningText
from engine.broker.transport import Role, Sent
from engine.broker.unix import MOST_BYTES, UnixTransport, socket_folder


def shown(told: Told, piece: Piece) -> bytes:
    return f"{told.path}@{told.delivery}:{piece.index}={piece.text};".encode()


async def until(true: Callable[[], object]) -> None:
    """Wait until something is so; the test's own limit ends it."""
    while not true():  # noqa: ASYNC110 - sockets set no event
        await asyncio.sleep(0.005)


@dataclasses.dataclass
class Stand:
    """A worker and two APIs in one folder."""

    worker: TokenPublisher
    one: TokenRooms
    two: TokenRooms

    def call(self, path: str = "main.0", *, tenant: str = "default", delivery: int = 1) -> Call:
        return self.worker.call(
            tenant=tenant, execution_id="e1", path=path, effect_id=f"{path}#1", attempt=1, delivery=delivery
        )


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    folder = socket_folder(tmp_path)
    made = Stand(
        TokenPublisher(UnixTransport(folder, Role.WORKER)),
        TokenRooms(UnixTransport(folder, Role.API), shown),
        TokenRooms(UnixTransport(folder, Role.API), shown),
    )
    made.worker.start()
    yield made
    await made.worker.close()
    await made.one.close()
    await made.two.close()
    assert list(folder.iterdir()) == []


# --- running texts -------------------------------------------------------------------------------------------------


def test_a_running_text_gives_what_comes_after_an_index() -> None:
    text = RunningText()
    for part in ("ab", "cd", "ef"):
        text.add("content", part)
    text.add("tool_call", "look", 0, "name")
    text.add("tool_call", "{}", 0, "arguments")
    assert text.since(0) == [
        Piece(0, "content", "abcdef"),
        Piece(6, "tool_call", "look", 0, "name"),
        Piece(10, "tool_call", "{}", 0, "arguments"),
    ]
    assert text.since(5)[0] == Piece(5, "content", "f")
    assert text.since(12) == []


def test_of_a_long_text_the_end_is_kept() -> None:
    text = RunningText(most_chars=5_000)
    for number in range(1_000):
        text.add("content", f"{number:010}")
    kept = text.since(0)
    assert sum(len(piece.text) for piece in kept) <= 5_000
    assert kept[-1].end == text.end == 10_000
    assert kept[-1].text.endswith("0000000999")


def test_pieces_that_come_twice_or_with_a_gap_keep_their_places() -> None:
    text = RunningText()
    text.put(Piece(0, "content", "abc"))
    text.put(Piece(1, "content", "bcd"))
    text.put(Piece(0, "content", "ab"))
    text.put(Piece(9, "content", "jk"))
    assert text.since(0) == [Piece(0, "content", "abcd"), Piece(9, "content", "jk")]


# --- packets -------------------------------------------------------------------------------------------------------

HEAD = Told(want=Want("t", "e", 3), effect_id="main.0#1", path="main.0", attempt=1, delivery=2)


@pytest.mark.parametrize(
    "message",
    [
        Hello(),
        Wants("api-1.sock", (Want("t", "e", 1), Want("t", "f", 2))),
        dataclasses.replace(HEAD, pieces=(Piece(4, "content", "ä\ud800\0\n"), Piece(8, "tool_call", "x", 1, "name"))),
    ],
)
def test_messages_come_out_as_they_went_in(message: Hello | Wants | Told) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"1", b'{"told": 1}', b'{"wants": [[]], "address": ""}', b"{}"])
def test_what_is_no_message_is_left_out(data: bytes) -> None:
    assert decode(data) is None


def test_long_texts_and_many_wants_are_cut_to_fit() -> None:
    text = "ä\0😀x" * 5_000
    rest: Piece | None = Piece(7, "content", text)
    pieces = []
    while rest is not None:
        piece, rest = split_piece(rest, 2_000)
        pieces.append(piece)
        assert len(encode(dataclasses.replace(HEAD, pieces=(piece,)))) < 2_300
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.index for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    wants = [Want("tenant", f"execution-{number}", number) for number in range(500)]
    packets = list(wants_in_packets("api-1.sock", wants, 2_000))
    assert max(len(packet) for packet in packets) <= 2_000
    found = [decode(packet) for packet in packets]
    assert [want for one in found if isinstance(one, Wants) for want in one.wants] == wants


# --- worker and APIs -----------------------------------------------------------------------------------------------


async def test_only_those_who_read_get_it_and_late_ones_get_it_from_the_beginning(stand: Stand) -> None:
    call = stand.call()
    call.tell("content", "before ")
    with stand.one.joined("default", "e1") as first:
        reader = RoomReader(first)
        await until(lambda: first.version)
        assert reader.take() == b"main.0@1:0=before ;"
        assert (reader.take(), reader.has_more) == (b"", False)
        call.tell("content", "then")
        await until(lambda: reader.has_more)
        assert reader.take() == b"main.0@1:7=then;"
        with stand.two.joined("default", "e1") as second, stand.two.joined("default", "e2") as other:
            late = RoomReader(second)
            await until(lambda: late.has_more)
            assert late.take() == RoomReader(first).take() == b"main.0@1:0=before then;"
            assert not other.version
    call.close()


async def test_pieces_are_told_as_they_are_each_with_the_call_that_it_is_of(stand: Stand) -> None:
    first, second = stand.call(), stand.call("main.1")
    first.tell("content", "one ")
    with stand.one.joined("default", "e1") as room:
        reader = PieceReader(room)
        await until(lambda: room.version)
        assert [(told.path, piece.index, piece.text) for told, piece in reader.take()] == [("main.0", 0, "one ")]
        assert reader.take() == []
        first.tell("content", "two")
        await until(lambda: room.calls["main.0#1"].text.end == 7)
        second.tell("reasoning", "hm")
        await until(lambda: "main.1#1" in room.calls)
        taken = [(told.path, piece.index, piece.kind, piece.text) for told, piece in reader.take()]
        assert taken == [("main.0", 4, "content", "two"), ("main.1", 0, "reasoning", "hm")]
    first.close()
    second.close()


async def test_another_tenant_gets_nothing(stand: Stand) -> None:
    with stand.one.joined("other", "e1") as theirs, stand.one.joined("default", "e1") as ours:
        await until(lambda: len(stand.worker._wishes) == 2)
        call = stand.call()
        call.tell("content", "secret")
        call.close()
        await until(lambda: ours.version)
        strangers = stand.call("main.1", tenant="other")
        strangers.tell("content", "theirs")
        strangers.close()
        await until(lambda: theirs.version)
        assert RoomReader(ours).take() == b"main.0@1:0=secret;"
        assert RoomReader(theirs).take() == b"main.1@1:0=theirs;"


async def test_a_new_delivery_begins_anew_and_the_old_one_is_not_heard_any_more(stand: Stand) -> None:
    with stand.one.joined("default", "e1") as room:
        reader = RoomReader(room)
        old = stand.call()
        old.tell("content", "lost")
        await until(lambda: reader.has_more)
        assert reader.take() == b"main.0@1:0=lost;"
        new = stand.call(delivery=2)
        new.tell("content", "again")
        await until(lambda: reader.has_more)
        old.tell("content", " and found")
        old.close()
        new.tell("content", "!")
        new.close()
        await until(lambda: room.calls["main.0#1"].text.end == 6)
        assert reader.take() == b"main.0@2:0=again!;"


async def test_a_finished_call_is_gone_and_does_not_come_back(stand: Stand) -> None:
    with stand.one.joined("default", "e1") as room:
        call = stand.call()
        call.tell("content", "x")
        await until(lambda: room.version)
        room.finish("main.0#1")
        call.tell("content", "y")
        call.close()
        other = stand.call("main.1")
        other.tell("content", "z")
        other.close()
        await until(lambda: "main.1#1" in room.calls)
        assert list(room.calls) == ["main.1#1"]


async def test_a_process_that_does_not_read_its_socket_holds_nobody_up(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path)
    worker, api = UnixTransport(folder, Role.WORKER), UnixTransport(folder, Role.API)
    await worker.open(lambda _: None)
    heard: list[bytes] = []
    await api.open(heard.append)
    # no turn of the event loop: nobody reads
    sent = [worker.send(api.address, b"x" * MOST_BYTES) for _ in range(1_000)]
    assert sent[0] is Sent.YES
    assert sent[-1] is Sent.FULL
    await until(lambda: len(heard) == sent.count(Sent.YES))
    assert worker.send(api.address, b"y") is Sent.YES
    await api.close()
    await worker.close()


async def test_what_a_full_socket_did_not_take_comes_with_the_next_round(stand: Stand) -> None:
    with stand.one.joined("default", "e1") as room:
        call = stand.call()
        await until(lambda: stand.worker._wishes)
        text = "".join(f"{number:08}" for number in range(25_000))
        for start in range(0, len(text), 1_000):
            call.tell("content", text[start : start + 1_000])
        await until(lambda: room.calls and room.calls["main.0#1"].text.end == len(text))
        assert "".join(piece.text for piece in room.calls["main.0#1"].text.since(0)) == text
        call.close()


async def test_the_socket_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path)
    worker, api = UnixTransport(folder, Role.WORKER), UnixTransport(folder, Role.API)
    await worker.open(lambda _: None)
    await api.open(lambda _: None)
    address = api.address
    # as after kill -9: closed, and the file still there
    assert api._socket is not None
    asyncio.get_running_loop().remove_reader(api._socket.fileno())
    api._socket.close()
    assert worker.send(address, b"x") is Sent.GONE
    assert not (folder / address).exists()
    assert worker.send("../lab.db", b"x") is Sent.GONE
    await worker.close()


async def test_the_sockets_of_an_installation_are_for_its_owner_alone(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path)
    api, worker = UnixTransport(folder, Role.API), UnixTransport(folder, Role.WORKER)
    await api.open(lambda _: None)
    await worker.open(lambda _: None)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [api.address, worker.address]
    assert (api.address[:4], worker.address[:7]) == ("api-", "worker-")
    await api.close()
    await worker.close()


async def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path)
    folder.mkdir(mode=0o755)
    with pytest.raises(PermissionError):
        await UnixTransport(folder, Role.API).open(lambda _: None)


def test_a_long_data_folder_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    folder = socket_folder(deep)
    assert not folder.is_relative_to(deep)
    assert len(str(folder)) < 60
    assert folder != socket_folder(tmp_path / ("y" * 90))


async def test_worker_and_api_find_each_other_whoever_comes_first(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path)
    rooms = TokenRooms(UnixTransport(folder, Role.API), shown)
    with rooms.joined("default", "e1") as room:
        await until(lambda: list(folder.glob("api-*")) if folder.exists() else [])
        worker = TokenPublisher(UnixTransport(folder, Role.WORKER))
        worker.start()
        await until(lambda: worker._wishes)
        call = worker.call(tenant="default", execution_id="e1", path="p", effect_id="p#1", attempt=1, delivery=1)
        call.tell("content", "hello")
        await until(lambda: room.version)
        with contextlib.closing(call):
            assert RoomReader(room).take() == b"p@1:0=hello;"
    await worker.close()
    await rooms.close()
