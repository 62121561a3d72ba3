"""Which models a call may be answered by: what its step needs, and what its messages, tools and schema show."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.limits import IMAGE_TOKENS, tokens_of
from activities.llm import ChatActivities
from engine.core.contracts.activities import ChatResult, Wants
from engine.core.contracts.failures import run_error_of
from engine.core.errors import RunError
from engine.core.plan.grant import Grant
from engine.core.plan.needs import Needs
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Capabilities, Price, Project, RoutingConfig
from tests.backends.loopback import CONTEXT, chat_params, serving

PIXEL = "data:image/png;base64," + "A" * 40_000
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]
LOOK = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}


class Office:
    """A worker's chat activity, and the one server behind all of its backends."""

    def __init__(self, activities: ChatActivities, app: MockLlm) -> None:
        self.activities = activities
        self.app = app

    async def ask(self, *models: str, needs: Needs | None = None, tool_mode: Any = "auto", **params: Any) -> ChatResult:
        """Make one call."""
        wants = Wants(models=list(models[1:]), needs=needs, tool_mode=tool_mode)
        call = chat_params(model=models[0] if models else "", wants=None if wants == Wants() else wants, **params)
        result: ChatResult = await ActivityEnvironment().run(self.activities.chat, call)
        return result

    async def failure(self, *models: str, **params: Any) -> RunError:
        """Make one call that fails."""
        with pytest.raises(ApplicationError) as caught:
            await self.ask(*models, **params)
        return run_error_of(caught.value.details[0])


@asynccontextmanager
async def office(policy: Any = "order", *rules: dict[str, Any], **backends: Any) -> AsyncIterator[Office]:
    """Run a server and an activity whose backends have one model each: Capabilities, or those and a price."""
    app = create_app(MockScript.model_validate({"rules": list(rules)}))
    async with serving(app) as url:
        configs = {
            name: BackendConfig(base_url=f"{url}/v1", models=[name], **_about(given))
            for name, given in backends.items()
        }
        project = Project(backends=configs, routing=RoutingConfig(policy=policy))
        activities = ChatActivities.of(project)
        try:
            yield Office(activities, app)
        finally:
            await activities.aclose()


def _about(given: Any) -> dict[str, Any]:
    can, dollars = given if isinstance(given, tuple) else (given, None)
    prices = {} if dollars is None else {"*": Price.model_validate({"input": "0.5", "output": dollars})}
    return {"capabilities": {"*": can}, "prices": prices}


def passed_over(result: ChatResult) -> dict[str, str]:
    """Return why which backend was passed over."""
    assert result.route is not None
    return {item["backend"]: item["why"] for item in result.route.get("passed_over", [])}


# --- what is needed --------------------------------------------------------------------------------------------------

BLIND, SIGHTED, UNKNOWN = Capabilities(vision=False), Capabilities(vision=True), Capabilities()


@pytest.mark.parametrize(
    ("needs", "poor", "why"),
    [
        (Needs(vision=True), Capabilities(vision=False), "reads no images"),
        (Needs(tools=True), Capabilities(tools=False), "has no tool calls"),
        (Needs(json_schema=True), Capabilities(json_schema=False), "cannot be bound to a JSON Schema"),
        (Needs(context=8000), Capabilities(context=4000), "has room for 4000 tokens, not for 8000"),
    ],
)
async def test_a_model_that_lacks_what_is_needed_is_passed_over_and_told(
    needs: Needs, poor: Capabilities, why: str
) -> None:
    async with office(poor=poor, unknown=UNKNOWN) as scene:
        result = await scene.ask("poor", "unknown", needs=needs)
        assert (result.backend, passed_over(result)) == ("unknown", {"poor": why})
        assert [call["model"] for call in scene.app.calls] == ["unknown"]


async def test_what_nobody_needs_passes_nobody_over() -> None:
    async with office(
        poor=Capabilities(vision=False, tools=False, json_schema=False, context=4000), rich=UNKNOWN
    ) as scene:
        assert (await scene.ask("poor", "rich", needs=Needs(context=4000))).backend == "poor"


async def test_a_price_must_be_known_and_within_the_bound_for_both_directions() -> None:
    async with office(unpriced=UNKNOWN, dear=(UNKNOWN, "15"), fair=(UNKNOWN, "2.5")) as scene:
        result = await scene.ask("unpriced", "dear", "fair", needs=Needs(max_price=2.5))
        assert result.backend == "fair"
        assert passed_over(result) == {
            "unpriced": "has no price",
            "dear": "costs 15 dollars for a million tokens",
        }


async def test_if_nobody_is_left_each_is_named_with_what_it_lacks() -> None:
    async with office(blind=BLIND, unpriced=SIGHTED) as scene:
        error = await scene.failure("blind", "unpriced", needs=Needs(vision=True, max_price=1))
        assert (error.code, error.retryable) == ("backend.no_candidate", False)
        assert error.details["candidates"] == [
            {"backend": "blind", "model": "blind", "why": "reads no images"},
            {"backend": "unpriced", "model": "unpriced", "why": "has no price"},
        ]
        assert "blind/blind reads no images" in error.message
        assert scene.app.calls == []


async def test_a_single_model_that_cannot_is_not_asked_either() -> None:
    async with office(blind=BLIND) as scene:
        assert (await scene.failure("blind", messages=IMAGE)).code == "backend.no_candidate"
        assert scene.app.calls == []


# --- without a name --------------------------------------------------------------------------------------------------


async def test_the_default_model_is_asked_if_it_meets_the_needs_else_another_one_that_does() -> None:
    async with office("cheapest", blind=(BLIND, "1"), dear=(SIGHTED, "9"), fair=(SIGHTED, "2")) as scene:
        assert (await scene.ask(needs=Needs(max_price=1))).backend == "blind"
        result = await scene.ask(needs=Needs(vision=True))
        assert (result.backend, passed_over(result)) == ("fair", {"blind": "reads no images"})
        assert (await scene.ask(messages=IMAGE)).backend == "fair"
        assert (await scene.ask()).route is None


async def test_what_the_engine_finds_itself_stays_within_what_the_task_allows() -> None:
    context = dataclasses.replace(CONTEXT, allow=Grant(models=("b",)))
    async with office(default=BLIND, a=SIGHTED, b=SIGHTED) as scene:
        result = await scene.ask(needs=Needs(vision=True), context=context)
        assert (result.backend, passed_over(result)["a"]) == ("b", "is not allowed by the task")


# --- what the call shows ---------------------------------------------------------------------------------------------


async def test_an_image_needs_a_model_that_reads_images() -> None:
    async with office(blind=BLIND, sighted=SIGHTED) as scene:
        result = await scene.ask("blind", "sighted", messages=IMAGE)
        assert (result.backend, passed_over(result)) == ("sighted", {"blind": "reads no images"})
        assert (await scene.ask("blind", "sighted")).backend == "blind"


async def test_tools_go_to_models_that_have_tool_calls_and_to_others_only_in_words() -> None:
    poor, rich = Capabilities(tools=False), Capabilities(tools=True)
    async with office(poor=poor, rich=rich) as scene:
        assert (await scene.ask("poor", "rich", tools=[LOOK])).backend == "rich"
        assert (await scene.ask("poor", "rich", tools=[LOOK], tool_mode="native")).backend == "rich"
        assert (await scene.ask("poor", "rich", tools=[LOOK], tool_mode="json")).backend == "poor"
        assert (await scene.ask("poor", "rich", tools=[LOOK], tool_choice="none")).backend == "poor"
        error = await scene.failure("poor", tools=[LOOK], tool_mode="native")
        assert error.code == "backend.no_candidate"


async def test_if_the_model_with_tool_calls_is_overloaded_the_other_one_is_asked_in_words() -> None:
    rule = {"model": "rich", "status": 503}
    async with office("order", rule, poor=Capabilities(tools=False), rich=Capabilities(tools=True)) as scene:
        result = await scene.ask("poor", "rich", tools=[LOOK])
        assert result.backend == "poor"
        assert [("tools" in call["body"]) for call in scene.app.calls] == [True, False]


async def test_a_schema_goes_first_to_models_that_can_be_bound_to_it() -> None:
    async with office(poor=Capabilities(json_schema=False), rich=UNKNOWN) as scene:
        result = await scene.ask("poor", "rich", output_schema={"type": "object"})
        assert (result.backend, passed_over(result)) == ("rich", {"poor": "cannot be bound to a JSON Schema"})


async def test_a_call_goes_to_a_model_with_room_for_it() -> None:
    async with office(small=Capabilities(context=2_000), large=Capabilities(context=20_000)) as scene:
        long = "x" * 8_000
        result = await scene.ask("small", "large", text=long)
        assert result.backend == "large"
        assert passed_over(result)["small"].startswith("has room for 2000 tokens, and the call needs about 25")
        assert (await scene.ask("small", "large")).backend == "small"
        assert (await scene.ask("small", "large", settings={"max_tokens": 5_000})).backend == "large"
        # an estimate refuses nothing: if none has room for it, the largest says so itself
        assert (await scene.ask("small", "large", text="x" * 200_000)).backend == "large"
        assert (await scene.ask("small", text=long)).backend == "small"


async def test_an_image_counts_by_itself_and_not_by_its_data() -> None:
    async with office(small=Capabilities(context=2_000), large=Capabilities(context=20_000)) as scene:
        assert (await scene.ask("small", "large", messages=IMAGE)).backend == "small"


async def test_a_model_that_answers_no_messages_is_never_asked() -> None:
    async with office(vectors=Capabilities(chat=False), model=UNKNOWN) as scene:
        result = await scene.ask("vectors", "model")
        assert (result.backend, passed_over(result)) == ("model", {"vectors": "answers no messages"})


async def test_an_image_takes_no_more_of_a_limit_than_what_it_is_thought_to_need() -> None:
    data = f"data:image/png;base64,{'A' * 400_000}"
    large = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": data}}]}]
    text = [{"role": "user", "content": "A" * 4_000}]
    few = {"max_tokens": 10}
    assert tokens_of(chat_params(messages=large, settings=few)) < IMAGE_TOKENS + 50
    assert tokens_of(chat_params(messages=[*large, *large], settings=few)) > 2 * IMAGE_TOKENS
    assert 1_000 < tokens_of(chat_params(messages=text, settings=few)) < 1_050
