"""Copies of all that `everstep dev` keeps in its data folder, made while it runs, and back from one.

The order is what makes a copy sound. The store comes before Temporal: what was started, answered or told when the copy
began stands in the store or in a history, and what histories say beyond the store, the repair puts into it again, as it
does after a killed worker. The other way round, a start that left the store's queue in between would be in neither.
Files of large values are copied before Temporal, and again after it: a history refers only to what is there already.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine import __version__
from engine.control import links, secrets
from engine.core.errors import Conflict, EngineError, InvalidInput, NotFound, Unavailable
from engine.edge.supervisor.places import hold_folder
from engine.edge.supervisor.temporal import DATABASE as TEMPORAL_FILE
from engine.settings import Settings
from engine.store.migrating import HEAD, VERSION_TABLE
from engine.store.pulses import TEMPORAL

STORE_FILE = "everstep.db"
BLOBS = "blobs"
MANIFEST = "backup.json"
FORMAT = 1
KEY_FILES = (links.KEY_FILE, secrets.KEY_FILE)
"""Keys that are made once and kept; without them links open nothing, and secrets cannot be read."""
HALF_WRITTEN = ".new-"
BLOCK = 1_048_576


@dataclass(frozen=True, slots=True)
class Copied:
    """A file of a backup.

    Attributes:
        path: Its place in the backup, and in the data folder.
        bytes: Its size.
        sha256: Hash of its content.
    """

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup is made of; `backup.json` holds it as JSON.

    Attributes:
        made_at: When it was begun (RFC 3339).
        engine: Version of the engine.
        revision: Revision of the store's tables.
        executions: Executions that the store knew, by status.
        files: Its files.
        format: Version of this structure.
    """

    made_at: str
    engine: str
    revision: str
    executions: dict[str, int]
    files: tuple[Copied, ...]
    format: int = FORMAT

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


# --- making one ----------------------------------------------------------------------------------------------------


def make_backup(settings: Settings, target: Path) -> Backup:
    """Copy store, large values, Temporal's database and the key of links to a new folder; everything may run meanwhile.

    Args:
        settings: Settings of the installation.
        target: The folder; must not exist, or be empty. It is there whole or not at all.

    Raises:
        InvalidInput: `backup.not_embedded` if store or Temporal are none of the data folder's.
        Conflict: `backup.target` if the folder holds something.
        Unavailable: `backup.failed` if a file cannot be read or written, or a copy is damaged.
    """
    store, temporal = _sources(settings)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} is not empty", code="backup.target", hint="name a folder that does not exist yet")
    made_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with _failures(f"the backup {target} cannot be made"):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            _copy_blobs(settings.blob_dir, work / BLOBS)
            _copy_database(store, work / STORE_FILE)
            _copy_database(temporal, work / TEMPORAL_FILE)
            _copy_blobs(settings.blob_dir, work / BLOBS)
            for name in KEY_FILES:
                # there is none before the first link or secret, nor with one in the settings
                with contextlib.suppress(FileNotFoundError):
                    _write(work / name, (settings.data_dir / name).read_bytes())
            revision, executions = _look_at(work / STORE_FILE)
            paths = sorted(path for path in work.rglob("*") if path.is_file())
            files = tuple(_copied(path, work) for path in paths)
            backup = Backup(made_at, __version__, revision, executions, files)
            text = json.dumps({**asdict(backup), "format": FORMAT}, indent=1)
            _write(work / MANIFEST, text.encode())
            _sync(work)
            os.replace(work, target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return backup


def _sources(settings: Settings) -> tuple[Path, Path]:
    """Return the files of store and Temporal."""
    if settings.database_url:
        raise InvalidInput(
            "the store is not the one of the data folder: EVERSTEP_DATABASE_URL is set",
            code="backup.not_embedded",
            hint="copy that database by its own tools; docs/backup.md says in which order",
        )
    store, temporal = settings.data_dir / STORE_FILE, settings.data_dir / TEMPORAL_FILE
    for file in (store, temporal):
        if not file.is_file():
            raise InvalidInput(
                f"there is no {file.name} in {settings.data_dir}: `everstep dev` has not run on this folder",
                code="backup.not_embedded",
                hint="name its folder with --data-dir; for Temporal and PostgreSQL of your own see docs/backup.md",
            )
    return store, temporal


def _copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite file as it is at one moment, with what its log holds; writers go on meanwhile."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        # all pages in one step: in several it would begin anew whenever somebody writes
        old.backup(new)
        # one file that needs no log beside it
        new.execute("PRAGMA journal_mode=DELETE")
        _check(new, source)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _check(connection: sqlite3.Connection, file: Path) -> None:
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    if found != ["ok"]:
        raise Unavailable(
            f"{file} is damaged: {'; '.join(found)[:300]}",
            code="backup.failed",
            hint="keep your older backups, and bring the newest whole one back",
        )


def _copy_blobs(source: Path, target: Path) -> None:
    """Copy those files that are not there yet; what is there under a name never changes."""
    for path in sorted(source.glob("*/*")):
        copy = target / path.relative_to(source)
        if path.name.startswith(HALF_WRITTEN) or copy.exists():
            continue
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # one that a purge has just removed is needed by nobody
        with contextlib.suppress(FileNotFoundError):
            _write(copy, path.read_bytes())


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copied(path: Path, folder: Path) -> Copied:
    return Copied(path.relative_to(folder).as_posix(), path.stat().st_size, _hash(path))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _look_at(store: Path) -> tuple[str, dict[str, int]]:
    """Return the revision of a store, and how many executions it knows by status."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        (revision,) = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 our own name
        counted = connection.execute("SELECT status, count(*) FROM executions GROUP BY status ORDER BY status")
        return str(revision), {str(status): int(count) for status, count in counted}


# --- back from one -------------------------------------------------------------------------------------------------


def read_backup(folder: Path) -> Backup:
    """Read what a backup says it holds, and check every file of it.

    Raises:
        NotFound: `backup.not_found` if the folder is no backup.
        InvalidInput: `backup.damaged` if a file is missing, was changed, or is too much.
    """
    try:
        body: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise InvalidInput(
                f"the backup {folder} has format {body['format']}, this engine reads {FORMAT}",
                code="backup.format",
                hint="restore it with the engine's version that made it, or a newer one",
            )
        files = tuple(Copied(**file) for file in body.pop("files"))
        backup = Backup(**{**body, "files": files})
    except FileNotFoundError as error:
        raise NotFound(f"there is no backup in {folder}", code="backup.not_found") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder / MANIFEST} cannot be read: {error}", code="backup.damaged") from error
    for file in files:
        path = folder / file.path
        if Path(file.path).is_absolute() or ".." in Path(file.path).parts:
            raise InvalidInput(f"the backup names a file outside of it: {file.path}", code="backup.damaged")
        if not path.is_file() or path.stat().st_size != file.bytes or _hash(path) != file.sha256:
            raise InvalidInput(
                f"{path} is not what the backup says it is", code="backup.damaged", hint="take another backup"
            )
    if not {STORE_FILE, TEMPORAL_FILE} <= {file.path for file in files}:
        raise InvalidInput(f"the backup {folder} lacks a database", code="backup.damaged")
    return backup


def restore_backup(settings: Settings, source: Path) -> Backup:
    """Put a backup into a data folder that holds no state yet; nothing may run on it.

    Args:
        settings: Settings of the installation.
        source: Folder of the backup.

    Raises:
        NotFound: As `read_backup`.
        InvalidInput: As `read_backup`; `backup.not_embedded` if the store is not in the data folder; `store.newer` if a
            newer engine made it.
        Conflict: `backup.target` if the data folder holds state, `dev.running` if something runs on it.
        Unavailable: `backup.failed` if a file cannot be written.
    """
    if settings.database_url:
        raise InvalidInput(
            "the store is not the one of the data folder: EVERSTEP_DATABASE_URL is set",
            code="backup.not_embedded",
            hint="leave it out to restore into the data folder; docs/backup.md tells of PostgreSQL",
        )
    backup = read_backup(source)
    if backup.revision > HEAD:
        raise InvalidInput(
            f"the backup was made by a newer engine (revision {backup.revision}, this one knows up to {HEAD})",
            code="store.newer",
            hint=f"restore it with version {backup.engine} of the engine, or a newer one",
        )
    folder = settings.data_dir
    with hold_folder(folder), _failures(f"the backup {source} cannot be restored to {folder}"):
        there = [name for name in (STORE_FILE, TEMPORAL_FILE, BLOBS, *KEY_FILES) if (folder / name).exists()]
        if there:
            raise Conflict(
                f"{folder} holds state already: {', '.join(there)}",
                code="backup.target",
                hint="move the folder away, or name another one with --data-dir",
            )
        with _staging(folder) as stage:
            for file in backup.files:
                (stage / file.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write(stage / file.path, (source / file.path).read_bytes())
            _forget_processes(stage / STORE_FILE)
            # the store last: without it a restore that was cut off is seen as such, and made again
            for name in (*KEY_FILES, BLOBS, TEMPORAL_FILE, STORE_FILE):
                if (stage / name).exists():
                    os.replace(stage / name, folder / name)
            _sync(folder)
    return backup


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    stage = Path(tempfile.mkdtemp(dir=folder, prefix=".restore-"))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _forget_processes(store: Path) -> None:
    """Delete the signs of life of processes that are gone, and what only held for the store beside that Temporal.

    The references to large values are counted anew: the histories are newer than the store.
    """
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM pulses WHERE kind <> ?", (TEMPORAL,))


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unavailable(
            f"{what}: {reason}", code="backup.failed", hint="look at space and permissions, then do it again"
        ) from error
