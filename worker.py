"""Entry of the worker, repair and model processes: joins the engine with its workflows and activities."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

from activities.children import ChildActivities
from activities.llm import ChatActivities
from activities.lookups import LookupActivities
from activities.opening import open_effects
from activities.polling import CONCURRENT_EFFECTS, GRACE, HEARTBEAT_THROTTLE, build_pool_worker, run_pool
from activities.registry import follow_registry
from activities.showing import show_models, show_tools
from activities.tools.runner import ToolActivities
from engine import __version__
from engine.broker.choosing import token_publisher
from engine.control.connect import connect, ensure_search_attributes
from engine.control.deployment import deployment_of
from engine.control.dispatcher import Dispatcher, limits_of
from engine.control.known import known_secrets
from engine.control.live import LiveEvents
from engine.control.mending import run_reindex, run_repair
from engine.control.process import announce, open_telemetry, stop_on_signals
from engine.control.refreshing import keep_contracts_fresh
from engine.control.replaying import ReplayFailed
from engine.control.settler import Settler
from engine.control.tools import load_catalog
from engine.control.tracing import ExecutionTelemetry
from engine.control.usecases import Grounds
from engine.core.contracts.doors import doors_queue
from engine.core.contracts.pools import ALL_POOLS
from engine.core.errors import EngineError
from engine.core.run.events import EventRecord
from engine.obs.logs import configure_logging, redactor_in_use
from engine.obs.metrics import QUEUE_DEPTH
from engine.settings import Settings, load_project
from engine.store.blobs import BlobStore
from engine.store.database import open_database
from engine.store.projection import ProjectionStore
from engine.store.pulses import WORKER, Heart, PulseStore
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

CACHED_WORKFLOWS = 5_000
"""A waiting run takes some 40 kB; a run that falls out of the cache is replayed when it goes on."""
STICKY_TIMEOUT = timedelta(seconds=1)
"""How long a workflow task waits for the worker that knows the run; the lever for recovery after a lost worker."""
DOORS_GRACE = timedelta(seconds=5)
"""A job over many executions goes on in another worker, where it was."""
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


async def run_doors(grounds: Grounds, lookups: LookupActivities) -> None:
    """Work on schedules, webhooks, events from outside and jobs over many executions, until cancelled."""
    from activities.beside import keep_beside

    queue = grounds.settings.task_queue
    async with (
        keep_beside(grounds, lookups) as beside,
        build_doors_worker(
            grounds.client, beside.doors, beside.posts, task_queue=queue, lookups=lookups, keeper=beside.keeper
        ),
    ):
        await beside.keeping


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Raises:
        EngineError: The configuration is wrong or Temporal is out of reach.
    """
    if settings.pool not in ("", ALL_POOLS):
        await run_pool(settings)
        return
    stopping = stop_on_signals()
    more = deployment_of(settings)
    project = load_project(settings.project_file)
    redactor_in_use().learn(known_secrets(settings, project))
    catalog = load_catalog(project, settings.data_dir)
    contracts = catalog.contracts()
    database = await open_database(settings.store_url)
    store = ProjectionStore(database)
    client = await connect(settings, holders=BlobStore(database))
    await ensure_search_attributes(client)

    telemetry = open_telemetry("worker", settings)
    told = ExecutionTelemetry(telemetry, store)
    settler = Settler(client, store)

    async def connected() -> Client:
        return client

    dispatcher = Dispatcher(store, connected, task_queue=settings.task_queue, limits=limits_of(settings))
    grounds = Grounds(
        settings=settings,
        client=client,
        database=database,
        project=project,
        contracts=contracts,
        on_entered=dispatcher.wake,
    )
    live = LiveEvents(store, settler.note, told.stored if telemetry.traces or telemetry.metrics else None)
    telemetry.observe(QUEUE_DEPTH, lambda: [(live.waiting, {})])
    tokens = token_publisher(data_dir=settings.data_dir, store_url=settings.store_url)
    effects = open_effects(grounds, catalog, telemetry, tokens)
    following = follow_registry(settings, client, database, project, effects.chat.use)
    await following.look()
    flusher, settling = asyncio.create_task(live.run()), asyncio.create_task(settler.run())
    registering = asyncio.create_task(following.run(), name="registry")
    fresh = keep_contracts_fresh(contracts, project, settings.data_dir, changed=lambda: effects.tools.learn(contracts))
    refreshing = asyncio.create_task(fresh, name="refresh")
    pools = sorted({contract.pool for contract in contracts.values()} - {""}) if settings.pool else []
    about = {"version": __version__, "queue": settings.task_queue, **({"pools": pools} if pools else {})}
    heart = Heart(PulseStore(database), WORKER, lambda: about)
    heart.start()
    tokens.start()
    try:
        async with contextlib.AsyncExitStack() as workers:
            taken = build_worker(
                client,
                task_queue=settings.task_queue,
                sink=live.sink,
                chat=effects.chat,
                tools=effects.tools,
                children=effects.children,
                lookups=effects.lookups,
                more=more,
            )
            await workers.enter_async_context(taken)
            for pool in pools:
                taken = build_pool_worker(
                    client, task_queue=settings.task_queue, pool=pool, tools=effects.tools, more=more
                )
                await workers.enter_async_context(taken)
            announce("worker")
            dispatcher.start()
            doors = asyncio.create_task(run_doors(grounds, effects.lookups))
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
        await effects.aclose()
        await tokens.close()
        # last, since it says that all events are written
        await heart.stop()
        await told.close()
        await asyncio.to_thread(telemetry.close)
        await database.close()


async def _make_calls(settings: Settings) -> None:
    # imported late: it brings the SDK's testing
    from activities.calls import run_calls

    await run_calls(settings)


ROLES = {"run": run_worker, "calls": _make_calls, "tools": show_tools, "models": show_models}


def _run(role: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    settings = Settings()
    configure_logging(settings.log_level, settings.log_json).learn(known_secrets(settings))
    try:
        asyncio.run(role(settings))
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
    raise SystemExit(_run(lambda settings: run_repair(settings, replay_run)))


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
        return _run(lambda settings: run_reindex(settings, replay_run, arguments[1:]))
    if len(arguments) != 1 or arguments[0] not in ROLES:
        print("usage: python -m worker run | calls | tools | models | reindex", file=sys.stderr)  # noqa: T201
        return 2
    return _run(ROLES[arguments[0]])


if __name__ == "__main__":
    raise SystemExit(main())
