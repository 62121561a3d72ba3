"""Entry of the worker, repair and model processes: joins the engine with its workflows and activities."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Mapping, MutableMapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from temporalio.client import Client, WorkflowHistory
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from activities.backends.base import Backend, ReadSecret
from activities.children import ChildActivities, Children
from activities.embedding import Embedder
from activities.llm import ChatActivities, build_backends
from activities.lookups import LookupActivities
from activities.registry import RegistryFollower, open_registry, secrets_of
from activities.tools.runner import ToolActivities
from activities.tools.system import Operations
from engine import __version__
from engine.broker.choosing import token_publisher
from engine.control.connect import TemporalConnection, connect, ensure_search_attributes, temporal_errors
from engine.control.dispatcher import Dispatcher, limits_of
from engine.control.known import known_secrets
from engine.control.live import LiveEvents
from engine.control.outgoing import keep_going
from engine.control.payloads import blob_drivers
from engine.control.reindex import Reindex, tell_line, wanted_of
from engine.control.repair import Repair
from engine.control.replaying import ReplayFailed
from engine.control.secrets import SecretReader
from engine.control.settler import Settler
from engine.control.sweeping import Sweep
from engine.control.tools import load_catalog
from engine.control.tracing import ExecutionTelemetry
from engine.core.contracts.doors import WebhookParams, doors_queue
from engine.core.contracts.pools import ALL_POOLS, pool_queue
from engine.core.errors import Conflict, EngineError, InvalidInput
from engine.core.plan.ir import ToolContract
from engine.core.run.events import EventRecord
from engine.obs.logs import configure_logging, redactor_in_use
from engine.obs.metrics import QUEUE_DEPTH
from engine.obs.start import start_telemetry
from engine.obs.telemetry import Service, Telemetry
from engine.settings import Project, Settings, load_project
from engine.store.blobs import BlobStore
from engine.store.changes import Changes
from engine.store.conversations import ConversationStore
from engine.store.database import Database, look_at, open_database
from engine.store.docs import DocStore
from engine.store.kept import KeptStore
from engine.store.limits import LimitStore
from engine.store.migrating import HEAD
from engine.store.projection import ProjectionStore
from engine.store.pulses import POOL, REPAIR, WORKER, Heart, PulseStore
from engine.store.spending import SpendingStore
from workflows.bulk import BulkWorkflow
from workflows.execution import ExecutionWorkflow
from workflows.interceptor import Sink, SinkInterceptor
from workflows.reconciling import PruneWorkflow, PullWorkflow, ReconcileWorkflow
from workflows.scheduled import ScheduledWorkflow
from workflows.searching import EmbedWorkflow, SearchWorkflow
from workflows.webhook import WebhookWorkflow

if TYPE_CHECKING:
    from activities.reconciling import BackendKeeper
    from activities.webhooks import WebhookActivities
    from engine.control.doors import Doors
    from engine.control.executions import ExecutionService
    from engine.control.sessions.opening import Sessions
    from engine.control.starting import StartService

CACHED_WORKFLOWS = 5_000
"""A waiting run takes some 40 kB; a run that falls out of the cache is replayed when it goes on."""
STICKY_TIMEOUT = timedelta(seconds=1)
"""How long a workflow task waits for the worker that knows the run; the lever for recovery after a lost worker."""
HEARTBEAT_THROTTLE = timedelta(seconds=1)
"""Without it a cancel reaches a running effect up to 3.7 s late."""
GRACE = timedelta(seconds=30)
DOORS_GRACE = timedelta(seconds=5)
"""A job over many executions goes on in another worker, where it was."""
CONCURRENT_EFFECTS = 1_000
CONCURRENT_DOORS = 100
"""Receivers of webhooks may be slow; more of them wait."""
CONCURRENT_WORKFLOW_TASKS = 8
"""Few, since they share one interpreter lock: with 100, a herd of 60 runs of 1,200 events was replayed at once after a
lost worker, every workflow task passed its ten seconds, and 58 had not gone on after 150 s; with 8 all had in 18."""

KEEPING_WORKFLOWS = (ReconcileWorkflow, PullWorkflow, PruneWorkflow)
"""Those that look after backends."""

STANDSTILL_S = 8
"""How long a workflow may compute before the SDK takes it for stuck and gives its task up; it says 2 s. A value of 50
MB takes half a second of a processor, which a machine with much to do stretches to four. A workflow task has ten."""

SLOW_REPLAY = "TMPRL1101"
"""In the failure of a replay that computed for more than the SDK's 2 s, which for replays cannot be set."""

log = structlog.get_logger("worker")


def build_worker(
    client: Client,
    *,
    task_queue: str,
    sink: Sink,
    chat: ChatActivities,
    tools: ToolActivities,
    children: ChildActivities | None = None,
    lookups: LookupActivities | None = None,
    cached_workflows: int = CACHED_WORKFLOWS,
    more: dict[str, Any] | None = None,
) -> Worker:
    """Put a Temporal worker together; the bench and the tests build theirs here too.

    Args:
        client: A connected client.
        task_queue: Task queue to poll.
        sink: Where the events of workflows go.
        chat: The model activity.
        tools: The tool activity.
        children: The activities of steps that run another task; None = there are no such steps.
        lookups: The activities of steps that embed and search; None = there are no such steps.
        cached_workflows: Most runs kept in memory.
        more: Further arguments of `temporalio.worker.Worker`.
    """
    # the sandbox costs half the speed; purity of core and workflows is proved by lint, replay and mutation tests
    options: dict[str, Any] = {
        "workflows": [ExecutionWorkflow],
        "activities": [
            *(chat.chat, tools.call),
            *([] if children is None else [children.resolve, children.plan]),
            *([] if lookups is None else [lookups.embed, lookups.search]),
        ],
        "interceptors": [SinkInterceptor(sink)],
        "workflow_runner": UnsandboxedWorkflowRunner(),
        "max_cached_workflows": cached_workflows,
        "max_concurrent_activities": CONCURRENT_EFFECTS,
        "max_concurrent_workflow_tasks": CONCURRENT_WORKFLOW_TASKS,
        "max_heartbeat_throttle_interval": HEARTBEAT_THROTTLE,
        "sticky_queue_schedule_to_start_timeout": STICKY_TIMEOUT,
        "graceful_shutdown_timeout": GRACE,
        "workflow_failure_exception_types": [EngineError],
    }
    worker = Worker(client, task_queue=task_queue, **{**options, **(more or {})})
    if worker._workflow_worker is not None and worker._workflow_worker._deadlock_timeout_seconds is not None:
        # the SDK has no argument for it; a test holds that the attribute is still there
        worker._workflow_worker._deadlock_timeout_seconds = STANDSTILL_S
    return worker


def build_pool_worker(
    client: Client, *, task_queue: str, pool: str, tools: ToolActivities, more: dict[str, Any] | None = None
) -> Worker:
    """Put a worker together that only makes the calls of a pool's tools.

    Args:
        client: A connected client.
        task_queue: Task queue of the executions.
        pool: The pool.
        tools: The tool activity.
        more: Further arguments of `temporalio.worker.Worker`.
    """
    options: dict[str, Any] = {
        "activities": [tools.call],
        "max_concurrent_activities": CONCURRENT_EFFECTS,
        "max_heartbeat_throttle_interval": HEARTBEAT_THROTTLE,
        "graceful_shutdown_timeout": GRACE,
    }
    return Worker(client, task_queue=pool_queue(task_queue, pool), **{**options, **(more or {})})


def build_doors_worker(
    client: Client,
    doors: Doors,
    posts: WebhookActivities,
    *,
    task_queue: str,
    lookups: LookupActivities | None = None,
    keeper: BackendKeeper | None = None,
    more: dict[str, Any] | None = None,
) -> Worker:
    """Put the worker of the workflows beside executions together; it has a queue and slots of its own.

    Args:
        client: A connected client.
        doors: What they do.
        posts: Posts messages to webhooks.
        task_queue: Task queue of the executions.
        lookups: Searches documents and makes vectors for the API; None = it cannot ask for that.
        keeper: Knows all backends; None = this worker does not look after them.
        more: Further arguments of `temporalio.worker.Worker`.
    """
    from activities.bulk import BulkActivities
    from activities.starting import ScheduleActivities

    runs, jobs = ScheduleActivities(doors.starts), BulkActivities(doors.work)
    options: dict[str, Any] = {
        "workflows": [
            WebhookWorkflow,
            ScheduledWorkflow,
            BulkWorkflow,
            SearchWorkflow,
            EmbedWorkflow,
            *KEEPING_WORKFLOWS,
        ],
        "activities": [posts.post, posts.give_up, runs.start, runs.ended, runs.stop, jobs.collect, jobs.work]
        + ([] if lookups is None else [lookups.search, lookups.embed])
        + _keeping(keeper),
        "workflow_runner": UnsandboxedWorkflowRunner(),
        "max_concurrent_activities": CONCURRENT_DOORS,
        "max_heartbeat_throttle_interval": HEARTBEAT_THROTTLE,
        "graceful_shutdown_timeout": DOORS_GRACE,
    }
    return Worker(client, task_queue=doors_queue(task_queue), **{**options, **(more or {})})


def _keeping(keeper: BackendKeeper | None) -> list[Any]:
    if keeper is None:
        return []
    from activities.pulling import PullActivities
    from activities.reconciling import ReconcileActivities

    looks, pulls = ReconcileActivities(keeper), PullActivities(keeper)
    return [looks.check, looks.prune, pulls.pull]


async def run_doors(
    settings: Settings,
    client: Client,
    database: Database,
    contracts: Mapping[str, ToolContract],
    project: Project,
    dispatcher: Dispatcher,
    lookups: LookupActivities,
) -> None:
    """Work on schedules, webhooks, events from outside and jobs over many executions, until cancelled."""
    # imported late: the compiler behind it costs a tenth of a second, and a worker is to be ready soon
    from activities.reconciling import BackendKeeper
    from activities.webhooks import WebhookActivities
    from engine.control.definitions import DefinitionService
    from engine.control.doors import open_doors
    from engine.control.executions import ExecutionService
    from engine.control.reconciling import keep_schedule
    from engine.control.starting import StartService
    from engine.store.definitions import Definitions
    from engine.store.pulls import PullStore

    queue, store, changes = settings.task_queue, ProjectionStore(database), Changes(database)
    temporal = TemporalConnection(settings, client)
    definitions = DefinitionService(Definitions(database), contracts)
    starter = StartService(
        store, definitions, temporal, task_queue=queue, limits=limits_of(settings), on_entered=dispatcher.wake
    )
    executions = ExecutionService(store, temporal, changes)
    executions.queue = starter.admission
    doors = open_doors(
        database,
        temporal,
        changes,
        definitions=definitions,
        executions=executions,
        starter=starter,
        task_queue=queue,
        tries=WebhookParams(tenant="", delivery_id="", first_pause_s=settings.webhook_retry_s),
    )
    posts, stopping = WebhookActivities(doors.webhooks.store, store, project.webhooks), asyncio.Event()
    (registry, states), read_secret = open_registry(database, project), secrets_of(settings, database)
    keeper = BackendKeeper(registry, states, PullStore(database), client, task_queue=queue, read_secret=read_secret)
    scheduling = asyncio.create_task(keep_schedule(client, queue, settings.reconcile_s), name="checks")
    keeping = asyncio.create_task(doors.keep(changes, stopping), name="doors")
    # beside the doors, which no model's slowness may hold up
    embedding = asyncio.create_task(keep_going([lookups.embed_due], changes, stopping), name="documents")
    sessions = _open_sessions(
        settings, temporal, database, changes, project, contracts, executions=executions, starter=starter
    )
    talking = asyncio.create_task(sessions.keep(changes, stopping), name="sessions")
    try:
        async with build_doors_worker(client, doors, posts, task_queue=queue, lookups=lookups, keeper=keeper):
            await keeping
    finally:
        stopping.set()
        scheduling.cancel()
        embedding.cancel()
        talking.cancel()
        # first: a watch that nobody needs any more ends in its own time
        await changes.close()
        await asyncio.gather(keeping, embedding, talking, scheduling, return_exceptions=True)
        await keeper.aclose()
        await posts.aclose()


def deployment_of(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `temporalio.worker.Worker` that give it a version; none if workers have no versions.

    Raises:
        InvalidInput: `config.deployment` if a version is set without the name of a deployment.
    """
    if not settings.deployment:
        if settings.build_id or settings.versioning == "pinned":
            raise InvalidInput(
                "EVERSTEP_BUILD_ID and EVERSTEP_VERSIONING mean nothing without EVERSTEP_DEPLOYMENT",
                code="config.deployment",
                hint="set EVERSTEP_DEPLOYMENT to a name that all builds of these workers share, such as everstep",
            )
        return {}
    pinned = settings.versioning == "pinned"
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(settings.deployment, settings.build_id or __version__),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED if pinned else VersioningBehavior.AUTO_UPGRADE,
    )
    return {"deployment_config": config}


async def replay_run(client: Client, execution_id: str, run_id: str, history: WorkflowHistory) -> list[EventRecord]:
    """Replay one run and return its events, keyed by the run that was fetched.

    Raises:
        ReplayFailed: The history does not replay with this interpreter; retryable, if it only took too long.
    """
    records: list[EventRecord] = []

    def keep(record: tuple[Any, ...], replaying: bool) -> None:
        del replaying
        # after a reset the history tells the id of the run it was made from
        records.append(EventRecord(*record)._replace(run_id=run_id, execution_id=execution_id))

    replayer = Replayer(
        workflows=[ExecutionWorkflow],
        interceptors=[SinkInterceptor(keep)],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_failure_exception_types=[EngineError],
        data_converter=client.data_converter,
        namespace=client.namespace,
    )
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    if result.replay_failure is not None:
        if SLOW_REPLAY in str(result.replay_failure):
            raise ReplayFailed(
                f"the replay of {execution_id} took too long",
                hint="the machine has much to do: try again later",
                retryable=True,
            )
        raise ReplayFailed(f"the history of {execution_id} does not replay: {result.replay_failure}")
    return records


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _task_service(database: Database, contracts: Mapping[str, ToolContract]) -> Children:
    # imported late: the compiler behind it costs a tenth of a second, which no start without such steps need pay
    from engine.control.children import ChildService
    from engine.control.definitions import DefinitionService
    from engine.store.definitions import Definitions

    return ChildService(DefinitionService(Definitions(database), contracts))


def _open_sessions(
    settings: Settings,
    temporal: TemporalConnection,
    database: Database,
    changes: Changes,
    project: Project,
    contracts: Mapping[str, ToolContract],
    *,
    executions: ExecutionService,
    starter: StartService,
) -> Sessions:
    # imported late, as above
    from engine.control.documents import DocumentService
    from engine.control.models import ModelService
    from engine.control.sessions.opening import open_sessions
    from engine.store.pulls import PullStore

    queue, (registry, states) = settings.task_queue, open_registry(database, project)
    return open_sessions(
        database,
        changes,
        documents=DocumentService(DocStore(database), temporal, task_queue=queue),
        executions=executions,
        starter=starter,
        models=ModelService(registry, states, PullStore(database), temporal, task_queue=queue),
        contracts=contracts,
    )


def _system_tools(
    settings: Settings,
    client: Client,
    database: Database,
    contracts: Mapping[str, ToolContract],
    project: Project,
    dispatcher: Dispatcher,
    lookups: LookupActivities,
) -> Operations:
    # imported late, as above
    from engine.control.definitions import DefinitionService
    from engine.control.executions import ExecutionService
    from engine.control.starting import StartService
    from engine.control.systemtools import SystemTools
    from engine.store.definitions import Definitions

    store, definitions = ProjectionStore(database), DefinitionService(Definitions(database), contracts)
    temporal, changes = TemporalConnection(settings, client), Changes(database)
    starter = StartService(
        store,
        definitions,
        temporal,
        task_queue=settings.task_queue,
        limits=limits_of(settings),
        on_entered=dispatcher.wake,
    )
    executions = ExecutionService(store, temporal, changes)
    executions.queue = starter.admission
    sessions = _open_sessions(
        settings, temporal, database, changes, project, contracts, executions=executions, starter=starter
    )
    return SystemTools(definitions, starter, store, sessions, lookups.find)


async def _refresh(
    contracts: MutableMapping[str, ToolContract], project: Project, settings: Settings, tools: ToolActivities
) -> None:
    """Pick up changed definitions of OpenAPI services and MCP servers until cancelled."""
    running: list[Awaitable[None]] = []

    def changed() -> None:
        tools.learn(contracts)

    # imported late, as what reads such definitions is
    if project.tools.openapi:
        from engine.control.openapi.refreshing import keep_fresh

        running.append(keep_fresh(contracts, lambda: project, settings.data_dir, changed=changed))
    if project.tools.mcp:
        from engine.control.mcp import refreshing

        running.append(refreshing.keep_fresh(contracts, lambda: project, settings.data_dir, changed=changed))
    await asyncio.gather(*running)


def _following(
    settings: Settings, client: Client, database: Database, project: Project, chat: ChatActivities
) -> RegistryFollower:
    from engine.control.reconciling import check_now

    async def look_at_backends() -> None:
        try:
            await check_now(client, settings.task_queue)
        except RPCError as error:
            # the schedule comes by itself
            log.warning("backends are looked at later", why=error.message)

    registry, states = open_registry(database, project)
    return RegistryFollower(registry, states, chat.use, check_s=settings.reconcile_s, changed=look_at_backends)


def _start_telemetry(role: Service, settings: Settings) -> Telemetry:
    """Start traces and metrics, and show the latter if a port for it is set.

    Raises:
        Conflict: `port.in_use`.
    """
    telemetry = start_telemetry(role, content=settings.trace_content, scraped=settings.metrics_port is not None)
    telemetry.adopt_tools()
    if settings.metrics_port is not None:
        try:
            telemetry.serve(settings.metrics_host, settings.metrics_port)
        except OSError as error:
            raise Conflict(
                f"metrics cannot be shown at {settings.metrics_host}:{settings.metrics_port}: {error.strerror}",
                code="port.in_use",
                hint="give each process of this machine an EVERSTEP_METRICS_PORT of its own",
            ) from error
    return telemetry


def _announce(role: str) -> None:
    # one JSON line on standard output: the supervisor waits for it
    print(json.dumps({"ready": True, "role": role}), flush=True)  # noqa: T201


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Raises:
        EngineError: The configuration is wrong or Temporal is out of reach.
    """
    if settings.pool not in ("", ALL_POOLS):
        await run_pool(settings)
        return
    stopping = _stop_on_signals()
    more = deployment_of(settings)
    project = load_project(settings.project_file)
    redactor_in_use().learn(known_secrets(settings, project))
    catalog = load_catalog(project, settings.data_dir)
    contracts = catalog.contracts()
    database = await open_database(settings.store_url)
    store = ProjectionStore(database)
    client = await connect(settings, holders=BlobStore(database))
    await ensure_search_attributes(client)

    telemetry = _start_telemetry("worker", settings)
    told = ExecutionTelemetry(telemetry, store)
    settler = Settler(client, store)

    async def connected() -> Client:
        return client

    dispatcher = Dispatcher(store, connected, task_queue=settings.task_queue, limits=limits_of(settings))
    live = LiveEvents(store, settler.note, told.stored if telemetry.traces or telemetry.metrics else None)
    telemetry.observe(QUEUE_DEPTH, lambda: [(live.waiting, {})])
    tokens = token_publisher(data_dir=settings.data_dir, store_url=settings.store_url)
    shared: dict[str, Any] = {"limits": LimitStore(database), "conversations": ConversationStore(database)}
    shared |= {"spending": SpendingStore(database), "kept": KeptStore(database)}
    shared["read_secret"] = secrets_of(settings, database)
    chat = ChatActivities.of(project, **shared, telemetry=telemetry, tokens=tokens)
    following = _following(settings, client, database, project, chat)
    await following.look()
    places: dict[str, Any] = {"folder": project.folder, "data_dir": settings.data_dir}
    places["secrets"] = SecretReader.of(settings, database)
    lookups = LookupActivities(Embedder(chat), DocStore(database), telemetry=telemetry)
    places["system"] = lambda: _system_tools(settings, client, database, contracts, project, dispatcher, lookups)
    tools = ToolActivities(
        catalog, project.http, config=project.tools, kept=KeptStore(database), telemetry=telemetry, **places
    )
    children = ChildActivities(lambda: _task_service(database, contracts), telemetry=telemetry)
    flusher, settling = asyncio.create_task(live.run()), asyncio.create_task(settler.run())
    registering = asyncio.create_task(following.run(), name="registry")
    refreshing = asyncio.create_task(_refresh(contracts, project, settings, tools), name="refresh")
    pools = sorted({contract.pool for contract in contracts.values()} - {""}) if settings.pool else []
    about = {"version": __version__, "queue": settings.task_queue, **({"pools": pools} if pools else {})}
    heart = Heart(PulseStore(database), WORKER, lambda: about)
    heart.start()
    tokens.start()
    try:
        options: dict[str, Any] = {"task_queue": settings.task_queue, "sink": live.sink, "children": children}
        options |= {"more": more, "lookups": lookups}
        async with contextlib.AsyncExitStack() as workers:
            await workers.enter_async_context(build_worker(client, chat=chat, tools=tools, **options))
            for pool in pools:
                taken = build_pool_worker(client, task_queue=settings.task_queue, pool=pool, tools=tools, more=more)
                await workers.enter_async_context(taken)
            _announce("worker")
            dispatcher.start()
            working = run_doors(settings, client, database, contracts, project, dispatcher, lookups)
            doors = asyncio.create_task(working)
            doors.add_done_callback(lambda done: stopping.set())
            await stopping.wait()
            await dispatcher.stop()
            log.info("stopping: running calls get a grace period")
            doors.cancel()
            # what ended it by itself ends the worker, which is started again
            with contextlib.suppress(asyncio.CancelledError):
                await doors
    finally:
        registering.cancel()
        refreshing.cancel()
        live.stop()
        await flusher
        settler.stop()
        await settling
        await chat.aclose()
        lookups.close()
        await tools.aclose()
        await tokens.close()
        # last, since it says that all events are written
        await heart.stop()
        await told.close()
        await asyncio.to_thread(telemetry.close)
        await database.close()


async def run_pool(settings: Settings) -> None:
    """Run a worker of a pool until SIGINT or SIGTERM: it makes the calls of the pool's tools, and nothing else.

    Raises:
        EngineError: The configuration is wrong or Temporal is out of reach.
    """
    stopping = _stop_on_signals()
    more = deployment_of(settings)
    project = load_project(settings.project_file)
    redactor_in_use().learn(known_secrets(settings, project))
    catalog = load_catalog(project, settings.data_dir)
    contracts = catalog.contracts()
    database = await open_database(settings.store_url)
    client = await connect(settings, holders=BlobStore(database))
    telemetry = _start_telemetry("worker", settings)
    places: dict[str, Any] = {"folder": project.folder, "data_dir": settings.data_dir}
    places["secrets"] = SecretReader.of(settings, database)
    tools = ToolActivities(catalog, project.http, config=project.tools, telemetry=telemetry, **places)
    refreshing = asyncio.create_task(_refresh(contracts, project, settings, tools), name="refresh")
    about = {"version": __version__, "queue": settings.task_queue, "pools": [settings.pool]}
    heart = Heart(PulseStore(database), POOL, lambda: about)
    heart.start()
    try:
        async with build_pool_worker(
            client, task_queue=settings.task_queue, pool=settings.pool, tools=tools, more=more
        ):
            _announce("worker")
            await stopping.wait()
            log.info("stopping: running calls get a grace period")
    finally:
        refreshing.cancel()
        await tools.aclose()
        await heart.stop()
        await asyncio.to_thread(telemetry.close)
        await database.close()


async def run_repair(settings: Settings) -> None:
    """Run the repair loop until SIGINT or SIGTERM.

    Raises:
        EngineError: Temporal is out of reach.
    """
    stopping = _stop_on_signals()
    database = await open_database(settings.store_url)
    try:
        client = await connect(settings, holders=BlobStore(database))
        _announce("repair")
        store = ProjectionStore(database)
        telemetry = _start_telemetry("repair", settings)
        told = ExecutionTelemetry(telemetry, store)
        repair = Repair(client, store, replay_run, on_repaired=told.repaired)
        heart = Heart(PulseStore(database), REPAIR, lambda: {"version": __version__, **repair.pulse()})
        heart.start()
        sweep = Sweep(client, database, blob_drivers(client.data_converter), settings.retention_days)
        sweeping = asyncio.create_task(sweep.run(stopping), name="sweep")
        try:
            await repair.run(stopping)
        finally:
            await sweeping
            await heart.stop()
            await told.close()
            await asyncio.to_thread(telemetry.close)
    finally:
        await database.close()


async def run_reindex(settings: Settings, arguments: Sequence[str]) -> None:
    """Make rows of the projection anew, tell on standard output what was done, and end.

    Args:
        settings: Settings of the process.
        arguments: See `engine.control.reindex.wanted_of`.

    Raises:
        EngineError: Temporal is out of reach.
    """
    wanted = wanted_of(arguments)
    database = await open_database(settings.store_url)
    try:
        client = await connect(settings, holders=BlobStore(database))
        reindex = Reindex(client, ProjectionStore(database), replay_run, lambda so_far: tell_line("progress", so_far))
        with temporal_errors(client.service_client.config.target_host):
            tell_line("done", await reindex.run(wanted))
    finally:
        await database.close()


async def run_calls(settings: Settings) -> None:
    """Make the calls that come in on standard input, without Temporal, until it ends.

    Raises:
        EngineError: The configuration is wrong.
    """
    from activities.calls import serve_calls

    out = sys.stdout
    # what tools and their modules print must not get between the answers
    with contextlib.redirect_stdout(sys.stderr):
        project = load_project(settings.project_file)
        chat = ChatActivities.of(project)
        catalog = load_catalog(project, settings.data_dir)
        tools = ToolActivities(catalog, project.http, config=project.tools, folder=project.folder)
        async with contextlib.AsyncExitStack() as opened:

            async def open_docs() -> DocStore:
                database = await open_database(settings.store_url)
                opened.push_async_callback(database.close)
                return DocStore(database)

            lookups = LookupActivities(Embedder(chat), open_docs)
            try:
                await serve_calls(chat, tools, lookups, out)
            finally:
                await chat.aclose()
                await tools.aclose()
                lookups.close()


async def show_tools(settings: Settings) -> None:
    """Load the project as `run_worker` does, print the contracts of its tools as JSON, and end.

    Raises:
        EngineError: The configuration is wrong.
    """
    with contextlib.redirect_stdout(sys.stderr):
        project = load_project(settings.project_file)
        contracts = load_catalog(project, settings.data_dir).contracts()
        await ChatActivities.of(project).aclose()
    print(json.dumps({name: asdict(contract) for name, contract in contracts.items()}))  # noqa: T201


async def show_models(settings: Settings) -> None:
    """Ask each backend for its models, print what they say as JSON, and end.

    That is, by backend, {base_url, declared} and {models, missing} or {error}: what it lists, what of its `models` it
    does not have, or why it gave no answer. Backends of the store are among them if the store is there.

    Raises:
        EngineError: The configuration is wrong.
    """
    with contextlib.redirect_stdout(sys.stderr):
        project, database = load_project(settings.project_file), None
        read_secret: ReadSecret | None = None
        if (await look_at(settings.store_url))[1] == HEAD:
            database = await open_database(settings.store_url)
            project = (await open_registry(database, project)[0].registry()).merged()
            read_secret = secrets_of(settings, database)
        try:
            backends = build_backends(project, read_secret)
            seen = await asyncio.gather(*(_models_of(backend) for backend in backends))
        finally:
            if database is not None:
                await database.close()
    print(json.dumps({backend.name: told for backend, told in zip(backends, seen, strict=True)}))  # noqa: T201


async def _models_of(backend: Backend) -> dict[str, Any]:
    about = {"base_url": backend.config.base_url, "declared": backend.config.models}
    try:
        models = await backend.list_models()
        missing = [name for name in backend.config.models if name not in models and not await backend.has_model(name)]
    except EngineError as error:
        return {**about, "error": error.to_json()}
    finally:
        await backend.aclose()
    return {**about, "models": models, "missing": missing}


ROLES = {"run": run_worker, "repair": run_repair, "calls": run_calls, "tools": show_tools, "models": show_models}


def _run(role: str, arguments: Sequence[str] = ()) -> int:
    settings = Settings()
    configure_logging(settings.log_level, settings.log_json).learn(known_secrets(settings))
    try:
        asyncio.run(run_reindex(settings, arguments) if role == "reindex" else ROLES[role](settings))
    except EngineError as error:
        print(f"error[{error.code}]: {error.message}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201
        if error.code == "unreachable":
            # the SDK's native part goes on trying to connect, and would crash into an interpreter that ends
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(5)
        return 2
    return 0


def repair_main() -> None:
    """Entry of the process `everstep-repair`."""
    raise SystemExit(_run("repair"))


def model_main() -> None:
    """Entry of the process `everstep-model`."""
    from activities.backends.bundled import main as serve_model

    raise SystemExit(serve_model())


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m worker run`, `calls`, `tools`, `models` and `reindex [ID…] [--drop] …`.

    Args:
        argv: Arguments; by default those of the process.

    Returns:
        Exit code: 0 ok, 2 usage or configuration, 5 unreachable.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["reindex"]:
        return _run("reindex", arguments[1:])
    if arguments not in (["run"], ["calls"], ["tools"], ["models"]):
        print("usage: python -m worker run | calls | tools | models | reindex", file=sys.stderr)  # noqa: T201
        return 2
    return _run(arguments[0])


if __name__ == "__main__":
    raise SystemExit(main())
