"""docs/mock-llm.md is true: its script and calls run as they stand there, and every member is explained."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockRule, MockScript, MockStream, MockToolCall, MockUsage, load_script
from tests.support.servers import serve_app

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mock-llm.md").read_text(encoding="utf-8")
FENCE = re.compile(r"```(yaml|python)\n(.*?)```", re.DOTALL)
PARTS = (MockScript, MockRule, MockStream, MockToolCall, MockUsage)


async def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    texts = dict(FENCE.findall(PAGE))
    (tmp_path / "script.yaml").write_text(texts["yaml"])
    async with serve_app(create_app(load_script(tmp_path / "script.yaml"))) as address:
        await asyncio.to_thread(exec, texts["python"], {"url": f"{address}/v1"})


@pytest.mark.parametrize(
    "name", sorted({field.alias or name for part in PARTS for name, field in part.model_fields.items()})
)
def test_every_member_of_a_script_is_explained(name: str) -> None:
    assert f"`{name}`" in PAGE
