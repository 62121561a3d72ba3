"""The chat activity: asks a model at the backend that the router picks, and says what it cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

from temporalio import activity

from activities.backends.anthropic import AnthropicBackend
from activities.backends.base import Backend
from activities.backends.gemini import GeminiBackend
from activities.backends.ollama import OllamaBackend
from activities.backends.openai import OpenAIBackend
from activities.backends.transport import HttpBackend
from activities.conversations import Conversations
from activities.effects import run_effect
from activities.limits import CallTurns, Limiter, Waited, call_id_of
from activities.routing import Candidate, Router
from activities.telling import told
from activities.tracing import chat_span, effect_span
from engine.broker.publishing import TokenPublisher
from engine.core.contracts.activities import CHAT_ACTIVITY, ChatParams, ChatResult
from engine.core.errors import BackendError
from engine.core.plan.grant import DEFAULT_MODEL, check_permitted
from engine.obs.telemetry import OFF, Telemetry
from engine.settings import BackendConfig, BackendKind, Group, Project, RoutingPolicy
from engine.store.conversations import ConversationStore
from engine.store.limits import LimitStore

ADAPTERS: Mapping[BackendKind, type[HttpBackend]] = {
    "openai": OpenAIBackend,
    "anthropic": AnthropicBackend,
    "gemini": GeminiBackend,
    "ollama": OllamaBackend,
}


def build_backends(project: Project) -> tuple[Backend, ...]:
    """Return the adapters of a project's backends, in its order; the first one is the default."""
    return tuple(ADAPTERS[config.kind](name, config) for name, config in project.backends.items())


class ChatActivities:
    """The activity `llm.chat` with the backends it may use."""

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        policy: RoutingPolicy = "order",
        groups: Mapping[str, Group] | None = None,
        limiter: Limiter | None = None,
        conversations: ConversationStore | None = None,
        telemetry: Telemetry = OFF,
        tokens: TokenPublisher | None = None,
    ) -> None:
        """Bind the activity.

        Args:
            backends: In order of preference; the first one is the default.
            policy: What puts the backends that have a model in order.
            groups: Names for several models.
            limiter: Keeps the backends' limits; None = nothing is limited.
            conversations: Where workers keep conversations; None = nowhere, and calls carry them whole.
            telemetry: Where spans and metrics go.
            tokens: Takes what models write, as it comes; None = nobody reads it.
        """
        self._tokens = tokens
        self._telemetry = telemetry
        self._backends = tuple(backends)
        self._router = Router(backends, policy, groups)
        self._limiter = limiter
        self._conversations = Conversations(conversations)
        self._first_models: dict[str, str] = {}

    @classmethod
    def of(
        cls,
        project: Project,
        *,
        limits: LimitStore | None = None,
        conversations: ConversationStore | None = None,
        telemetry: Telemetry = OFF,
        tokens: TokenPublisher | None = None,
    ) -> ChatActivities:
        """Return the activity with the backends, the routing and the groups of a project; see `__init__`.

        Args:
            project: The operator's project.
            limits: Where workers share the limits of backends; None = they are not kept.
            conversations: Where they share conversations; None = calls carry them whole.
            telemetry: Where spans and metrics go.
            tokens: Takes what models write, as it comes; None = nobody reads it.
        """
        return cls(
            build_backends(project),
            policy=project.routing.policy,
            groups=project.groups,
            limiter=None if limits is None else Limiter(limits),
            conversations=conversations,
            telemetry=telemetry,
            tokens=tokens,
        )

    @activity.defn(name=CHAT_ACTIVITY)
    async def chat(self, params: ChatParams) -> ChatResult:
        """Ask a model.

        Args:
            params: The call.

        Returns:
            The reply.

        Raises:
            ApplicationError: A `backend.…` error, `authority.denied`, or `conversation.missing`, with its failure body.
        """

        async def work() -> ChatResult:
            began, info = time.monotonic(), activity.info()
            waited = Waited.of(info.heartbeat_details)
            asked = await self._conversations.whole(params)
            turns = CallTurns(self._limiter, asked, call_id_of(asked), waited)
            result, route = await self._router.ask(
                asked.model, lambda item, n: self._ask(item, asked, n, turns), turns.choose
            )
            await self._conversations.keep(params, result)
            told_route = {} if route is None else route.to_json()
            if turns.waited_s:
                told_route["waited_s"] = round(turns.waited_s, 3)
            return dataclasses.replace(
                result,
                took_s=round(time.monotonic() - began, 3),
                # those in which it was only put off are none of a lost worker's
                deliveries=info.attempt - waited.times,
                route=told_route or None,
            )

        with effect_span(self._telemetry, CHAT_ACTIVITY, params.context):
            return await run_effect(work, timeout_s=params.timeout_s, on_timeout=lambda: _timed_out(params))

    async def _ask(self, item: Candidate, params: ChatParams, failed: int, turns: CallTurns) -> ChatResult:
        backend = item.backend
        model = item.model or await self._default_model(backend)
        _check_model(params, model)
        named = dataclasses.replace(params, model=model)
        where = {"backend": backend.name, "base_url": backend.config.base_url}
        async with turns.held(item) as results:
            with chat_span(self._telemetry, **where, params=named) as span:
                with told(self._tokens, params.context, failed) as tell:
                    result = await backend.chat(named, tell)
                span.done(result)
            results.append(result)
        return dataclasses.replace(result, cost=cost_of(backend.config, model, result))

    async def _default_model(self, backend: Backend) -> str:
        config = backend.config
        if config.default_model or config.models:
            return config.default_model or config.models[0]
        if backend.name not in self._first_models:
            listed = await backend.list_models()
            if not listed:
                raise BackendError(
                    f"backend '{backend.name}' lists no model and the prompt names none",
                    code="backend.unknown_model",
                    hint=f"name a model in the prompt step, or default_model in [backends.{backend.name}]",
                )
            self._first_models[backend.name] = listed[0]
        return self._first_models[backend.name]

    async def aclose(self) -> None:
        """Close the connections of all backends."""
        if self._limiter is not None:
            await self._limiter.aclose()
        for backend in self._backends:
            await backend.aclose()


def cost_of(config: BackendConfig, asked: str, result: ChatResult) -> str | None:
    """Return what a reply costs in dollars as decimal text; None if its price or its tokens are not known.

    Args:
        config: The backend that answered.
        asked: Name of the model that was asked for; servers often answer with a longer one.
        result: The reply.
    """
    price, usage = config.price_of(result.model, asked), result.usage
    if price is None or usage is None:
        return None
    read, written = usage.cached_tokens, usage.cache_write_tokens
    millionths = (
        (usage.prompt_tokens - read - written) * price.input
        + read * (price.input if price.cached_input is None else price.cached_input)
        + written * (price.input if price.cache_write is None else price.cache_write)
        + usage.completion_tokens * price.output
    )
    return f"{(millionths / 1_000_000).normalize():f}"


def _check_model(params: ChatParams, model: str) -> None:
    """Refuse a model beyond the bound of the call; what stands behind a default or a group shows only here."""
    bound = params.context.allow
    if bound is not None and not bound.permits("models", params.model or DEFAULT_MODEL):
        check_permitted(bound, "models", model)


def _timed_out(params: ChatParams) -> BackendError:
    asked = f"the model '{params.model}'" if params.model else "the default model"
    return BackendError(f"{asked} did not answer within {params.timeout_s:g} s", code="backend.timeout", retryable=True)
