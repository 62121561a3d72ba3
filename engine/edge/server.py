"""The HTTP server: puts guard, routes and use cases together and serves them until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, MutableMapping

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI

from engine import __version__
from engine.control.executions import ANSWER_TIMEOUT_S
from engine.control.known import known_secrets
from engine.control.process import stop_on_signals
from engine.control.tools import load_catalog
from engine.control.tracing import ExecutionTelemetry
from engine.core.errors import Conflict
from engine.core.plan.ir import ToolContract
from engine.edge.http.access import AccessLog
from engine.edge.http.addresses import is_loopback
from engine.edge.http.callers import FOR_OPERATORS, MAY_READ
from engine.edge.http.connections import Connection
from engine.edge.http.credentials import Doorman
from engine.edge.http.crossorigin import CodecOrigins
from engine.edge.http.freshness import DataAge
from engine.edge.http.guard import Guard, asks_nobody, refuse_open_bind
from engine.edge.http.idempotency import Idempotency
from engine.edge.http.oidc import tokens_of
from engine.edge.http.openapi import install_document
from engine.edge.http.problems import add_error_handlers
from engine.edge.http.retries import BlindRetries
from engine.edge.http.services import Services, open_services
from engine.edge.native import codec, executions, health, keys, listing, metrics, overview, story, streams, tasks
from engine.edge.native.agent_tools import router as agent_tools_router
from engine.edge.native.agents import router as agents_router
from engine.edge.native.backends import router as backends_router
from engine.edge.native.budgets import router as budgets_router
from engine.edge.native.bulk import router as bulk_router
from engine.edge.native.chat import router as chat_router
from engine.edge.native.docs import router as docs_router
from engine.edge.native.documents import DOCS
from engine.edge.native.examples import ANSWERS
from engine.edge.native.files import router as files_router
from engine.edge.native.hooks import public as public_hooks
from engine.edge.native.hooks import router as hooks_router
from engine.edge.native.jobs import router as jobs_router
from engine.edge.native.links import public as public_links
from engine.edge.native.links import router as links_router
from engine.edge.native.messages import router as messages_router
from engine.edge.native.metrics import ApiMetrics
from engine.edge.native.models import router as models_router
from engine.edge.native.owner_docs import router as owner_docs_router
from engine.edge.native.projects import router as projects_router
from engine.edge.native.purging import router as purge_router
from engine.edge.native.resuming import public as public_resuming
from engine.edge.native.resuming import router as resuming_router
from engine.edge.native.schedules import router as schedules_router
from engine.edge.native.secrets import router as secrets_router
from engine.edge.native.session_render import router as render_router
from engine.edge.native.sessions import router as sessions_router
from engine.edge.native.steering import router as steering_router
from engine.edge.native.users import router as users_router
from engine.edge.native.webhooks import router as webhooks_router
from engine.obs.logs import configure_logging
from engine.obs.start import start_telemetry
from engine.obs.telemetry import OFF, Telemetry
from engine.settings import Project, Settings, load_project
from engine.store.idempotency import IdempotencyStore
from engine.store.retries import RetryStore

GRACE_S = 3
SERVICES_LOOK_S = 30.0
"""Seconds that requests under way get when the server stops; streams end at once."""


def _all_routes() -> APIRouter:
    routes = APIRouter()
    # lists first: `/executions/counts` is no execution
    front = (listing.router, overview.router, story.router)
    data = (purge_router, codec.router, secrets_router, docs_router, owner_docs_router, files_router, jobs_router)
    steering = (steering_router, links_router, messages_router, resuming_router)
    doors = (schedules_router, webhooks_router, hooks_router, bulk_router)
    usual = (tasks.router, executions.router, streams.router, keys.router)
    registry = (backends_router, models_router, budgets_router)
    resources = (agents_router, agent_tools_router, users_router, projects_router)
    sessions = (sessions_router, chat_router, render_router)
    for router in (*front, *resources, *sessions, *usual, *data, *steering, *doors, *registry):
        # the least that a route needs; those that change something say so themselves
        routes.include_router(router, prefix="/api", dependencies=[MAY_READ])
    for router in (health.router, public_links, public_hooks, public_resuming):
        routes.include_router(router, prefix="/api")
    routes.include_router(health.router, include_in_schema=False)
    routes.include_router(metrics.router, include_in_schema=False, dependencies=[MAY_READ, FOR_OPERATORS])
    routes.include_router(metrics.router, prefix="/api", dependencies=[MAY_READ, FOR_OPERATORS])
    return routes


# Routes know nothing of an app. FastAPI makes their validators when they are first asked, anew for each app that
# includes them, which takes longer than all else that an app's first request does.
_ROUTES = _all_routes()


def create_app(services: Services, *, telemetry: Telemetry = OFF) -> FastAPI:
    """Build the app.

    Args:
        services: What the routes work with; opened and closed by the caller.
        telemetry: Where spans and metrics go; closed by the caller.

    Returns:
        The app, with `services` in its state.
    """
    settings = services.settings
    app = FastAPI(
        title="Everstep",
        version=__version__,
        routes=list(_ROUTES.routes),
        openapi_url="/api/openapi.json",
        # the pages that FastAPI offers load their scripts from elsewhere
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    app.state.metrics = ApiMetrics(telemetry, services.database)
    add_error_handlers(app)
    app.add_middleware(Idempotency, store=IdempotencyStore(services.database))
    app.add_middleware(BlindRetries, store=RetryStore(services.database))
    app.add_middleware(DataAge, freshness=services.freshness)
    app.add_middleware(Guard, doorman=_doorman(services), local_only=is_loopback(settings.host))
    app.add_middleware(CodecOrigins, origins=settings.codec_origins)
    app.add_middleware(AccessLog, telemetry=telemetry)
    install_document(app, DOCS, ANSWERS)
    return app


def _doorman(services: Services) -> Doorman:
    settings = services.settings
    root_key = None if settings.api_key is None else settings.api_key.get_secret_value()
    return Doorman(services.keys, root_key=root_key, tokens=tokens_of(settings), is_open=asks_nobody(settings))


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own, and with a word when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._tell()


def _nothing() -> None:
    return None


def bind(settings: Settings) -> socket.socket:
    """Bind the address of the API.

    Raises:
        InvalidInput: `config.api_key_required`.
        Conflict: `port.in_use`, also for an address that this machine does not have.
    """
    refuse_open_bind(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it, a small answer waits 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        listener.close()
        raise Conflict(
            f"the API cannot bind to {settings.host}:{settings.port}: {error.strerror}",
            code="port.in_use",
            hint="choose another port with --port or EVERSTEP_PORT",
        ) from error
    return listener


async def project_contracts(settings: Settings) -> dict[str, ToolContract]:
    """Import the tools of the project file and return their contracts by name.

    Raises:
        InvalidInput: What `load_project` and `load_catalog` say.
    """
    project = load_project(settings.project_file)
    return (await asyncio.to_thread(load_catalog, project, settings.data_dir)).contracts()


async def serve_api(
    settings: Settings,
    *,
    listener: socket.socket | None = None,
    started: Callable[[], None] = _nothing,
    stop: asyncio.Event | None = None,
    contracts: MutableMapping[str, ToolContract] | None = None,
    temporal_address: str | None = None,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
) -> None:
    """Serve the API until `stop` is set, or until SIGINT or SIGTERM if there is no `stop`.

    Args:
        settings: Settings of the process.
        listener: A bound socket; None = bind the address of the settings.
        started: Called when requests are answered.
        stop: Ends the server when it is set; streams end at once, requests under way get three seconds.
        contracts: Contracts of the operator's tools; None = import those of the project file. Operations of OpenAPI
            services are kept fresh in it.
        temporal_address: The server's host:port, instead of what TEMPORAL_ADDRESS and profiles say.
        answer_timeout_s: How long an answer waits for a worker to take it, in seconds.

    Raises:
        InvalidInput: `config.api_key_required`, or what `load_project` and `load_catalog` say.
        Conflict: `port.in_use`.
        Unavailable: `store.locked`, `store.newer`.
    """
    refuse_open_bind(settings)
    if not structlog.is_configured():
        # unconfigured, structlog writes every line to standard output, which belongs to programs
        configure_logging(settings.log_level, settings.log_json).learn(known_secrets(settings))
    if contracts is None:
        contracts = await project_contracts(settings)
    own = bind(settings) if listener is None else None
    telemetry = start_telemetry("api", content=settings.trace_content, scraped=True)
    try:
        async with open_services(
            settings, contracts=contracts, temporal_address=temporal_address, answer_timeout_s=answer_timeout_s
        ) as services:
            told = ExecutionTelemetry(telemetry, services.store)
            app = create_app(services, telemetry=telemetry)
            refreshing = asyncio.create_task(_refresh(settings, contracts), name="refresh")
            try:
                async with app.state.metrics.kept_fresh():
                    await _serve(app, services, listener or own, started, stop or stop_on_signals())
            finally:
                refreshing.cancel()
            await told.close()
    finally:
        await asyncio.to_thread(telemetry.close)
        if own is not None:
            own.close()


async def _refresh(settings: Settings, contracts: MutableMapping[str, ToolContract]) -> None:
    """Pick up changed definitions of OpenAPI services and MCP servers until cancelled."""

    async def there(kind: str) -> None:
        # `dev` may put services in later
        while not any(contract.type == kind for contract in contracts.values()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(SERVICES_LOOK_S)

    def project() -> Project:
        return load_project(settings.project_file)

    async def of_services() -> None:
        await there("openapi")
        # it takes 0.1 s to import, which no start without such services need pay
        from engine.control.openapi.refreshing import keep_fresh

        await keep_fresh(contracts, project, settings.data_dir)

    async def of_servers() -> None:
        await there("mcp")
        # imported late, as above
        from engine.control.mcp.refreshing import keep_fresh

        await keep_fresh(contracts, project, settings.data_dir)

    await asyncio.gather(of_services(), of_servers())


async def _serve(
    app: FastAPI,
    services: Services,
    listener: socket.socket | None,
    started: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    config = uvicorn.Config(
        app,
        # streams cut connections whose readers take nothing
        http=Connection,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
        # no hop in front of us is trusted to say who the caller is
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config, started)
    serving = asyncio.create_task(server.serve(None if listener is None else [listener]), name="uvicorn")
    stopping = asyncio.create_task(stop.wait())
    services.freshness.start()
    services.dispatcher.start()
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # streams wait for changes: they must hear of the end before uvicorn waits for them
        await services.changes.close()
        server.should_exit = True
        stopping.cancel()
        await serving
        await services.freshness.stop()
        await services.dispatcher.stop()
