"""Lists over HTTP: filters, cursors, counts, usage, 10,000 transitions; on a store that the real writer filled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.seeding import AGENTS, BATCH, TASKS, Maker, made_executions, seed_store
from engine.core.ids import scope_id
from engine.core.run.usage import TOKENS
from engine.edge.cli.api import Api
from engine.edge.cli.executions import all_events
from engine.edge.cli.exits import Exit
from engine.store import budget
from engine.store.database import open_database
from engine.store.projection import ProjectionStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli

COUNT = 300
NOBODY = "127.0.0.1:9"
"""No Temporal: lists need none."""

View = dict[str, Any]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ProjectionStore]:
    database = await open_database(settings_for(tmp_path).store_url)
    yield ProjectionStore(database)
    await database.close()


@pytest.fixture
async def api(tmp_path: Path, store: ProjectionStore) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(tmp_path), temporal=NOBODY) as server:
        yield server


@pytest.fixture
async def seeded(store: ProjectionStore, api: ApiServer) -> httpx.AsyncClient:
    await seed_store(store, COUNT)
    return api.http


async def get(http: httpx.AsyncClient, path: str, **params: Any) -> View:
    answer = await http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def walk(http: httpx.AsyncClient, path: str, **params: Any) -> list[View]:
    found: list[View] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(http, path, **params, **cursor)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def labels_of() -> dict[str, list[str]]:
    """Return the labels of the seeded executions by id, as their `init` events have them."""
    return {made.id: json.loads(made.records[0].body)["labels"] for made in made_executions(COUNT)}


def models_of() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for made in made_executions(COUNT):
        bodies = [json.loads(record.body) for record in made.records if record.type == "effect.finished"]
        found[made.id] = {body["model"] for body in bodies if body.get("model")}
    return found


LABELS, MODELS = labels_of(), models_of()
ASKED: list[tuple[dict[str, Any], Callable[[View], bool]]] = [
    ({"task_id": TASKS[0][0]}, lambda view: view["task_id"] == TASKS[0][0]),
    ({"task_name": "task_1"}, lambda view: view["task_name"] == "task_1"),
    ({"agent_id": AGENTS[2]}, lambda view: view["agent_id"] == AGENTS[2]),
    ({"status": "failed"}, lambda view: view["status"] == "failed"),
    ({"status": ["failed", "running"]}, lambda view: view["status"] in ("failed", "running")),
    ({"label": "nightly"}, lambda view: "nightly" in LABELS[view["id"]]),
    (
        {"label": ["nightly", "team:search"]},
        lambda view: {"nightly", "team:search"} <= set(LABELS[view["id"]]),
    ),
    ({"metadata_filter.priority": 3}, lambda view: view["metadata"]["priority"] == 3),
    ({"metadata_filter.order.region": "eu"}, lambda view: view["metadata"]["order"]["region"] == "eu"),
    ({"metadata_filter": '{"order": {"express": true}}'}, lambda view: view["metadata"]["order"]["express"]),
    ({"error_code": "tool.failed"}, lambda view: (view["error"] or {}).get("code") == "tool.failed"),
    ({"error_code": "backend"}, lambda view: (view["error"] or {}).get("code", "").startswith("backend.")),
    ({"error_code": "backend.*"}, lambda view: (view["error"] or {}).get("code", "").startswith("backend.")),
    ({"model": "large-2"}, lambda view: "large-2" in MODELS[view["id"]]),
    ({"actor": "alice"}, lambda view: view["actor"] == "alice"),
    ({"cost_min": "0.001"}, lambda view: Decimal(view["usage"]["cost"] or 0) >= Decimal("0.001")),
    ({"cost_max": "0.0005"}, lambda view: Decimal(view["usage"]["cost"] or 1) <= Decimal("0.0005")),
    ({"stuck": "true"}, lambda view: bool(view.get("stuck"))),
    ({"root_only": "true"}, lambda view: view["parent_id"] is None),
]


@pytest.fixture
async def everything(seeded: httpx.AsyncClient) -> list[View]:
    found = await walk(seeded, "/executions", limit=97)
    assert len(found) == COUNT
    return found


async def test_each_query_shows_what_it_asks_for_and_counts_the_same(
    seeded: httpx.AsyncClient, everything: list[View]
) -> None:
    for params, passes in ASKED:
        expected = [view["id"] for view in everything if passes(view)]
        assert [view["id"] for view in await walk(seeded, "/executions", limit=7, **params)] == expected, params
        counts = await get(seeded, "/executions/counts", **params)
        assert counts["total"] == sum(counts["by_status"].values()) == len(expected), params
        if "stuck" not in params:
            assert expected, f"{params} tells nothing"


async def test_times_are_a_span_with_its_beginning_and_without_its_end(
    seeded: httpx.AsyncClient, everything: list[View]
) -> None:
    middle, later = everything[150], everything[100]
    for name in ("created", "updated"):
        since, until = middle[f"{name}_at"], later[f"{name}_at"]
        found = await walk(seeded, "/executions", **{f"{name}_after": since, f"{name}_before": until})
        expected = {view["id"] for view in everything if since <= view[f"{name}_at"] < until}
        assert {view["id"] for view in found} == expected
        assert middle["id"] in expected
    refused = await seeded.get("/executions", params={"created_after": "2026-11-22T08:00:00"})
    assert (refused.status_code, refused.json()["code"]) == (422, "request.invalid")


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", ["created_at", "updated_at", "closed_at", "cost", "total_tokens"])
async def test_every_order_pages_through_completely(
    sort_by: str, direction: str, seeded: httpx.AsyncClient, everything: list[View]
) -> None:
    def key(view: View) -> tuple[Any, str]:
        if sort_by in ("cost", "total_tokens"):
            return (Decimal(-1 if view["usage"][sort_by] is None else view["usage"][sort_by]), view["id"])
        return (view[sort_by] or "", view["id"])

    found = await walk(seeded, "/executions", limit=41, sort_by=sort_by, direction=direction)
    expected = sorted(everything, key=key, reverse=direction == "desc")
    assert [view["id"] for view in found] == [view["id"] for view in expected]


async def test_the_paging_of_julep_goes_on_until_an_empty_page(seeded: httpx.AsyncClient) -> None:
    found: list[str] = []
    while True:
        page = await get(seeded, "/executions", limit=120, offset=len(found), sort_by="created_at", direction="asc")
        if not page["items"]:
            break
        found += [view["id"] for view in page["items"]]
    assert found == [made.id for made in made_executions(COUNT)]


@pytest.mark.parametrize(
    ("path", "name", "hint"),
    [
        ("/executions", "statuss", "did you mean 'status'?"),
        ("/executions", "task", "did you mean 'task_id'?"),
        ("/executions/counts", "labels", "did you mean 'label'?"),
        ("/executions/x/transitions", "curser", "did you mean 'cursor'?"),
        ("/executions/x/events", "after", "after_seq"),
        ("/usage", "group", "there are "),
    ],
)
async def test_a_query_that_nobody_knows_is_refused_with_what_may_be_meant(
    path: str, name: str, hint: str, api: ApiServer
) -> None:
    answer = await api.http.get(path, params={name: "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "request.unknown_query")
    assert hint in answer.json()["hint"]


async def test_a_cursor_is_good_for_its_own_list_alone(seeded: httpx.AsyncClient) -> None:
    cursor = (await get(seeded, "/executions", limit=10))["next_cursor"]
    assert len((await get(seeded, "/executions", limit=50, cursor=cursor))["items"]) == 50
    for params in (
        {"cursor": "nonsense"},
        {"cursor": ""},
        {"cursor": "é"},
        {"cursor": "W10"},
        {"cursor": cursor, "status": "failed"},
        {"cursor": cursor, "direction": "asc"},
        {"cursor": cursor, "offset": 5},
    ):
        refused = await seeded.get("/executions", params=params)
        assert (refused.status_code, refused.json()["code"]) == (400, "request.bad_cursor"), params


async def test_numbers_beyond_all_bounds_are_refused_and_do_not_break(api: ApiServer) -> None:
    for name, value in (("offset", 10**30), ("cost_min", "1e30"), ("cost_min", "nan"), ("limit", 0), ("label", "\0")):
        answer = await api.http.get("/executions", params={name: value})
        assert (answer.status_code, answer.json()["code"]) in ((422, "request.invalid"), (400, "request.invalid")), name


@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_ten_thousand_transitions_page_through_while_new_ones_arrive(
    direction: str, store: ProjectionStore, api: ApiServer
) -> None:
    made = Maker(7, words=3).execution(0, steps=10_200)
    first, rest = made.records[: 10_000 + 6], made.records[10_000 + 6 :]  # three calls have two events of their own
    for begin in range(0, len(first), BATCH * 4):
        await store.append_events(first[begin : begin + BATCH * 4])
    path = f"/executions/{made.id}/transitions"
    found: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(api.http, path, limit=777, direction=direction, **cursor)
        found += [item["metadata"]["seq"] for item in page["items"]]
        if rest:
            await store.append_events(rest[:20])
            rest = rest[20:]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    known = [record.seq for record in first if not record.type.startswith("effect.")]
    assert len(known) == 10_000
    if direction == "desc":
        assert found == known[::-1]
    else:
        assert found[:10_000] == known
        assert found[10_000:] == list(range(known[-1] + 1, known[-1] + 1 + len(found) - 10_000))


async def test_events_page_through_too_and_after_a_number_as_before(store: ProjectionStore, api: ApiServer) -> None:
    made = Maker(8, words=3).execution(0, steps=50)
    await store.append_events(made.records)
    path, numbers = f"/executions/{made.id}/events", [record.seq for record in made.records]
    assert [item["seq"] for item in await walk(api.http, path, limit=9)] == numbers
    assert [item["seq"] for item in await walk(api.http, path, limit=9, direction="desc")] == numbers[::-1]
    assert [item["seq"] for item in await walk(api.http, path, limit=9, after_seq=20)] == numbers[20:]
    of_whole = await walk(api.http, f"/executions/{made.id}/transitions", scope_id="nobody's")
    assert of_whole == []
    assert await walk(api.http, f"/executions/{made.id}/transitions", scope_id=scope_id(made.id, "main"), limit=7)


async def test_pages_of_long_values_are_short_and_the_client_and_the_command_lose_nothing(
    store: ProjectionStore, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "PAGE_CHARS", 2_000)
    made = Maker(8, words=3).execution(0, steps=50)
    await store.append_events(made.records)
    path, numbers = f"/executions/{made.id}", [record.seq for record in made.records]
    first = await get(api.http, f"{path}/events", limit=1_000)
    assert 1 < len(first["items"]) < len(numbers)
    assert [item["seq"] for item in await walk(api.http, f"{path}/events", limit=1_000)] == numbers
    read = await asyncio.to_thread(lambda: list(all_events(Api(api.url, None), made.id)))
    assert [item["seq"] for item in read] == numbers
    # as Julep's clients page: on from what came, until nothing comes
    found: list[Any] = []
    while page := (await get(api.http, f"{path}/transitions", limit=100, offset=len(found)))["items"]:
        found += page
    assert found == await walk(api.http, f"{path}/transitions", limit=100)
    assert len(found) > len(first["items"])


# --- usage ---------------------------------------------------------------------------------------------------------


async def test_usage_is_the_sum_of_what_the_executions_say(seeded: httpx.AsyncClient, everything: list[View]) -> None:
    names = ("llm_calls", "tool_calls", *TOKENS, "unpriced_calls")
    expected = {name: sum(view["usage"][name] for view in everything) for name in names}
    cost = sum(Decimal(view["usage"]["cost"] or 0) for view in everything)
    for by in ("model", "backend", "task", "agent", "day", "label"):
        report = await get(seeded, "/usage", by=by)
        assert report["truncated"] is False
        if by in ("model", "backend"):
            assert report["total"]["tool_calls"] == 0
        if by != "label":
            assert sum(Decimal(item["cost"] or 0) for item in report["items"]) == cost
            assert sum(item["total_tokens"] for item in report["items"]) == expected["total_tokens"]
        assert Decimal(report["total"]["cost"]) == cost
    total = (await get(seeded, "/usage", by="task"))["total"]
    assert {name: total[name] for name in names} == expected
    assert 0 < total["cached_tokens"] < total["prompt_tokens"]
    odd = next(item for item in (await get(seeded, "/usage"))["items"] if item["key"] == "odd-9")
    assert (odd["cost"], odd["unpriced_calls"]) == (None, odd["llm_calls"])


async def test_usage_of_a_label_and_a_span_counts_only_those(seeded: httpx.AsyncClient, everything: list[View]) -> None:
    nightly = [view for view in everything if "nightly" in LABELS[view["id"]]]
    report = await get(seeded, "/usage", label="nightly")
    assert report["total"]["llm_calls"] == sum(view["usage"]["llm_calls"] for view in nightly)
    by_label = {item["key"]: item for item in (await get(seeded, "/usage", by="label"))["items"]}
    assert by_label["nightly"]["llm_calls"] == report["total"]["llm_calls"]
    nothing = await get(seeded, "/usage", **{"from": "2001-01-01T00:00:00Z", "to": "2001-01-02T00:00:00Z"})
    assert (nothing["items"], nothing["total"]["calls"], nothing["total"]["cost"]) == ([], 0, None)


# --- commands ------------------------------------------------------------------------------------------------------


async def test_the_command_lists_what_is_asked_for(
    seeded: httpx.AsyncClient, api: ApiServer, everything: list[View], capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(api.url, capsys)
    words = ("--status", "failed", "--status", "running", "--meta", "order.region=eu", "--label", "team:search")
    expected = [
        view["id"]
        for view in everything
        if view["status"] in ("failed", "running")
        and view["metadata"]["order"]["region"] == "eu"
        and "team:search" in LABELS[view["id"]]
    ]
    assert expected
    code, out, err = await cli("ls", "--all", *words)
    assert code == Exit.OK, err
    assert [line.split()[0] for line in out.splitlines()[1:]] == expected
    code, out, _ = await cli("ls", "--count", *words)
    assert out.splitlines()[-1].split() == ["total", str(len(expected))]
    code, out, _ = await cli("ls", "--limit", "5", "--sort", "cost", "--reverse", "--min-cost", "0.0004")
    costs = [line.split()[-1] for line in out.splitlines()[1:]]
    assert len(costs) == 5
    assert all(cost.startswith("$") for cost in costs)
    assert costs == sorted(costs, key=lambda cost: float(cost.strip("$+?")))
    code, out, _ = await cli("ls", "--all", "-o", "jsonl")
    assert len(out.splitlines()) == COUNT
    code, out, err = await cli("ls", "--meta", "nothing")
    assert (code, out) == (Exit.USAGE, "")


async def test_the_command_sums_up_what_was_used(
    seeded: httpx.AsyncClient, api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = await Cli(api.url, capsys)("usage", "--by", "model")
    assert code == Exit.OK, err
    lines = [line.split() for line in out.splitlines()]
    # nothing was written to a cache, or thought
    assert lines[0] == ["MODEL", "CALLS", "FAILED", "PROMPT", "CACHED", "REPLY", "TOKENS", "COST"]
    assert lines[-1][4] == str((await get(seeded, "/usage"))["total"]["cached_tokens"])
    assert {line[0] for line in lines[1:]} == {"small-1", "large-2", "odd-9", "total"}
    assert "is not known" in err
