"""Files in the store, on both databases: kept byte by byte, listed in pages, and seen by their tenant alone."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.control import files as limits
from engine.control.files import FileService, file_view
from engine.control.projects import ProjectService
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.store.database import Database, open_database
from engine.store.files import FileStore
from engine.store.projects import ProjectStore
from tests.support.postgres import store_url

EVERY_BYTE = bytes(range(256))

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "files.db"))
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def files(database: Database) -> FileService:
    return FileService(FileStore(database))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_a_file_is_read_as_it_was_stored(files: FileService) -> None:
    made = await files.create("all.bin", encoded(EVERY_BYTE), tenant="t", mime_type="a/b", actor="ada")
    assert await files.get(made[0].id, tenant="t") == made
    told = file_view(*made)
    assert (told["size"], told["hash"]) == (256, "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880")
    assert (told["content"], told["mime_type"], told["project"]) == (encoded(EVERY_BYTE), "a/b", None)
    empty = await files.create("empty", "", tenant="t")
    assert (empty[0].size, empty[1]) == (0, b"")


async def test_files_of_another_tenant_are_not_there(files: FileService) -> None:
    made, _ = await files.create("a", encoded(b"a"), tenant="t")
    for ask in (files.get, files.remove):
        with pytest.raises(NotFound) as caught:
            await ask(made.id, tenant="u")
        assert caught.value.code == "file.not_found"
    assert (await files.page(tenant="u", limit=9, offset=0)).files == []
    assert (await files.remove(made.id, tenant="t"))["id"] == made.id
    with pytest.raises(NotFound):
        await files.get(made.id, tenant="t")


async def test_a_list_comes_in_pages_which_end_before_they_have_too_many_bytes(
    files: FileService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_LISTED_BYTES", 10)
    for size in (11, 5, 5, 1):
        await files.create(str(size), encoded(b"x" * size), tenant="t")
    seen: list[list[int]] = []
    offset: int | None = 0
    while offset is not None:
        page = await files.page(tenant="t", limit=9, offset=offset, descending=False)
        seen.append([facts.size for facts, _ in page.files])
        offset = page.next_offset
    assert seen == [[11], [5, 5], [1]]
    newest = await files.page(tenant="t", limit=1, offset=0)
    assert ([facts.name for facts, _ in newest.files], newest.next_offset) == (["1"], 1)


async def test_what_is_no_base64_or_too_large_is_refused(files: FileService, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in ("*no base64*", "YQ", "YQ==\n", "ä"):
        with pytest.raises(InvalidInput) as caught:
            await files.create("a", content, tenant="t")
        assert caught.value.code == "file.not_base64"
    monkeypatch.setattr(limits, "MOST_BYTES", 2)
    with pytest.raises(InvalidInput) as caught:
        await files.create("a", encoded(b"abc"), tenant="t")
    assert caught.value.code == "file.too_large"


async def test_a_repeated_request_stores_one_file(files: FileService) -> None:
    first, _ = await files.create("a", encoded(b"a"), tenant="t", request_key="k")
    again, _ = await files.create("a", encoded(b"a"), tenant="t", request_key="k")
    assert again == first
    with pytest.raises(Conflict) as caught:
        await files.create("a", encoded(b"b"), tenant="t", request_key="k")
    assert caught.value.code == "idempotency.key_reused"


async def test_a_file_names_its_project_by_the_canonical_name_that_it_has_now(
    files: FileService, database: Database
) -> None:
    projects = ProjectService(ProjectStore(database))
    made = await projects.create({"name": "P", "canonical_name": "one"}, tenant="t")
    file, _ = await files.create("a", "", tenant="t", project=made.id)
    assert file.project == "one"
    await projects.patch("one", {"canonical_name": "two"}, tenant="t")
    assert (await files.get(file.id, tenant="t"))[0].project == "two"
    with pytest.raises(NotFound) as caught:
        await files.create("a", "", tenant="t", project="one")
    assert caught.value.code == "project.not_found"
