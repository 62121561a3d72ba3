"""Workers use the registry as it is: backends that come, change and go, what checks find, models that are fetched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.control.reconciling import ensure_schedule, schedule_id, workflow_prefix
from engine.core.errors import Conflict, NotFound
from engine.core.run.events import body_of
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Group, Project
from tests.support.lab import Lab
from tests.support.registry import TOTAL, RegistryLab, SlowOllama, registry_worker, until
from tests.support.servers import serve_app

ASK = "name: t\nmain: [{prompt: hi, model: m, unwrap: true}]"


@contextlib.asynccontextmanager
async def server(*rules: dict[str, Any], models: tuple[str, ...] = ()) -> AsyncIterator[tuple[MockLlm, str]]:
    app = create_app(MockScript.model_validate({"rules": list(rules), "models": list(models)}))
    async with serve_app(app) as url:
        yield app, f"{url}/v1"


async def pull_of(at: RegistryLab, model: str, *states: str) -> Any:
    """Wait until a fetch is in one of these states."""

    async def look() -> Any:
        found = await at.models.pulls.page(limit=100)
        return next((item for item in found if item.model == model and item.state in states), None)

    return await until(look)


# --- what is declared ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("both_stores")
async def test_a_backend_that_is_declared_answers_the_next_prompt_and_one_that_is_removed_none(lab: Lab) -> None:
    async with server({"reply": "fine"}) as (_, url), registry_worker(lab, keeps=False) as at:
        failed = await lab.run(ASK)
        assert failed.error is not None
        assert failed.error["code"] == "backend.none_configured"
        await at.models.registry.add_backend("late", {"base_url": url, "models": ["m"]})
        await until_uses(at, "late")
        assert (await lab.run(ASK)).output == "fine"
        await at.models.registry.remove("backend", "late")
        await until_uses(at)
        assert (await lab.run(ASK)).error is not None


async def until_uses(at: RegistryLab, *names: str) -> None:
    async def look() -> bool:
        return tuple(backend.name for backend in at.chat.fleet.backends) == names

    await until(look)


async def test_a_call_under_way_ends_at_the_backend_that_is_removed_meanwhile(lab: Lab) -> None:
    async with (
        server({"reply": "late but whole", "delay_s": 2.5}) as (app, url),
        registry_worker(lab, keeps=False) as at,
    ):
        await at.models.registry.add_backend("slow", {"base_url": url, "models": ["m"]})
        await until_uses(at, "slow")
        handle = await lab.start(ASK)
        await lab.until(handle, "effect.started")

        async def is_asked() -> bool:
            (health,) = at.chat.fleet.router._health.values()
            return health.in_flight == 1

        await until(is_asked)
        await at.models.registry.remove("backend", "slow")
        await until_uses(at)
        assert (await lab.end_of(handle)).output == "late but whole"
        assert len(app.calls) == 1
        assert not at.chat.fleet._retired, "its connections are closed when the call has ended"


async def test_a_changed_price_shows_in_the_cost_of_the_next_call(lab: Lab) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}
    async with server({"reply": "x", "usage": usage}) as (_, url), registry_worker(lab, keeps=False) as at:
        said = {"base_url": url, "models": ["m"], "prices": {"m": {"input": 1, "output": 2}}}
        await at.models.registry.add_backend("b", said)
        await until_uses(at, "b")
        adapter = at.chat.fleet.backends[0]
        assert await cost_of_one(lab) == "3"
        await at.models.declare("b", "m", {"price": {"input": 10, "output": 20}})
        await until_price(at, 10)
        assert await cost_of_one(lab) == "30"
        assert at.chat.fleet.backends[0] is adapter, "its connections and what is known of it stay"


async def cost_of_one(lab: Lab) -> str:
    handle = await lab.start(ASK)
    assert (await lab.end_of(handle)).error is None
    return str((await lab.until(handle, "effect.finished"))["cost"])


async def until_price(at: RegistryLab, price: int) -> None:
    async def look() -> bool:
        known = at.chat.fleet.backends[0].config.price_of("m")
        return known is not None and known.input == price

    await until(look)


async def test_a_group_that_is_declared_is_asked_like_a_model(lab: Lab) -> None:
    async with server({"reply": "from the group"}) as (_, url), registry_worker(lab, keeps=False) as at:
        await at.models.registry.add_backend("b", {"base_url": url, "models": ["m"]})
        await at.models.registry.add_group("fast", {"models": ["b/m"]})

        async def knows() -> bool:
            return "fast" in at.chat.fleet.router._groups

        await until(knows)
        assert (await lab.run(ASK.replace("model: m", "model: fast"))).output == "from the group"


# --- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("both_stores")
async def test_a_dead_backend_is_passed_over_by_all_workers_until_it_is_well_again(lab: Lab) -> None:
    app = SlowOllama(["m"])
    async with server({"reply": "stands in"}, models=("m",)) as (_, url), registry_worker(lab) as at:
        async with serve_app(app) as ollama:
            declared = {
                "desk": {"kind": "ollama", "base_url": ollama, "models": ["m"]},
                "other": {"base_url": url, "models": ["m"]},
            }
            await at.models.registry.apply(declared, {})
            assert (await at.models.check()).states == {"desk": "up", "other": "up"}
        assert (await at.models.check("desk")).states == {"desk": "down"}
        down = await at.models.state("desk")
        assert down is not None
        assert (down.error_code, down.failures) == ("backend.unreachable", 1)

        async def is_told() -> bool:
            health = at.chat.fleet.router._health.get("desk")
            return health is not None and bool(health.down)

        await until(is_told)
        handle = await lab.start(ASK)
        assert (await lab.end_of(handle)).output == "stands in"
        route = (await lab.until(handle, "effect.finished"))["route"]
        assert route["passed_over"] == [{"backend": "desk", "why": "does not answer (backend.unreachable)"}]
        async with serve_app(app) as again:
            # as if it came back where it was
            await at.models.registry.change_backend("desk", {"base_url": again})
            assert (await at.models.check()).states == {"desk": "up", "other": "up"}
            well = await at.models.state("desk")
            assert well is not None
            assert (well.state, well.failures, well.error_code) == ("up", 0, "backend.unreachable")
            assert well.since_us > down.since_us

            async def is_well() -> bool:
                return not at.chat.fleet.router._health["desk"].down

            await until(is_well)


async def test_what_a_server_tells_of_its_models_reaches_the_router_and_what_is_declared_wins(lab: Lab) -> None:
    async with serve_app(SlowOllama(["m", "n"])) as url, registry_worker(lab) as at:
        known = {"m": {"context": 100}}
        await at.models.registry.add_backend("desk", {"kind": "ollama", "base_url": url, "capabilities": known})
        await until_uses(at, "desk")
        await at.models.check()
        sights = {sight.model: sight for sight in await at.models.sights("desk")}
        assert sights["n"].capabilities.context == 32768
        assert (sights["n"].capabilities.tools, sights["n"].capabilities.vision) == (True, False)
        assert sights["m"].capabilities.context == 100
        assert sights["n"].found is not None
        assert sights["n"].found.body["parameter_size"] == "8.2B"

        async def is_told() -> bool:
            found = at.chat.fleet.backends[0].config.capabilities_of("n")
            return found.context == 32768

        await until(is_told)
        assert at.chat.fleet.backends[0].config.capabilities_of("m").context == 100


async def test_a_backend_that_wants_a_key_is_refused_and_not_passed_over(lab: Lab) -> None:
    async with server({"reply": "x"}) as (_, url), registry_worker(lab) as at:
        said = {"base_url": url, "models": ["m"], "api_key_env": "EVERSTEP_TEST_NO_SUCH_KEY"}
        await at.models.registry.add_backend("locked", said)
        assert (await at.models.check()).states == {"locked": "refused"}
        state = await at.models.state("locked")
        assert state is not None
        assert state.error_code == "backend.auth"
        await until_uses(at, "locked")
        ended = await lab.run(ASK)
        assert ended.error is not None
        assert ended.error["code"] == "backend.auth"


async def test_what_is_removed_is_forgotten_and_a_check_of_one_leaves_the_others_alone(lab: Lab) -> None:
    async with serve_app(SlowOllama(["m"])) as url, registry_worker(lab) as at:
        for name in ("a", "b"):
            await at.models.registry.add_backend(name, {"kind": "ollama", "base_url": url})
        assert (await at.models.check("a")).states == {"a": "up"}
        assert set(await at.models.states.all()) == {"a"}
        await at.models.check()
        await at.models.registry.remove("backend", "a")
        await at.models.check()
        assert set(await at.models.states.all()) == {"b"}
        assert {model.backend for model in await at.models.states.models()} == {"b"}
        with pytest.raises(NotFound):
            await at.models.check("a")


async def test_the_schedule_looks_without_being_asked_and_keeps_to_the_settings(lab: Lab) -> None:
    async with serve_app(SlowOllama(["m"])) as url, registry_worker(lab) as at:
        await at.models.registry.add_backend("a", {"kind": "ollama", "base_url": url})
        handle = lab.client.get_schedule_handle(schedule_id(lab.queue))
        try:
            await ensure_schedule(lab.client, lab.queue, 3600)

            async def is_seen() -> bool:
                return await at.models.state("a") is not None

            await until(is_seen)
            await ensure_schedule(lab.client, lab.queue, 1)
            first = await at.models.state("a")

            async def is_seen_again() -> bool:
                now = await at.models.state("a")
                return first is not None and now is not None and now.checked_us > first.checked_us + 1_500_000

            await until(is_seen_again)

            async def has_come_often() -> bool:
                return (await handle.describe()).info.num_actions >= 6

            await until(has_come_often, every_s=0.3)
            await ensure_schedule(lab.client, lab.queue, 3600)
            query = f"WorkflowId STARTS_WITH '{workflow_prefix(lab.queue)}'"

            async def are_few() -> bool:
                # each check has deleted the workflow of the one before, which the server does in its own time
                return len([item async for item in lab.client.list_workflows(query)]) <= 2

            await until(are_few, every_s=0.3)
        finally:
            await handle.delete()


# --- fetches ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def desk(lab: Lab, app: SlowOllama, **more: Any) -> AsyncIterator[tuple[RegistryLab, str]]:
    async with serve_app(app) as url, registry_worker(lab) as at:
        await at.models.registry.add_backend("desk", {"kind": "ollama", "base_url": url, **more})
        yield at, url


@pytest.mark.usefixtures("both_stores")
async def test_a_declared_model_that_is_missing_is_fetched_with_progress(lab: Lab) -> None:
    app = SlowOllama(["m"])
    async with desk(lab, app, models=["m", "n"], pull=True) as (at, _):
        await at.models.check()
        state = await at.models.state("desk")
        assert state is not None
        assert state.missing == ("n",)

        async def has_half() -> Any:
            found = await at.models.pulls.page(limit=10)
            return found and found[0].done_bytes == TOTAL // 2 and found[0]

        half = await until(has_half)
        assert (half.model, half.state, half.total_bytes, half.reason) == ("n", "running", TOTAL, "declared")
        app.going.set()
        done = await pull_of(at, "n", "done")
        assert (done.done_bytes, done.status) == (TOTAL, "success")

        async def is_there() -> bool:
            state = await at.models.state("desk")
            return state is not None and not state.missing

        await until(is_there)
        await at.models.check()
        assert app.pulls == ["n"]


async def test_without_pull_nothing_is_fetched_by_itself(lab: Lab) -> None:
    app = SlowOllama(["m"])
    async with desk(lab, app, models=["m", "n"]) as (at, _):
        await at.models.check()
        await at.models.check()
        assert await at.models.pulls.page(limit=10) == []
        assert app.pulls == []


async def test_a_backend_fetches_one_model_at_a_time_in_order(lab: Lab) -> None:
    app = SlowOllama()
    async with desk(lab, app) as (at, _):
        for model in ("a", "b", "c"):
            await at.models.pull("desk", model)
        await pull_of(at, "a", "running")
        states = {item.model: item.state for item in await at.models.pulls.page(limit=10)}
        assert states == {"a": "running", "b": "queued", "c": "queued"}
        again = await at.models.pull("desk", "b")
        assert (again.state, again.round) == ("queued", 1)
        app.going.set()
        for model in ("a", "b", "c"):
            await pull_of(at, model, "done")
        assert (app.pulls, app.most_under_way) == (["a", "b", "c"], 1)


async def test_a_cancelled_fetch_closes_its_connection_and_is_not_begun_again_by_itself(lab: Lab) -> None:
    app = SlowOllama(["m"])
    async with desk(lab, app, models=["m", "n"], pull=True) as (at, _):
        await at.models.check()
        running = await pull_of(at, "n", "running")
        waits = await at.models.pull("desk", "later")

        async def is_open() -> bool:
            return app.under_way == 1

        await until(is_open)
        assert (await at.models.cancel_pull(waits.id)).state == "cancelled"
        assert (await at.models.cancel_pull(running.id)).state == "cancelled"

        async def is_closed() -> bool:
            return app.under_way == 0

        await until(is_closed)
        await at.models.check()
        assert app.pulls == ["n"]
        with pytest.raises(NotFound):
            await at.models.cancel_pull("nothing")
        app.going.set()
        asked = await at.models.pull("desk", "n")
        assert asked.round == 2
        done = await pull_of(at, "n", "done")
        with pytest.raises(Conflict, match="done"):
            await at.models.cancel_pull(done.id)


async def test_a_fetch_that_breaks_off_is_tried_again(lab: Lab) -> None:
    app = SlowOllama(failures=1)
    app.going.set()
    async with desk(lab, app) as (at, _):
        await at.models.pull("desk", "a")
        done = await pull_of(at, "a", "done")
        assert (app.pulls, done.attempts) == (["a", "a"], 1)


async def test_a_fetch_goes_on_in_another_worker_when_the_first_one_is_gone(lab: Lab) -> None:
    app = SlowOllama()
    async with serve_app(app) as url:
        async with registry_worker(lab) as at:
            await at.models.registry.add_backend("desk", {"kind": "ollama", "base_url": url})
            await at.models.pull("desk", "a")
            await pull_of(at, "a", "running")
        app.going.set()
        async with registry_worker(lab) as at:
            await pull_of(at, "a", "done")
    assert app.models == ["a"]
    assert app.most_under_way == 1


async def test_a_fetch_of_a_backend_that_is_gone_fails_and_holds_up_nothing(lab: Lab) -> None:
    app = SlowOllama()
    async with desk(lab, app) as (at, _):
        await at.models.pull("desk", "a")
        await pull_of(at, "a", "running")
        queued = await at.models.pull("desk", "b")
        await at.models.registry.remove("backend", "desk")
        app.going.set()
        await pull_of(at, "a", "done")
        failed = await pull_of(at, "b", "failed")
        assert (failed.id, failed.error_code) == (queued.id, "backend.not_found")


# --- pruning ---------------------------------------------------------------------------------------------------------


async def test_models_are_deleted_only_when_somebody_asks_and_only_those_that_nobody_declared(lab: Lab) -> None:
    app = SlowOllama(["m", "old", "older", "of-a-group"])
    project = Project(
        backends={"filed": BackendConfig(base_url="http://127.0.0.1:9/v1")},
        groups={"g": Group(models=["desk/of-a-group"])},
    )
    async with serve_app(app) as url, registry_worker(lab, project) as at:
        await at.models.registry.add_backend("desk", {"kind": "ollama", "base_url": url, "models": ["m:latest"]})
        for _ in range(3):
            await at.models.check("desk")
        assert app.deleted == []
        told = await at.models.prune("desk")
        assert (told.undeclared, told.deleted) == (["old", "older"], [])
        assert app.deleted == []
        one = await at.models.prune("desk", models=["older", "m"], dry_run=False)
        assert one.deleted == ["older"]
        rest = await at.models.prune("desk", dry_run=False)
        assert rest.deleted == ["old"]
        assert app.models == ["m", "of-a-group"]
        assert {sight.model for sight in await at.models.sights("desk")} >= {"m", "of-a-group"}
        with pytest.raises(Conflict, match="fetches and deletes no models"):
            await at.models.prune("filed")


async def test_a_backend_without_declared_models_is_not_emptied(lab: Lab) -> None:
    app = SlowOllama(["m"])
    async with desk(lab, app) as (at, _):
        with pytest.raises(Conflict, match="all of its models would go"):
            await at.models.prune("desk", dry_run=False)
        assert app.models == ["m"]


async def test_events_of_calls_say_nothing_of_keys(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERSTEP_TEST_KEY", "sk-of-the-test")
    async with server({"reply": "x"}) as (_, url), registry_worker(lab) as at:
        said = {"base_url": url, "models": ["m"], "api_key_env": "EVERSTEP_TEST_KEY"}
        await at.models.registry.add_backend("keyed", said)
        await at.models.check()
        await until_uses(at, "keyed")
        handle = await lab.start(ASK)
        assert (await lab.end_of(handle)).output == "x"
        await lab.until(handle, "finish")
        told = str([body_of(event) for event in await lab.events(handle)])
        states = str(await at.models.states.all())
    assert "sk-of-the-test" not in told + states
    await asyncio.sleep(0)
