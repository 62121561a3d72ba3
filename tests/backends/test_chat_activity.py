"""The chat activity: which backend is asked, and what reaches Temporal when it goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.backends.base import Backend, Embeddings, Tell, tell_nobody
from activities.effects import HEARTBEAT_EVERY_S
from activities.llm import ChatActivities, build_backends
from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.contracts.failures import run_error_of
from engine.core.errors import BackendError
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Project
from tests.backends.loopback import chat_params, serving


class Recording:
    """A backend that remembers what it was asked for."""

    def __init__(
        self, name: str, *models: str, default: str = "", listed: tuple[str, ...] = (), wait_s: float = 0
    ) -> None:
        self.name = name
        self.config = BackendConfig(base_url="http://unused", models=list(models), default_model=default)
        self.asked: list[str] = []
        self.listed = listed
        self.listings = 0
        self.wait_s = wait_s
        self.problem: BaseException | None = None
        self.until: asyncio.Event | None = None

    async def chat(self, params: ChatParams, tell: Tell = tell_nobody) -> ChatResult:
        self.asked.append(params.model)
        await asyncio.sleep(self.wait_s)
        if self.until is not None:
            await self.until.wait()
        if self.problem is not None:
            raise self.problem
        return ChatResult(id="1", model=params.model, backend=self.name, created=0, message={}, finish_reason="stop")

    async def embed(
        self, model: str, texts: Sequence[str], *, settings: Mapping[str, Any] | None = None, key: str = ""
    ) -> Embeddings:
        raise AssertionError("a chat needs no vectors")

    async def list_models(self) -> list[str]:
        self.listings += 1
        return list(self.listed)

    async def has_model(self, name: str) -> bool:
        return name in self.listed

    async def aclose(self) -> None:
        pass


async def chat(*backends: Backend, environment: ActivityEnvironment | None = None, **changes: Any) -> ChatResult:
    activities = ChatActivities(backends)
    result: ChatResult = await (environment or ActivityEnvironment()).run(activities.chat, chat_params(**changes))
    return result


async def failure(*backends: Backend, **changes: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await chat(*backends, **changes)
    return caught.value


@asynccontextmanager
async def mock_activities(*rules: dict[str, Any]) -> AsyncIterator[ChatActivities]:
    async with serving(create_app(MockScript.model_validate({"rules": list(rules)}))) as url:
        activities = ChatActivities(build_backends(Project(backends={"mock": BackendConfig(base_url=f"{url}/v1")})))
        try:
            yield activities
        finally:
            await activities.aclose()


async def test_the_backend_that_names_the_model_is_asked_before_one_that_takes_any() -> None:
    anything, named = Recording("any"), Recording("named", "gpt")
    assert (await chat(anything, named, model="gpt")).backend == "named"
    assert (await chat(anything, named, model="other")).backend == "any"


async def test_a_prompt_without_model_goes_to_the_first_backends_default() -> None:
    assert (await chat(Recording("a", "x", "y", default="y"), Recording("b"), model="")).model == "y"
    assert (await chat(Recording("a", "x", "y"), Recording("b"), model="")).model == "x"


async def test_a_default_that_nobody_configured_is_asked_of_the_server_once() -> None:
    backend = Recording("a", listed=("first", "second"))
    activities = ChatActivities([backend])
    for _ in range(2):
        await ActivityEnvironment().run(activities.chat, chat_params(model=""))
    assert (backend.asked, backend.listings) == (["first", "first"], 1)


async def test_a_server_without_models_needs_one_named() -> None:
    error = await failure(Recording("a"), model="")
    assert error.type == "backend.unknown_model"


async def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    error = await failure(Recording("a", "llama-3"), Recording("b", "qwen"), model="lama-3")
    assert error.type == "backend.unknown_model"
    assert "'lama-3'" in error.message
    assert error.details[0]["hint"] == "did you mean 'llama-3'? known models: llama-3, qwen"
    assert error.details[0]["retryable"] is False


async def test_no_backend_at_all_comes_with_the_remedy() -> None:
    error = await failure()
    assert error.type == "backend.none_configured"
    assert all(word in error.details[0]["hint"] for word in ("everstep.toml", "OPENAI_API_KEY", "everstep dev"))


async def test_an_error_reaches_temporal_typed_benign_and_never_retried_by_it() -> None:
    async with mock_activities({"status": 429, "retry_after_s": 3}) as activities:
        with pytest.raises(ApplicationError) as caught:
            await ActivityEnvironment().run(activities.chat, chat_params())
    error = caught.value
    assert (error.type, error.non_retryable) == ("backend.rate_limited", True)
    assert error.category is ApplicationErrorCategory.BENIGN
    assert error.__cause__ is None  # the history would hold its whole traceback
    body = error.details[0]
    assert (body["retryable"], body["retry_after_s"]) == (True, 3.0)
    assert "retry_after_s" not in body["details"]
    rebuilt = run_error_of(body)
    assert isinstance(rebuilt, BackendError)
    assert rebuilt.details["retry_after_s"] == 3.0


async def test_a_call_that_takes_too_long_times_out_and_may_be_repeated() -> None:
    # a call that was not stopped would succeed
    error = await failure(Recording("a", wait_s=30), timeout_s=0.05)
    assert error.type == "backend.timeout"
    assert error.details[0]["retryable"] is True
    assert "0.05 s" in error.message


async def test_a_defect_of_an_adapter_ends_the_call_as_a_bug() -> None:
    backend = Recording("a")
    backend.problem = ZeroDivisionError("oops")
    error = await failure(backend)
    assert error.type == "bug"
    assert error.non_retryable
    assert error.category is ApplicationErrorCategory.UNSPECIFIED
    assert "ZeroDivisionError" in error.message
    assert "problem" in error.details[0]["details"]["traceback"]


async def test_a_timeout_error_that_is_not_the_limit_is_not_taken_for_it() -> None:
    backend = Recording("a")
    backend.problem = TimeoutError("another one")
    assert (await failure(backend)).type == "bug"


async def test_a_cancel_ends_the_call_as_cancelled() -> None:
    environment = ActivityEnvironment()
    call = asyncio.create_task(chat(Recording("a", wait_s=30), environment=environment))
    await asyncio.sleep(0.05)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_cancellation_from_within_is_not_taken_for_a_cancel() -> None:
    backend = Recording("a")
    backend.problem = asyncio.CancelledError()
    assert (await failure(backend)).type == "bug"


async def test_a_long_call_beats_and_a_short_one_does_not() -> None:
    beats: list[None] = []
    enough = asyncio.Event()

    def beat(*details: object) -> None:
        beats.append(None)
        if len(beats) == 2:
            enough.set()

    environment = ActivityEnvironment()
    environment.on_heartbeat = beat
    await chat(Recording("a"), environment=environment)
    assert beats == []
    backend = Recording("a")
    backend.until = enough
    await chat(backend, environment=environment)
    # and nothing beats on after the end of the call
    await asyncio.sleep(HEARTBEAT_EVERY_S + 0.2)
    assert len(beats) == 2
