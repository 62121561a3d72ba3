"""Gets the documents of OpenAPI services: from files, or through the guard from their addresses, with kept copies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import structlog

from engine.control.guard import AddressGuard, GuardedTransport
from engine.control.openapi.document import MAX_DOCUMENT_BYTES, Document, fault, read_document
from engine.control.openapi.services import contracts_of
from engine.core.errors import InvalidInput, ToolError
from engine.core.plan.ir import ToolContract
from engine.settings import OpenApiConfig, Project

FETCH_TIMEOUT_S = 15.0
MAX_REDIRECTS = 5
FOLDER = "openapi"

log = structlog.get_logger("everstep.openapi")


class _NotFetched(Exception):
    """There is no answer, or not one to use; a kept copy may take its place."""


def load_services(project: Project, data_dir: Path) -> dict[str, ToolContract]:
    """Return the tools of all OpenAPI services of a project by name.

    Documents with an address are asked for each time, all at once; the answer may be that the kept copy is current. The
    copy also takes the place of a document that cannot be had, which the log says.

    Args:
        project: The operator's project.
        data_dir: Folder in which copies are kept.

    Raises:
        InvalidInput: `config.openapi` if a document cannot be had or read, or an operation cannot be a tool;
            `config.duplicate_tool` if operations of two services have one name.
    """
    remote = any(config.is_remote for config in project.tools.openapi.values())
    return _tools_of(project, _apart(project, data_dir) if remote else {})


async def reload_services(project: Project, data_dir: Path) -> dict[str, ToolContract]:
    """Do the same in a running loop, which goes on meanwhile.

    Raises:
        InvalidInput: As `load_services`.
    """
    documents = await _fetch_all(project, data_dir / FOLDER)
    return await asyncio.to_thread(_tools_of, project, documents)


def _tools_of(project: Project, fetched: Mapping[str, Document]) -> dict[str, ToolContract]:
    tools: dict[str, ToolContract] = {}
    for name, config in project.tools.openapi.items():
        document = fetched[name] if name in fetched else _from_file(name, config, project.folder)
        for tool, contract in contracts_of(document, config).items():
            if tool in tools:
                raise InvalidInput(
                    f"two tools are called '{tool}': one of service '{tools[tool].spec['service']}', one of '{name}'",
                    code="config.duplicate_tool",
                    hint="give one of the services another name",
                )
            tools[tool] = contract
    return tools


def _from_file(name: str, config: OpenApiConfig, folder: Path) -> Document:
    path = folder / config.document
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise fault(name, str(path), f"it is larger than {MAX_DOCUMENT_BYTES // (1024 * 1024)} MB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        hint = "`document` is a file relative to everstep.toml, or an address with http or https"
        raise fault(name, str(path), f"it cannot be read: {reason}", hint=hint) from error
    return read_document(text, service=name, source=str(path))


def _apart(project: Project, data_dir: Path) -> dict[str, Document]:
    # a thread with a loop of its own: who loads a catalog may or may not run in a loop
    with ThreadPoolExecutor(1, thread_name_prefix="openapi") as thread:
        return thread.submit(asyncio.run, _fetch_all(project, data_dir / FOLDER)).result()


async def _fetch_all(project: Project, folder: Path) -> dict[str, Document]:
    services = {name: config for name, config in project.tools.openapi.items() if config.is_remote}
    async with httpx.AsyncClient(
        transport=GuardedTransport(
            AddressGuard(project.http), verify=httpx.create_ssl_context(), limits=httpx.Limits(max_connections=20)
        ),
        timeout=FETCH_TIMEOUT_S,
        max_redirects=MAX_REDIRECTS,
        follow_redirects=True,
        trust_env=False,
        headers={"Accept": "application/json, application/yaml;q=0.9, */*;q=0.1"},
    ) as client:
        found = await asyncio.gather(
            *(_remote(client, name, config.document, folder) for name, config in services.items()),
            return_exceptions=True,
        )
    for outcome in found:
        if isinstance(outcome, BaseException):
            raise outcome
    return {name: outcome for name, outcome in zip(services, found, strict=True) if isinstance(outcome, Document)}


async def _remote(client: httpx.AsyncClient, name: str, url: str, folder: Path) -> Document:
    shown = shown_url(url)
    kept = folder / f"{hashlib.blake2b(url.encode(), digest_size=16).hexdigest()}.json"
    copy = _kept(kept, url)
    try:
        try:
            text, marks = await asyncio.wait_for(_asked(client, url, copy), FETCH_TIMEOUT_S)
        except TimeoutError as error:
            raise _NotFetched(f"it did not come within {FETCH_TIMEOUT_S:g} s") from error
        document = read_document(text, service=name, source=shown, base=shown)
    except ToolError as error:
        # a copy must not hide that the operator has to permit the address
        raise fault(name, shown, f"it cannot be fetched: {error.message}", hint=error.hint) from error
    except (_NotFetched, InvalidInput) as error:
        if copy is not None:
            log.warning(
                "openapi document cannot be had, its kept copy is used", service=name, url=shown, reason=str(error)
            )
            return read_document(copy["text"], service=name, source=f"{shown} (kept copy)", base=shown)
        if isinstance(error, InvalidInput):
            raise
        hint = f"is the service running at {shown}?"
        raise fault(name, shown, f"it cannot be fetched: {error}", hint=hint) from error
    body = {**marks, "url": url, "text": text}
    if body != copy:
        _keep(kept, body)
    return document


async def _asked(client: httpx.AsyncClient, url: str, copy: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    """Return the document's text and what it can be asked for again with."""
    asking = {}
    if copy is not None:
        pairs = ("If-None-Match", copy.get("etag", "")), ("If-Modified-Since", copy.get("modified", ""))
        asking = {name: value for name, value in pairs if value}
    try:
        async with client.stream("GET", url, headers=asking) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED and copy is not None:
                return copy["text"], dict(copy)
            if not response.is_success:
                raise _NotFetched(f"the answer is {response.status_code} {response.reason_phrase}".rstrip())
            parts, total = [], 0
            async for part in response.aiter_bytes():
                total += len(part)
                if total > MAX_DOCUMENT_BYTES:
                    raise _NotFetched(f"it is larger than {MAX_DOCUMENT_BYTES // (1024 * 1024)} MB")
                parts.append(part)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise _NotFetched(str(error) or type(error).__name__) from error
    try:
        text = b"".join(parts).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _NotFetched("it is not UTF-8 text") from error
    marks = {"etag": response.headers.get("etag", ""), "modified": response.headers.get("last-modified", "")}
    return text, marks


def shown_url(url: str) -> str:
    """Return an address without user and query, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


# --- copies --------------------------------------------------------------------------------------------------------


def _kept(path: Path, url: str) -> dict[str, str] | None:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(body, dict) and all(isinstance(body.get(key), str) for key in ("url", "text", "etag"))
    return body if whole and body["url"] == url else None


def _keep(path: Path, body: Mapping[str, str]) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        # the data folder itself may be made here; each is its owner's alone
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(body, file)
        draft.replace(path)
    except OSError as error:
        # the document itself is here: only the next start without the service would want the copy
        log.warning("openapi document not kept", file=str(path), reason=str(error))
        draft.unlink(missing_ok=True)
