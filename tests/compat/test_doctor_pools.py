"""`doctor` says of each pool that a tool names whether a worker makes its calls, by what living workers tell."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.edge.cli.doctor import Finding, check_pools
from engine.store.database import open_database
from engine.store.pulses import WORKER, PulseStore
from tests.compat.apiserver import api_server, settings_for

TOOLS = """
from engine import tool

@tool(effect="read", pool="gpu")
def draw(text: str) -> str:
    "Draw."
    return text

@tool(effect="read")
def near(text: str) -> str:
    "Stay."
    return text

@tool(effect="read")
def paint(text: str) -> str:
    "Paint."
    return text
"""
FILE = '[tools]\nmodules = ["drawing.py"]\n[tools.pools]\n"pai*" = "zone-a"\n'


async def test_doctor_warns_of_a_pool_that_nobody_serves_and_says_how_to_serve_it(tmp_path: Path) -> None:
    (tmp_path / "drawing.py").write_text(TOOLS, encoding="utf-8")
    file = tmp_path / "everstep.toml"
    file.write_text(FILE, encoding="utf-8")
    settings = settings_for(tmp_path)
    async with api_server(settings, temporal="127.0.0.1:1") as server:
        database = await open_database(settings.store_url)
        pulses = PulseStore(database)
        try:
            await pulses.write(WORKER, "worker-1", {"queue": "q"})
            nobody = await asyncio.to_thread(check_pools, server.url, None, file)
            await pulses.write(WORKER, "worker-2", {"queue": "q", "pools": ["gpu"]})
            one = await asyncio.to_thread(check_pools, server.url, None, file)
        finally:
            await database.close()
    missing = "no worker is alive that makes the calls of"
    zone = Finding("pool zone-a", "warning", f"{missing} paint", "start a worker with `everstep worker --pool zone-a`")
    gpu = Finding("pool gpu", "warning", f"{missing} draw", "start a worker with `everstep worker --pool gpu`")
    assert nobody == [gpu, zone]
    assert one == [Finding("pool gpu", "ok", "a worker makes the calls of draw"), zone]
