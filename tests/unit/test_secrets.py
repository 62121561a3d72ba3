"""Secrets in the store: encrypted for their tenant and name, opened by readers with the key, shown by nobody."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from engine.control.sealing import new_key
from engine.control.secrets import KEY_FILE, MOST_BYTES, SecretKeys, SecretReader, SecretService
from engine.core.errors import Conflict, InvalidInput, NotFound, SecretError
from engine.store.database import Database, open_database
from engine.store.schema_secrets import secrets as secrets_table
from engine.store.secrets import SecretStore
from tests.support.postgres import store_url

OLD, NEW = new_key("old"), new_key("new")
VALUE = "c4nary-of-Ada/+="

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(store_url(tmp_path / "secrets.db"))
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
def store(database: Database) -> SecretStore:
    return SecretStore(database)


def keys_of(folder: Path, own: str = "", payloads: str = "") -> SecretKeys:
    """Return keys as settings would hold them."""
    configured = (("EVERSTEP_SECRETS_KEYS", SecretStr(own)), ("EVERSTEP_ENCRYPTION_KEYS", SecretStr(payloads)))
    return SecretKeys(configured, folder)


async def test_a_secret_is_read_by_its_tenant_alone(store: SecretStore, tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    service, reader = SecretService(store, keys), SecretReader(store, keys)
    await service.set("token", VALUE, tenant="a")
    await service.set("token", "another", tenant="b")
    assert (await reader.read("a", "token")).get_secret_value() == VALUE
    assert (await reader.read("b", "token")).get_secret_value() == "another"
    with pytest.raises(SecretError) as raised:
        await reader.read("c", "token")
    assert raised.value.code == "secret.missing"
    assert not raised.value.retryable


async def test_the_store_holds_nothing_of_the_value(store: SecretStore, database: Database, tmp_path: Path) -> None:
    service = SecretService(store, keys_of(tmp_path))
    facts = await service.set("token", VALUE, tenant="a", description="for the CRM", actor="ada")
    assert VALUE not in repr(facts)
    async with database.read() as connection:
        rows = (await connection.execute(select(secrets_table))).all()
    stored = repr(rows)
    assert len(rows) == 1
    assert VALUE not in stored
    assert base64.b64encode(VALUE.encode()).decode() not in stored
    assert VALUE.encode() not in base64.b64decode(rows[0].sealed)


async def test_equal_values_are_stored_differently(store: SecretStore, tmp_path: Path) -> None:
    service = SecretService(store, keys_of(tmp_path))
    first = await service.set("token", VALUE, tenant="a")
    again = await service.set("token", VALUE, tenant="a")
    assert first.sealed != again.sealed


@pytest.mark.parametrize("change", [{"name": "other"}, {"tenant": "b"}])
async def test_a_row_that_somebody_copied_to_another_place_does_not_open(
    store: SecretStore, tmp_path: Path, change: dict[str, Any]
) -> None:
    keys = keys_of(tmp_path)
    moved = replace(await SecretService(store, keys).set("token", VALUE, tenant="a"), id="", **change)
    await store.put(moved)
    with pytest.raises(SecretError) as raised:
        await SecretReader(store, keys).read(moved.tenant, moved.name)
    assert raised.value.code == "secret.unreadable"


@pytest.mark.parametrize("sealed", ["", "AAAA", "no base64", base64.b64encode(b"x" * 40).decode()])
async def test_a_damaged_row_is_told_as_one(store: SecretStore, tmp_path: Path, sealed: str) -> None:
    keys = keys_of(tmp_path)
    await store.put(replace(await SecretService(store, keys).set("token", VALUE, tenant="a"), sealed=sealed))
    with pytest.raises(SecretError) as raised:
        await SecretReader(store, keys).read("a", "token")
    assert raised.value.code == "secret.unreadable"


async def test_the_key_is_made_once_for_its_owner_alone_and_not_by_readers(store: SecretStore, tmp_path: Path) -> None:
    keys = keys_of(tmp_path / "data")
    with pytest.raises(SecretError):
        await SecretReader(store, keys).read("a", "token")
    assert not (tmp_path / "data").exists()
    await SecretService(store, keys).set("token", VALUE, tenant="a")
    path = tmp_path / "data" / KEY_FILE
    made = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    await SecretService(store, keys).set("token", VALUE, tenant="a")
    assert path.read_text() == made
    assert made.partition(":")[2] not in repr(keys)


async def test_a_reader_that_began_before_the_first_key_was_made_has_it(store: SecretStore, tmp_path: Path) -> None:
    reader = SecretReader(store, keys_of(tmp_path))
    await SecretService(store, keys_of(tmp_path)).set("token", VALUE, tenant="a")
    assert (await reader.read("a", "token")).get_secret_value() == VALUE


async def test_a_process_without_the_key_says_which_one_it_needs(store: SecretStore, tmp_path: Path) -> None:
    await SecretService(store, keys_of(tmp_path / "one")).set("token", VALUE, tenant="a")
    await SecretService(store, keys_of(tmp_path / "two")).set("other", VALUE, tenant="a")
    with pytest.raises(SecretError) as raised:
        await SecretReader(store, keys_of(tmp_path / "two")).read("a", "token")
    assert raised.value.code == "secret.unknown_key"
    assert "EVERSTEP_SECRETS_KEYS" in raised.value.hint


async def test_keys_of_the_settings_come_first_and_older_ones_go_on_opening(store: SecretStore, tmp_path: Path) -> None:
    steps = [keys_of(tmp_path), keys_of(tmp_path, "", OLD), keys_of(tmp_path, NEW, OLD)]
    names = ["by_file", "by_payloads", "by_own"]
    ids = []
    for name, keys in zip(names, steps, strict=True):
        ids.append((await SecretService(store, keys).set(name, name.upper(), tenant="a")).key_id)
    assert ids[0].startswith("file-")
    assert ids[1:] == ["old", "new"]
    found = await SecretReader(store, steps[-1]).read_all("a", names)
    assert {name: value.get_secret_value() for name, value in found.items()} == {name: name.upper() for name in names}


async def test_after_a_reseal_the_older_keys_may_go(store: SecretStore, tmp_path: Path) -> None:
    await SecretService(store, keys_of(tmp_path)).set("one", VALUE, tenant="a", description="kept")
    await SecretService(store, keys_of(tmp_path, OLD)).set("two", VALUE, tenant="a")
    await SecretService(store, keys_of(tmp_path, OLD)).set("theirs", VALUE, tenant="b")
    service = SecretService(store, keys_of(tmp_path, f"{NEW},{OLD}"))
    assert await service.reseal(tenant="a") == 2
    assert await service.reseal(tenant="a") == 0
    reader = SecretReader(store, keys_of(tmp_path / "elsewhere", NEW))
    found = await reader.read_all("a", ["one", "two"])
    assert [value.get_secret_value() for value in found.values()] == [VALUE, VALUE]
    assert (await service.get("one", tenant="a")).description == "kept"
    assert (await service.get("theirs", tenant="b")).key_id == "old"


async def test_a_value_set_anew_keeps_its_time_of_creation_and_what_was_said_of_it(
    store: SecretStore, tmp_path: Path
) -> None:
    now = iter((1_000, 2_000, 3_000))
    service = SecretService(store, keys_of(tmp_path), clock=lambda: next(now))
    await service.set("token", "1111", tenant="a", description="for the CRM", actor="ada")
    facts = await service.set("token", "2222", tenant="a", actor="bob")
    assert (facts.created_us, facts.updated_us) == (1_000, 2_000)
    assert (facts.description, facts.updated_by) == ("for the CRM", "bob")
    assert (await service.set("token", "3333", tenant="a", description="")).description == ""


async def test_secrets_are_listed_by_name_in_pages_and_removed(store: SecretStore, tmp_path: Path) -> None:
    service = SecretService(store, keys_of(tmp_path))
    for name in ("c", "a", "b"):
        await service.set(name, VALUE, tenant="a")
    await service.set("d", VALUE, tenant="b")
    first = await service.list_secrets(tenant="a", limit=2)
    rest = await service.list_secrets(tenant="a", limit=2, after=first[-1].name)
    assert [[each.name for each in page] for page in (first, rest)] == [["a", "b"], ["c"]]
    await service.remove("b", tenant="a")
    with pytest.raises(NotFound):
        await service.remove("b", tenant="a")
    with pytest.raises(NotFound):
        await service.remove("d", tenant="a")
    assert [each.name for each in await service.list_secrets(tenant="a")] == ["a", "c"]


@pytest.mark.parametrize("name", ["", "1st", "a-b", "a.b", "ä", "a" * 129, "a\n"])
async def test_a_name_that_no_task_could_write_is_refused(store: SecretStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await SecretService(store, keys_of(tmp_path)).set(name, VALUE, tenant="a")
    assert raised.value.code == "secret.bad_name"


@pytest.mark.parametrize("value", ["", "abc", "  a  ", "abcd\0b", "\ud800abcd", "x" * (MOST_BYTES + 1)])
async def test_a_value_that_is_none_is_refused_without_being_shown(
    store: SecretStore, tmp_path: Path, value: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        await SecretService(store, keys_of(tmp_path)).set("token", value, tenant="a")
    assert raised.value.code == "secret.bad_value"
    assert not value or repr(value)[1:-1] not in str(raised.value)
    assert not await store.list_secrets(tenant="a", limit=1)


async def test_a_tenant_has_a_bounded_number_of_secrets(
    store: SecretStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.control.secrets.MOST_SECRETS", 2)
    service = SecretService(store, keys_of(tmp_path))
    await service.set("a", "1111", tenant="a")
    await service.set("b", "1111", tenant="a")
    with pytest.raises(Conflict):
        await service.set("c", "1111", tenant="a")
    await service.set("b", "2222", tenant="a")
    await service.set("c", "1111", tenant="b")


async def test_a_broken_key_is_told_without_being_shown(store: SecretStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        await SecretService(store, keys_of(tmp_path, "one:c2hvcnQ=")).set("token", VALUE, tenant="a")
    assert "EVERSTEP_SECRETS_KEYS" in str(raised.value)
    assert "c2hvcnQ" not in repr(raised.value.to_json())
