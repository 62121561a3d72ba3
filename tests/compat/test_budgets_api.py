"""Budgets by API and command line: what is used of them, and what other tenants see of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from engine.edge.cli.main import run_command
from engine.settings import load_project
from engine.store.budgets import pots_of
from engine.store.database import open_database
from engine.store.spending import Amount, SpendingStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.servers import free_port

ROOT = {"authorization": "Bearer sesame"}
PROJECT = """
[budgets.team]
per = "month"
cost = 12.5
tokens = 1_000_000

[budgets.each]
each = ["tenant", "task"]
tasks = ["report_*"]
tokens = 500

[budgets.acme]
tenants = ["acme"]
per = "execution"
cost = 100
"""


@pytest.fixture
async def locked(tmp_path: Path, both_stores: str) -> AsyncIterator[ApiServer]:
    """An API with a root key, without Temporal, and budgets of which something is used."""
    (tmp_path / "everstep.toml").write_text(PROJECT)
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    database = await open_database(settings.store_url)
    store, now_us = SpendingStore(database), time.time_ns() // 1_000
    budgets = load_project(settings.project_file).budgets
    for tenant, tokens in (("acme", 100), ("globex", 30)):
        pots = pots_of(budgets, tenant=tenant, task="report_a", execution_id="e", now_us=now_us)
        await store.settle(pots, "c", Amount(1_500_000_000, tokens))
        under_way = Amount(20_000_000, 7)
        made = await store.reserve(pots, f"{tenant}2", execution_id="e", least=under_way, most=under_way, now_us=now_us)
        assert made is None
    await database.close()
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


async def budgets_of(http: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, Any]:
    answer = await http.get("/budgets", headers=headers)
    assert answer.status_code == 200
    return {item["name"]: item for item in answer.json()["items"]}


async def test_the_operator_sees_what_is_used_of_every_budget_and_when_it_begins_anew(locked: ApiServer) -> None:
    found = await budgets_of(locked.http, ROOT)
    assert list(found) == ["team", "each", "acme"]
    team = found["team"]
    assert (team["cost"], team["tokens"], team["per"]) == ("12.5", 1_000_000, "month")
    assert team["since"] < team["resets_at"]
    used = {"cost": "3", "tokens": 130, "reserved_cost": "0.04", "reserved_tokens": 14, "calls": 2}
    assert team["used"] == [{"tenant": None, "task": None, **used}]
    assert [(use["tenant"], use["task"], use["tokens"]) for use in found["each"]["used"]] == [
        ("acme", "report_a", 100),
        ("globex", "report_a", 30),
    ]
    assert (found["acme"]["used"], found["acme"]["resets_at"]) == ([], None)


async def test_a_tenant_sees_the_budgets_that_count_its_calls_and_what_it_used_alone(locked: ApiServer) -> None:
    body = {"name": "bot", "scopes": ["read"], "tenant": "globex"}
    made = (await locked.http.post("/keys", json=body, headers=ROOT)).json()
    found = await budgets_of(locked.http, {"authorization": f"Bearer {made['key']}"})
    assert list(found) == ["team", "each"]
    assert found["team"]["used"] == []
    assert [(use["tenant"], use["tokens"]) for use in found["each"]["used"]] == [("globex", 30)]
    assert found["team"]["tenants"] == ["globex"]


async def test_the_command_shows_them(locked: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--address", locked.url, "--api-key", "sesame"]
    assert await asyncio.to_thread(run_command, ["budgets", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["BUDGET", "PER", "OF"]
    assert "$3 of $12.5" in lines[1]
    assert "130 of 1,000,000" in lines[1]
    assert "acme/report_a" in lines[2]
    assert await asyncio.to_thread(run_command, ["budgets", *options, "-o", "jsonl"]) == 0
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["team", "each", "acme"]
