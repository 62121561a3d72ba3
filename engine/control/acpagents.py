"""Makes tools of remote agents: asks each for its descriptor, which says what its input is, and keeps a copy of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import structlog

from engine.control.credentials import Mask, carried, cookie_pair, secrets_of
from engine.control.guard import AddressGuard, GuardedTransport
from engine.core.errors import InvalidInput, ToolError
from engine.core.plan.ir import ToolContract
from engine.core.schemas import schema_problems
from engine.settings import AcpConfig, Project

FETCH_TIMEOUT_S: Final = 15.0
MAX_DESCRIPTOR_BYTES: Final = 1024 * 1024
FOLDER: Final = "acp"
OPEN: Final[dict[str, Any]] = {"type": "object"}
"""The input of an agent whose descriptor says nothing, or is not known; its server checks it all the same."""

log = structlog.get_logger("everstep.acp")


class _NotFetched(Exception):
    """There is no answer, or not one to use; a kept copy may take its place."""


def load_agents(project: Project, data_dir: Path) -> dict[str, ToolContract]:
    """Return the tools of all remote agents of a project by name.

    Each that has an `agent_id` is asked for its descriptor, all at once. Where one does not answer, the copy of what it
    said counts, or without a copy any object as input; the log says so.

    Args:
        project: The operator's project.
        data_dir: Folder in which copies are kept.

    Raises:
        InvalidInput: `config.acp` if an address is not permitted or a credential is missing.
    """
    # a thread with a loop of its own: who loads a catalog may or may not run in a loop
    with ThreadPoolExecutor(1, thread_name_prefix="acp") as thread:
        return thread.submit(asyncio.run, _all(project, data_dir / FOLDER)).result()


async def _all(project: Project, folder: Path) -> dict[str, ToolContract]:
    agents = project.tools.acp
    async with httpx.AsyncClient(
        transport=GuardedTransport(
            AddressGuard(project.http), verify=httpx.create_ssl_context(), limits=httpx.Limits(max_connections=20)
        ),
        timeout=FETCH_TIMEOUT_S,
        trust_env=False,
    ) as client:
        found = await asyncio.gather(*(_contract(client, name, config, folder) for name, config in agents.items()))
    return dict(zip(agents, found, strict=True))


async def _contract(client: httpx.AsyncClient, name: str, config: AcpConfig, folder: Path) -> ToolContract:
    descriptor = await _descriptor(client, name, config, folder) if config.agent_id else {}
    specs, about = descriptor.get("specs"), descriptor.get("metadata")
    told = about.get("description") if isinstance(about, dict) else ""
    return ToolContract(
        name=name,
        type="acp",
        parameters=_input(name, specs.get("input") if isinstance(specs, dict) else None),
        effect=config.effect,
        idempotent=config.idempotent,
        description=(config.description or str(told or ""))[:1_000],
        timeout_s=config.timeout_s,
        spec={"agent": name, "base_url": config.url},
    )


def _input(name: str, schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict) or not schema:
        return OPEN
    problems = schema_problems(schema)
    if problems:
        log.warning("the input of a remote agent is not checked here", agent=name, reason=problems[0])
        return OPEN
    return schema


async def _descriptor(client: httpx.AsyncClient, name: str, config: AcpConfig, folder: Path) -> dict[str, Any]:
    mark = hashlib.blake2b(f"{config.url} {config.agent_id}".encode(), digest_size=16).hexdigest()
    kept = folder / f"{mark}.json"
    try:
        descriptor = await asyncio.wait_for(_asked(client, name, config), FETCH_TIMEOUT_S)
    except ToolError as error:
        raise InvalidInput(
            f"[tools.acp.{name}]: its descriptor cannot be had: {error.message}", code="config.acp", hint=error.hint
        ) from error
    except (_NotFetched, TimeoutError) as error:
        copy = _kept(kept)
        reason = str(error) or f"it did not come within {FETCH_TIMEOUT_S:g} s"
        instead = "any object counts as input" if copy is None else "its kept copy is used"
        log.warning(f"the descriptor of a remote agent cannot be had, {instead}", agent=name, reason=reason)
        return copy or {}
    _keep(kept, descriptor)
    return descriptor


async def _asked(client: httpx.AsyncClient, name: str, config: AcpConfig) -> dict[str, Any]:
    values = secrets_of(config.auth, f"the remote agent '{name}'")
    mask = Mask(values.values())
    headers, query = {"Accept": "application/json"}, {}
    for place, key, value in carried(config.auth, values):
        if place == "query":
            query[key] = value
        elif place == "cookie":
            headers["Cookie"] = "; ".join([*filter(None, [headers.get("Cookie")]), cookie_pair(key, value)])
        else:
            headers[key] = value
    url = f"{config.url.rstrip('/')}/agents/{quote(config.agent_id, safe='')}/descriptor"
    try:
        async with client.stream("GET", url, headers=headers, params=query or None) as response:
            if response.status_code != httpx.codes.OK:
                raise _NotFetched(f"the answer is {response.status_code} {response.reason_phrase}".rstrip())
            parts, total = [], 0
            async for part in response.aiter_bytes():
                total += len(part)
                if total > MAX_DESCRIPTOR_BYTES:
                    raise _NotFetched(f"it is larger than {MAX_DESCRIPTOR_BYTES // (1024 * 1024)} MB")
                parts.append(part)
        body = json.loads(mask.bytes(b"".join(parts)))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _NotFetched(mask.text(str(error) or type(error).__name__)) from error
    except (ValueError, RecursionError) as error:
        raise _NotFetched("it is not JSON") from error
    if not isinstance(body, dict):
        raise _NotFetched("it is no object")
    return body


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def _keep(path: Path, body: dict[str, Any]) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        # the data folder itself may be made here; each is its owner's alone
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(body, file)
        draft.replace(path)
    except OSError as error:
        # the descriptor itself is here: only the next start without the agent would want the copy
        log.warning("the descriptor of a remote agent is not kept", file=str(path), reason=str(error))
        draft.unlink(missing_ok=True)
