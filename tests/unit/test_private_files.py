"""Who may read what the engine writes: its owner alone, since prompts and answers stand in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import StorageDriverStoreContext

from engine.broker.transport import Role
from engine.broker.unix import UnixTransport
from engine.control.blobs import FileDriver
from engine.edge.cli.doctor import check_store
from engine.edge.supervisor.places import hold_folder, new_log
from engine.store.database import open_database


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


async def test_a_store_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    database = await open_database(f"sqlite:///{folder / 'everstep.db'}")
    try:
        assert mode_of(folder) == 0o700
        made = {path.name: mode_of(path) for path in folder.iterdir()}
        assert {"everstep.db", "everstep.db-wal"} <= made.keys()
        assert set(made.values()) == {0o600}
    finally:
        await database.close()


async def test_a_folder_that_is_there_keeps_its_mode_and_doctor_warns(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    await (await open_database(f"sqlite:///{folder / 'everstep.db'}")).close()
    assert (mode_of(folder), mode_of(folder / "everstep.db")) == (0o755, 0o600)


@pytest.mark.parametrize(("mode", "state"), [(0o755, "warning"), (0o750, "warning"), (0o700, "ok")])
def test_doctor_says_how_to_close_an_open_data_folder(tmp_path: Path, mode: int, state: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    finding = check_store(folder)[0]
    assert (finding.check, finding.state) == ("data folder", state)
    assert finding.remedy == ("" if state == "ok" else f"run `chmod 700 {folder}`")
    assert check_store(tmp_path / "new")[0].state == "ok"


async def test_large_values_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    driver = FileDriver(tmp_path / "data" / "blobs")
    await driver.store(StorageDriverStoreContext(), [Payload(data=b"x")])
    made = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert len(made) == 4
    assert [mode_of(path) for path in sorted(made)] == [0o700, 0o700, 0o700, 0o600]


async def test_whatever_makes_the_data_folder_first_makes_it_private(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "dev"):
        assert mode_of(tmp_path / "dev") == 0o700
        log = new_log(tmp_path / "dev", "worker")
        assert (mode_of(log.parent), mode_of(log)) == (0o700, 0o600)
    transport = UnixTransport(tmp_path / "s" / "sockets", Role.API)
    await transport.open(lambda *_: None)
    await transport.close()
    assert (mode_of(tmp_path / "s"), mode_of(tmp_path / "s" / "sockets")) == (0o700, 0o700)
