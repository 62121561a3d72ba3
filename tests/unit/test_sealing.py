"""Encryption of payloads by a ring of keys."""

from __future__ import annotations

import base64

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from engine.control.sealing import LARGE_BYTES, KeyRing, Sealer, new_key, read_ring
from engine.core.errors import InvalidInput, PayloadUnreadable
from engine.edge.cli.main import run_command

PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"the secret of Ada"')
LARGE = Payload(metadata={"encoding": b"json/plain"}, data=b'"' + b"Ada " * (LARGE_BYTES // 4) + b'"')
OLD, NEW = new_key("old"), new_key("new")


def ring(*keys: str) -> KeyRing:
    """Return a ring of these keys."""
    found = read_ring(",".join(keys))
    assert found is not None
    return found


def sealer(*keys: str, of: str = "") -> Sealer:
    """Return what encrypts the payloads of a workflow."""
    return Sealer(ring(*keys)).with_context(WorkflowSerializationContext(namespace="default", workflow_id=of))


@pytest.mark.parametrize("payload", [PLAIN, LARGE], ids=["small", "large"])
async def test_a_payload_comes_back_as_it_was_and_nothing_of_it_shows(payload: Payload) -> None:
    [sealed] = await sealer(NEW).encode([payload])
    assert sealed.metadata["encoding"] == b"binary/encrypted"
    assert sealed.metadata["everstep-key"] == b"new"
    assert b"Ada" not in sealed.SerializeToString()
    assert b"json" not in sealed.SerializeToString()
    assert await sealer(NEW).decode([sealed]) == [payload]


async def test_a_large_payload_is_compressed_before_it_is_encrypted() -> None:
    [sealed] = await sealer(NEW).encode([LARGE])
    assert sealed.ByteSize() < LARGE.ByteSize() / 100


async def test_equal_small_payloads_look_different_and_equal_large_ones_of_one_workflow_alike() -> None:
    one, two = await sealer(NEW, of="a").encode([PLAIN, PLAIN])
    assert one.data != two.data
    one, two = await sealer(NEW, of="a").encode([LARGE, LARGE])
    [other] = await sealer(NEW, of="b").encode([LARGE])
    assert one == two
    assert other.data != one.data


async def test_after_a_rotation_the_new_key_encrypts_and_both_decrypt() -> None:
    [before] = await sealer(OLD).encode([PLAIN])
    rotated = sealer(NEW, OLD)
    [after] = await rotated.encode([PLAIN])
    assert after.metadata["everstep-key"] == b"new"
    assert await rotated.decode([before, after]) == [PLAIN, PLAIN]


async def test_a_key_that_is_not_in_the_ring_is_named() -> None:
    [sealed] = await sealer(OLD).encode([PLAIN])
    for codec in (sealer(NEW), Sealer(None)):
        with pytest.raises(PayloadUnreadable, match="'old'") as caught:
            await codec.decode([sealed])
        assert caught.value.code == "payload.unknown_key"


async def test_what_was_written_before_there_were_keys_is_read_as_it_is() -> None:
    assert await sealer(NEW).decode([PLAIN]) == [PLAIN]
    assert await Sealer(None).encode([PLAIN]) == [PLAIN]


@pytest.mark.parametrize("name", ["everstep-key", "everstep-bound", "everstep-packed", "everstep-nonce", "data"])
async def test_whatever_is_changed_makes_it_unreadable(name: str) -> None:
    own = sealer(NEW, "twin:" + NEW.partition(":")[2])
    [sealed] = await own.encode([PLAIN])
    if name == "data":
        sealed.data = bytes([sealed.data[0] ^ 1]) + sealed.data[1:]
    else:
        sealed.metadata[name] = {"everstep-key": b"twin", "everstep-packed": b"1"}.get(name, b"another name")
    with pytest.raises(PayloadUnreadable) as caught:
        await own.decode([sealed])
    assert caught.value.code == "payload.damaged"


async def test_another_key_of_the_same_id_is_no_help() -> None:
    [sealed] = await sealer(NEW).encode([PLAIN])
    with pytest.raises(PayloadUnreadable, match="'new'") as caught:
        await sealer(new_key("new")).decode([sealed])
    assert caught.value.code == "payload.damaged"


async def test_a_payload_that_is_copied_into_another_history_is_refused() -> None:
    [sealed] = await sealer(NEW, of="hers").encode([PLAIN])
    with pytest.raises(PayloadUnreadable, match="hers") as caught:
        await sealer(NEW, of="his").decode([sealed])
    assert caught.value.code == "payload.foreign"
    assert await sealer(NEW, of="hers").decode([sealed]) == [PLAIN]
    # a schedule's workflows have its id and the time of the run
    assert await sealer(NEW, of="hers-2026-11-22T00:00:00Z").decode([sealed]) == [PLAIN]
    # whoever does not know whose it is, such as the codec server, can read it too
    assert await Sealer(ring(NEW)).decode([sealed]) == [PLAIN]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alone", "key 1 .* 0 bytes"),
        ("k1:" + base64.b64encode(b"short").decode(), "key 1 .* 5 bytes"),
        (f"{NEW},k2:not base64!", "key 2 .* base64"),
        (f"{NEW},{NEW}", "key 2 .* another one"),
        (f"{NEW},", "key 2 .* no id"),
        ("sp ace:" + NEW.partition(":")[2], "key 1 .* no id"),
    ],
    # the keys are made by chance, and every process of a test run must know the tests by the same names
    ids=["empty", "short", "no base64", "twice", "comma at the end", "space in the id"],
)
def test_a_wrong_ring_is_refused_with_the_number_of_the_key_and_never_shown(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        read_ring(text)
    told = f"{caught.value.message} {caught.value.hint}"
    assert NEW.partition(":")[2] not in told
    assert "not base64!" not in told


def test_an_empty_ring_is_none_and_a_ring_does_not_show_its_keys() -> None:
    assert read_ring(" ") is None
    assert repr(ring(NEW, OLD)) == "KeyRing(new, old)"


def test_a_new_key_can_be_read_and_is_another_each_time() -> None:
    assert len(ring(new_key("k")).keys["k"]) == 32
    assert new_key("k") != new_key("k")


def test_the_command_line_makes_a_key_that_the_settings_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["keys", "encryption", "2026-11"]) == 0
    made = capsys.readouterr().out.strip()
    assert list(ring(made, OLD).keys) == ["2026-11", "old"]
    assert run_command(["keys", "encryption", "no id"]) == 2
    assert "no id" in capsys.readouterr().err
