"""The registry as one view: whose word counts, in which order, and what the store holds of it on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.control.registry import registry_of
from engine.core.errors import Conflict, NotFound
from engine.settings import BackendConfig, Capabilities, Group, Project
from engine.store.backend_states import BackendStateStore, CheckedBackend, FoundModel
from engine.store.database import Database, open_database
from engine.store.pulls import AGAIN_US, PullStore
from engine.store.registry import EntryChange, EntryFacts, RegistryStore
from tests.support.postgres import store_url

URL = "http://127.0.0.1:9/v1"
T0 = 1_800_000_000_000_000


def entry(name: str, body: dict[str, Any], kind: Any = "backend") -> EntryFacts:
    return EntryFacts(kind=kind, name=name, position=1, body=body, rev=1, created_us=T0, updated_us=T0)


def test_the_file_comes_before_the_store_and_the_bundled_model_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERSTEP_MODEL_URL", URL)
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    file = BackendConfig(base_url=URL, models=["file"])
    bundled = BackendConfig(base_url=URL, models=["smollm2"])
    openai = BackendConfig(base_url=URL)
    project = Project(backends={"openai": openai, "filed": file, "bundled": bundled})
    registry = registry_of(project, [entry("stored", {"kind": "ollama"}), entry("filed", {"kind": "ollama"})])
    assert {name: item.source for name, item in registry.backends.items()} == {
        "openai": "environment",
        "filed": "file",
        "stored": "store",
        "bundled": "bundled",
    }
    assert list(registry.merged().backends) == ["openai", "filed", "stored", "bundled"]
    assert registry.merged().backends["filed"] == file


def test_an_entry_that_cannot_be_read_takes_no_other_away() -> None:
    entries = [entry("new", {"kind": "of-a-newer-engine"}), entry("old", {"kind": "ollama"})]
    assert list(registry_of(Project(), entries).backends) == ["old"]


def test_groups_of_file_and_store_are_one_list() -> None:
    project = Project(groups={"a": Group(models=["m"])})
    registry = registry_of(project, [entry("b", {"models": ["x/m"]}, "group"), entry("a", {"models": ["z"]}, "group")])
    merged = registry.merged().groups
    assert {name: group.models for name, group in merged.items()} == {"a": ["m"], "b": ["x/m"]}


def test_what_a_backend_tells_fills_in_what_nobody_declared() -> None:
    declared = {"m": {"tools": False}, "*": {"vision": False}}
    registry = registry_of(Project(), [entry("b", {"kind": "ollama", "capabilities": declared})])
    told = {"capabilities": {"tools": True, "vision": True, "context": 8192}}
    found = [FoundModel(backend="b", model=name, seen_us=T0, body=told) for name in ("m", "n")]
    config = registry.merged(found).backends["b"]
    assert config.capabilities_of("m") == Capabilities(tools=False, vision=True, context=8192)
    assert config.capabilities_of("n") == Capabilities(tools=True, vision=False, context=8192)
    assert config.capabilities_of("unheard-of") == Capabilities(vision=False)


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def database(tmp_path: Path, both_stores: str) -> AsyncIterator[Database]:
    del both_stores
    opened = await open_database(store_url(tmp_path / "registry.db"))
    try:
        yield opened
    finally:
        await opened.close()


async def test_each_change_moves_the_mark_and_a_refused_one_changes_nothing(database: Database) -> None:
    store = RegistryStore(database)
    assert await store.marks() == (0, 0)
    add = EntryChange(kind="backend", name="a", body={"kind": "ollama"}, is_new=True)
    (made,) = await store.write([add], now_us=T0, actor="ada")
    assert (made.rev, made.actor, await store.marks()) == (1, "ada", (1, 0))
    more = EntryChange(kind="group", name="g", body={"models": ["a/m"]}, is_new=True)
    with pytest.raises(Conflict, match="already"):
        await store.write([more, add], now_us=T0)
    assert [item.name for item in await store.all()] == ["a"]
    assert await store.marks() == (1, 0)
    moved = EntryChange(kind="backend", name="a", body={"kind": "gemini"}, expect_rev=7)
    with pytest.raises(Conflict, match="somebody else"):
        await store.write([moved], now_us=T0)
    with pytest.raises(NotFound):
        await store.write([EntryChange(kind="group", name="a", body=None)], now_us=T0)
    await store.write([more, EntryChange(kind="backend", name="a", body=None)], now_us=T0)
    assert [(item.kind, item.name) for item in await store.all()] == [("group", "g")]
    assert await store.marks() == (2, 0)


def checked(state: Any = "up", **more: Any) -> CheckedBackend:
    return CheckedBackend(backend="b", source="store", body={"kind": "ollama"}, state=state, **more)


async def test_checks_count_failures_keep_since_when_and_tell_workers_only_what_matters(database: Database) -> None:
    states, marks = BackendStateStore(database), RegistryStore(database).marks
    first = (await states.record([checked(models={"m": {"capabilities": {"context": 1}}})], now_us=T0))["b"]
    assert (first.since_us, first.failures, (await marks()).seen) == (T0, 0, 1)
    same = (await states.record([checked(models={"m": {"capabilities": {"context": 1}}})], now_us=T0 + 1))["b"]
    assert (same.since_us, same.checked_us, (await marks()).seen) == (T0, T0 + 1, 1)
    await states.record([checked("down", error_code="backend.unreachable")], now_us=T0 + 2)
    down = await states.record([checked("down", error_code="backend.unreachable")], now_us=T0 + 3)
    assert (down["b"].since_us, down["b"].failures, (await marks()).seen) == (T0 + 2, 2, 2)
    assert [model.model for model in await states.models()] == ["m"], "what is known stays while it is away"
    up = (await states.record([checked(models={"n": {}})], now_us=T0 + 4))["b"]
    assert (up.failures, up.error_code, up.error_us) == (0, "backend.unreachable", T0 + 3)
    assert [model.model for model in await states.models("b")] == ["n"]
    assert await states.keep_only(["b"]) == []
    assert await states.keep_only([]) == ["b"]
    assert (await states.all(), await states.models()) == ({}, [])


async def test_a_queue_gives_one_after_the_other_and_what_was_left_behind_first(database: Database) -> None:
    pulls = PullStore(database)
    for number, model in enumerate(("x", "a", "b")):
        await pulls.ask("desk", model, reason="asked", now_us=T0 + number)
    await pulls.ask("other", "z", reason="asked", now_us=T0)
    first = await pulls.begin_next("desk", now_us=T0 + 5)
    again = await pulls.begin_next("desk", now_us=T0 + 6)
    assert first is not None
    assert again is not None
    assert (first.model, again.model, again.started_us) == ("x", "x", T0 + 5)
    assert await pulls.note(first, now_us=T0 + 7, done_bytes=5)
    assert await pulls.end(first, "done", now_us=T0 + 8)
    assert not await pulls.note(first, now_us=T0 + 9, done_bytes=6), "it has ended"
    second = await pulls.begin_next("desk", now_us=T0 + 10)
    assert second is not None
    assert second.model == "a"
    assert await pulls.waiting_backends() == ["desk", "other"]
    pages = await pulls.page(limit=2), await pulls.page(limit=5, backend="desk", state="done")
    assert [[item.model for item in page] for page in pages] == [["b", "a"], ["x"]]
    rest = await pulls.page(limit=5, after=(pages[0][-1].created_us, pages[0][-1].id))
    assert {item.model for item in rest} == {"x", "z"}


async def test_what_was_cancelled_or_failed_lately_is_fetched_only_when_somebody_asks(database: Database) -> None:
    pulls = PullStore(database)

    async def declared(at_us: int) -> bool:
        return await pulls.ask("desk", "m", reason="declared", now_us=at_us) is not None

    assert await declared(T0)
    running = await pulls.begin_next("desk", now_us=T0)
    assert running is not None
    assert await pulls.end(running, "failed", now_us=T0, error_code="backend.cut_off")
    assert not await declared(T0 + AGAIN_US - 1)
    assert await declared(T0 + AGAIN_US)
    cancelled = await pulls.cancel(running.id, now_us=T0)
    assert cancelled is not None
    assert (cancelled.state, cancelled.round) == ("cancelled", 2)
    assert not await declared(T0 + 10 * AGAIN_US)
    asked = await pulls.ask("desk", "m", reason="asked", now_us=T0)
    assert asked is not None
    assert (asked.state, asked.round, asked.error_code) == ("queued", 3, "")
    assert not await pulls.end(running, "done", now_us=T0), "what belongs to an earlier time changes nothing"
