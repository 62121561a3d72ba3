"""A backup of a running installation, taken into an empty folder, goes on from where it was made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.control.links import read_signing_key
from engine.control.secrets import SecretKeys
from engine.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from engine.edge.cli.api import Api
from engine.edge.supervisor import backups
from engine.edge.supervisor.backups import MANIFEST, make_backup, read_backup, restore_backup
from engine.edge.supervisor.places import hold_folder
from engine.settings import Settings
from tests.support.dev_process import DevProcess, await_all_gone, everstep, running_dev
from tests.support.example_server import serving
from tests.support.receiver import Receiver

MANY = 20
TASK = """
name: week
input_schema: {type: object, required: [url, n]}
tools:
  - {name: post, type: api_call, idempotent: true, api_call: {method: POST, url: "http://127.0.0.1/"}}
main:
  - {tool: post, arguments: {url: "$ input.url + '/first'", json: {n: $ input.n}}}
  - {evaluate: "$ 'x' * 400000", label: large}
  - {parallel: [{wait_for_input: {info: go?}}, {sleep: 1.5}]}
  - {tool: post, arguments: {url: "$ input.url + '/second'", json: {n: $ input.n}}}
  - {evaluate: "$ [input.n, len(steps.large.output)]"}
"""


def until(check: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Return the first true answer of a check."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not come true in {timeout_s:g} s: {check()!r}")


def destroy(dev: DevProcess, folder: Path) -> None:
    """Kill all processes with SIGKILL and delete their folder, as a dead machine does."""
    family = dev.family()
    for process in family.values():
        # some end with their parent, before their turn comes
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    dev.process.wait(10)
    assert await_all_gone(family) == {}
    dev.stop()
    shutil.rmtree(folder)


def start_all(api: Api, url: str) -> list[str]:
    """Start executions and let them get to different places."""
    api.post("/tasks/apply", {"tasks": [{"file": "week.yaml", "source": TASK}]})
    ids = [
        str(api.post("/tasks/week/executions", {"input": {"url": url, "n": number}})["id"]) for number in range(MANY)
    ]
    until(lambda: api.get(f"/executions/{ids[MANY // 2]}")["status"] == "awaiting_input")
    until(lambda: all(api.get(f"/executions/{one}")["status"] == "awaiting_input" for one in ids[:5]))
    for execution in ids[:5]:
        api.put(f"/executions/{execution}", {"status": "running", "input": "before"})
    return ids


def finish_all(api: Api, ids: list[str]) -> dict[str, Any]:
    """Answer what waits until all have ended, and return what is said of them."""
    done: dict[str, Any] = {}

    def step() -> bool:
        for execution in ids:
            view = api.get(f"/executions/{execution}")
            if view["status"] in ("succeeded", "failed", "cancelled"):
                done[execution] = view
            elif view["status"] == "awaiting_input":
                # one that was answered just before the backup still looks as if it waited for a moment
                with contextlib.suppress(Conflict, InvalidInput):
                    api.put(f"/executions/{execution}", {"status": "running", "input": "after"})
        return len(done) == len(ids)

    until(step, 60)
    return done


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_executions_that_run_while_a_backup_is_made_finish_after_everything_was_destroyed(tmp_path: Path):
    folder, receiver = tmp_path / "data", Receiver()
    with serving(receiver) as url:
        project = tmp_path / "everstep.toml"
        project.write_text('[http]\nallow = ["127.0.0.1:*"]\n', encoding="utf-8")
        arguments = ["--project", str(project), "--no-model"]
        with running_dev(folder, *arguments) as dev:
            ids = start_all(Api(dev.address), url)
            said = everstep("backup", str(tmp_path / "copy"), "--data-dir", str(folder), "-o", "json")
            assert said.code == 0, said.err
            later = str(Api(dev.address).post("/tasks/week/executions", {"input": {"url": url, "n": 99}})["id"])
            destroy(dev, folder)
        assert sum(said.json["executions"].values()) == MANY
        back = everstep("restore", str(tmp_path / "copy"), "--data-dir", str(folder), "-o", "json")
        assert back.code == 0, back.err
        assert back.json["executions"] == said.json["executions"]
        with running_dev(folder, *arguments) as dev:
            api = Api(dev.address)
            done = finish_all(api, ids)
            outputs = sorted(view["output"] for view in done.values())
            assert {view["status"] for view in done.values()} == {"succeeded"}
            assert outputs == [[number, 400_000] for number in range(MANY)]
            # what began after the backup is not there, and nobody says that it is
            with pytest.raises(NotFound):
                api.get(f"/executions/{later}")
            until(lambda: all(api.get(f"/executions/{one}")["verified"] is not False for one in ids))
            assert everstep("reindex", "--all", "--data-dir", str(folder), "-o", "json").json["failed"] == 0
    # what ran between the backup and the end of the machine was done again under the same key: a receiver that goes
    # by keys has seen each effect once
    ours = {key for key in receiver.keys if key.partition(":")[0] in ids}
    assert len(ours) == 2 * MANY


# --- what is refused, and what is whole -----------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder with two small databases and a large value."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("everstep.db", "temporal.db"):
        connection = sqlite3.connect(folder / name)
        connection.executescript(
            "PRAGMA journal_mode=WAL; CREATE TABLE alembic_version (version_num TEXT);"
            "INSERT INTO alembic_version VALUES ('0001'); CREATE TABLE executions (status TEXT);"
            "INSERT INTO executions VALUES ('running'); CREATE TABLE pulses (kind TEXT);"
            "INSERT INTO pulses VALUES ('worker'), ('temporal'), ('blobs')"
        )
        connection.close()
    (folder / "blobs" / "ab").mkdir(parents=True)
    (folder / "blobs" / "ab" / "abcd").write_bytes(b"large")
    (folder / "blobs" / "ab" / ".new-half").write_bytes(b"lar")
    return Settings(data_dir=folder)


def test_a_backup_holds_both_databases_and_whole_large_values(settings: Settings, tmp_path: Path):
    made = make_backup(settings, tmp_path / "copy")
    assert [file.path for file in made.files] == ["blobs/ab/abcd", "everstep.db", "temporal.db"]
    assert (made.revision, made.executions) == ("0001", {"running": 1})
    assert read_backup(tmp_path / "copy") == made
    assert [path.stat().st_mode & 0o077 for path in (tmp_path / "copy", tmp_path / "copy" / "everstep.db")] == [0, 0]


def test_what_stands_in_the_log_of_a_database_is_in_the_backup(settings: Settings, tmp_path: Path):
    writer = sqlite3.connect(settings.data_dir / "everstep.db", isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.execute("INSERT INTO executions VALUES ('running')")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO executions VALUES ('never committed')")
    try:
        assert make_backup(settings, tmp_path / "copy").executions == {"running": 2}
    finally:
        writer.close()


def test_the_store_is_copied_before_temporal_and_large_values_before_and_after(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    order: list[str] = []
    database, blobs = backups._copy_database, backups._copy_blobs

    def copy_database(old: Path, new: Path) -> None:
        order.append(old.name)
        database(old, new)

    def copy_blobs(old: Path, new: Path) -> None:
        order.append("blobs")
        blobs(old, new)

    monkeypatch.setattr(backups, "_copy_database", copy_database)
    monkeypatch.setattr(backups, "_copy_blobs", copy_blobs)
    make_backup(settings, tmp_path / "copy")
    assert order == ["blobs", "everstep.db", "temporal.db", "blobs"]


def test_a_restore_gives_the_same_files_and_forgets_the_processes(settings: Settings, tmp_path: Path):
    make_backup(settings, tmp_path / "copy")
    other = Settings(data_dir=tmp_path / "other")
    restore_backup(other, tmp_path / "copy")
    assert sorted(path.name for path in other.data_dir.iterdir()) == ["blobs", "dev.lock", "everstep.db", "temporal.db"]
    assert (other.data_dir / "blobs" / "ab" / "abcd").read_bytes() == b"large"
    connection = sqlite3.connect(other.data_dir / "everstep.db")
    assert connection.execute("SELECT kind FROM pulses").fetchall() == [("temporal",)]
    connection.close()


def test_the_key_of_links_comes_back_and_is_readable_by_nobody_else(settings: Settings, tmp_path: Path):
    made = read_signing_key(None, settings.data_dir)
    backup = make_backup(settings, tmp_path / "copy")
    assert [file.path for file in backup.files] == ["blobs/ab/abcd", "everstep.db", "signing.key", "temporal.db"]
    other = Settings(data_dir=tmp_path / "other")
    restore_backup(other, tmp_path / "copy")
    assert read_signing_key(None, other.data_dir) == made
    for folder in (tmp_path / "copy", other.data_dir):
        assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600
    # one that is there already signs links that are out
    there = Settings(data_dir=tmp_path / "there")
    own = read_signing_key(None, there.data_dir)
    with pytest.raises(Conflict, match=r"signing\.key"):
        restore_backup(there, tmp_path / "copy")
    assert read_signing_key(None, there.data_dir) == own


def test_the_key_of_secrets_comes_back_and_is_readable_by_nobody_else(settings: Settings, tmp_path: Path):
    made = SecretKeys.of(settings).ring(make=True)
    backup = make_backup(settings, tmp_path / "copy")
    assert "secrets.key" in [file.path for file in backup.files]
    other = Settings(data_dir=tmp_path / "other")
    restore_backup(other, tmp_path / "copy")
    assert SecretKeys.of(other).ring() == made
    assert stat.S_IMODE((other.data_dir / "secrets.key").stat().st_mode) == 0o600


def test_a_backup_never_writes_over_anything(settings: Settings, tmp_path: Path):
    make_backup(settings, tmp_path / "copy")
    before = (tmp_path / "copy" / MANIFEST).read_bytes()
    with pytest.raises(Conflict) as caught:
        make_backup(settings, tmp_path / "copy")
    assert caught.value.code == "backup.target"
    with pytest.raises(Conflict) as caught:
        restore_backup(settings, tmp_path / "copy")
    assert caught.value.code == "backup.target"
    assert "everstep.db" in caught.value.message
    assert (tmp_path / "copy" / MANIFEST).read_bytes() == before


def test_nothing_is_restored_under_a_running_installation(settings: Settings, tmp_path: Path):
    make_backup(settings, tmp_path / "copy")
    with hold_folder(tmp_path / "busy"), pytest.raises(Conflict) as caught:
        restore_backup(Settings(data_dir=tmp_path / "busy"), tmp_path / "copy")
    assert caught.value.code == "dev.running"


@pytest.mark.parametrize("harm", ["changed", "missing", "no manifest", "outside", "other format", "no database"])
def test_a_damaged_backup_is_refused_before_anything_is_written(settings: Settings, tmp_path: Path, harm: str):
    copy = tmp_path / "copy"
    make_backup(settings, copy)
    body = json.loads((copy / MANIFEST).read_text())
    if harm == "changed":
        (copy / "blobs" / "ab" / "abcd").write_bytes(b"lArge")
    elif harm == "missing":
        (copy / "temporal.db").unlink()
    elif harm == "no manifest":
        (copy / MANIFEST).unlink()
    elif harm == "outside":
        body["files"][0]["path"] = "../data/everstep.db"
    elif harm == "other format":
        body["format"] = 2
    else:
        body["files"] = body["files"][:2]
    if harm in ("outside", "other format", "no database"):
        (copy / MANIFEST).write_text(json.dumps(body))
    target = Settings(data_dir=tmp_path / "other")
    with pytest.raises((InvalidInput, NotFound)) as caught:
        restore_backup(target, copy)
    wanted = {"no manifest": "backup.not_found", "other format": "backup.format"}
    assert caught.value.code == wanted.get(harm, "backup.damaged")
    assert not target.data_dir.exists()


def test_a_backup_of_a_newer_engine_is_refused(settings: Settings, tmp_path: Path):
    connection = sqlite3.connect(settings.data_dir / "everstep.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    make_backup(settings, tmp_path / "copy")
    with pytest.raises(InvalidInput) as caught:
        restore_backup(Settings(data_dir=tmp_path / "other"), tmp_path / "copy")
    assert caught.value.code == "store.newer"


def test_a_store_elsewhere_is_left_to_its_own_tools(settings: Settings, tmp_path: Path):
    outside = settings.model_copy(update={"database_url": "postgresql://u:p@h/d"})
    for do in (lambda: make_backup(outside, tmp_path / "copy"), lambda: restore_backup(outside, tmp_path / "copy")):
        with pytest.raises(InvalidInput) as caught:
            do()
        assert caught.value.code == "backup.not_embedded"
        assert "p@h" not in str(caught.value)


def test_a_damaged_database_is_not_backed_up(settings: Settings, tmp_path: Path):
    connection = sqlite3.connect(settings.data_dir / "temporal.db")
    with connection:
        connection.executemany("INSERT INTO executions VALUES (?)", [("x" * 900,)] * 400)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with (settings.data_dir / "temporal.db").open("r+b") as file:
        file.seek(4096 * 20)
        file.write(os.urandom(4096 * 4))
    with pytest.raises(Unavailable) as caught:
        make_backup(settings, tmp_path / "copy")
    assert caught.value.code == "backup.failed"
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing half-made is left"
