"""Python tools of the crash tests: each tells the receiver, under its idempotency key, that it was called."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from engine.core.errors import ToolError
from engine.tooling import ToolContext, tool

CHARGE_S = 0.6
SLOW_S = 1.5


async def _tell(url: str, body: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(url, json=body, headers={"Idempotency-Key": context.idempotency_key})
    got: dict[str, Any] = answer.json()["got"]
    return got


@tool(effect="write", idempotent=True)
async def note(url: str, n: int, context: ToolContext) -> dict[str, Any]:
    """Write a number down."""
    return await _tell(f"{url}/note", {"n": n}, context)


@tool(effect="write", idempotent=True)
async def shaky(url: str, context: ToolContext) -> str:
    """Fail at the first attempt of the engine, and at a repetition of that attempt as well."""
    await _tell(f"{url}/shaky", {}, context)
    if context.attempt == 1:
        raise ToolError("the first attempt fails", code="tool.failed", retryable=True)
    return f"attempt {context.attempt}"


@tool(effect="write", idempotent=True)
async def slow(url: str, context: ToolContext) -> int:
    """Say so at once, then take a while."""
    await _tell(f"{url}/slow", {}, context)
    await asyncio.sleep(SLOW_S)
    return context.attempt


@tool(effect="write")
async def charge(url: str, context: ToolContext) -> str:
    """Do what must not be done twice."""
    await _tell(f"{url}/charge", {}, context)
    await asyncio.sleep(CHARGE_S)
    return "done"


@tool(effect="read")
async def double(n: int) -> int:
    """Double a number; tells nobody."""
    return 2 * n
