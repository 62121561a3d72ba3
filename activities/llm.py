"""The chat activity: asks a model at the backend that the router picks, and says what it cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

from temporalio import activity

from activities.backends.anthropic import AnthropicBackend
from activities.backends.base import Backend, ReadSecret
from activities.backends.gemini import GeminiBackend
from activities.backends.ollama import OllamaBackend
from activities.backends.openai import OpenAIBackend
from activities.backends.openai_responses import ResponsesBackend
from activities.backends.transport import HttpBackend
from activities.budgets import CallSpending, Spender
from activities.candidates import Candidate
from activities.conversations import Conversations
from activities.effects import run_effect
from activities.estimating import estimate_chat
from activities.fleet import Fleet
from activities.kept import Kept
from activities.limits import CallTurns, Limiter, Waited, call_id_of
from activities.needs import ChatFit, names_at
from activities.routing import Router
from activities.telling import told
from activities.tool_mode import Wording
from activities.tracing import chat_span, effect_span
from activities.warming import Begun, Warming, beginning_of, noticed
from engine.broker.publishing import TokenPublisher
from engine.core.contracts.activities import CHAT_ACTIVITY, ChatParams, ChatResult
from engine.core.errors import BackendError
from engine.core.plan.grant import DEFAULT_MODEL, check_permitted
from engine.core.run.usage import cost_to_nano
from engine.core.values import Json
from engine.obs.telemetry import OFF, Telemetry
from engine.settings import BackendConfig, BackendKind, Group, Price, Project, RoutingPolicy
from engine.store.conversations import ConversationStore
from engine.store.kept import KeptStore
from engine.store.limits import LimitStore
from engine.store.spending import SpendingStore

ADAPTERS: Mapping[BackendKind, type[HttpBackend]] = {
    "openai": OpenAIBackend,
    "anthropic": AnthropicBackend,
    "gemini": GeminiBackend,
    "ollama": OllamaBackend,
}


def adapter_of(config: BackendConfig) -> type[HttpBackend]:
    """Return what speaks as a backend wants to be spoken to."""
    return ResponsesBackend if config.api == "responses" else ADAPTERS[config.kind]


def build_backends(project: Project, read_secret: ReadSecret | None = None) -> tuple[Backend, ...]:
    """Return the adapters of a project's backends, in its order; the first one is the default.

    Args:
        project: The operator's project.
        read_secret: Reads a secret of the operator's tenant; None = keys are in variables only.
    """
    return tuple(adapter_of(config)(name, config, read_secret) for name, config in project.backends.items())


class ChatActivities:
    """The activity `llm.chat` with the backends it may use."""

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        policy: RoutingPolicy = "order",
        groups: Mapping[str, Group] | None = None,
        limiter: Limiter | None = None,
        spender: Spender | None = None,
        kept: KeptStore | None = None,
        conversations: ConversationStore | None = None,
        telemetry: Telemetry = OFF,
        tokens: TokenPublisher | None = None,
        read_secret: ReadSecret | None = None,
        embed_model: str = "",
    ) -> None:
        """Bind the activity.

        Args:
            backends: In order of preference; the first one is the default.
            policy: What puts the backends that have a model in order.
            groups: Names for several models.
            limiter: Keeps the backends' limits; None = nothing is limited.
            spender: Keeps budgets and the limits of executions; None = what is used is not counted.
            kept: Where workers keep replies for equal calls; None = nowhere.
            conversations: Where workers keep conversations; None = nowhere, and calls carry them whole.
            telemetry: Where spans and metrics go.
            tokens: Takes what models write, as it comes; None = nobody reads it.
            read_secret: Reads secrets that hold keys, for backends that come later.
            embed_model: The operator's default model for embeddings; empty = none is named.
        """
        self._read_secret = read_secret
        self._tokens = tokens
        self._telemetry = telemetry
        self._fleet = Fleet(backends, policy, groups)
        self._limiter = limiter
        self._spender = spender
        self._kept = Kept(kept)
        self._warming = Warming()
        self._conversations = Conversations(conversations)
        self._first_models: dict[str, str] = {}
        self.embed_model = embed_model

    @classmethod
    def of(
        cls,
        project: Project,
        *,
        limits: LimitStore | None = None,
        spending: SpendingStore | None = None,
        kept: KeptStore | None = None,
        conversations: ConversationStore | None = None,
        telemetry: Telemetry = OFF,
        tokens: TokenPublisher | None = None,
        read_secret: ReadSecret | None = None,
    ) -> ChatActivities:
        """Return the activity with the backends, the routing and the groups of a project; see `__init__`.

        Args:
            project: The operator's project.
            limits: Where workers share the limits of backends; None = they are not kept.
            spending: Where they count what is used of budgets and limits; None = nowhere.
            kept: Where they keep replies for equal calls; None = nowhere.
            conversations: Where they share conversations; None = calls carry them whole.
            telemetry: Where spans and metrics go.
            tokens: Takes what models write, as it comes; None = nobody reads it.
            read_secret: Reads secrets that hold keys; None = keys are in variables only.
        """
        return cls(
            build_backends(project, read_secret),
            policy=project.routing.policy,
            groups=project.groups,
            limiter=None if limits is None else Limiter(limits),
            spender=None if spending is None else Spender(spending, project.budgets),
            kept=kept,
            conversations=conversations,
            telemetry=telemetry,
            tokens=tokens,
            read_secret=read_secret,
            embed_model=project.routing.embed,
        )

    @property
    def _router(self) -> Router:
        return self._fleet.router

    @property
    def fleet(self) -> Fleet:
        """The backends as they are now."""
        return self._fleet

    @property
    def limiter(self) -> Limiter | None:
        """Keeps the backends' limits."""
        return self._limiter

    @property
    def spender(self) -> Spender | None:
        """Keeps budgets and the limits of executions."""
        return self._spender

    def use(self, project: Project, down: Mapping[str, str] | None = None) -> None:
        """Use the backends and groups of a project from now on; calls under way end as they began.

        Args:
            project: The operator's project.
            down: By name, why backends do not answer; they are passed over. None = what is known stays.
        """
        self._fleet.change(
            project.backends,
            lambda name, config: adapter_of(config)(name, config, self._read_secret),
            policy=project.routing.policy,
            groups=project.groups,
        )
        self._first_models.clear()
        self.embed_model = project.routing.embed
        if down is not None:
            self._router.tell(down)

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
            result = await self._kept.reply(asked, lambda: self._ways(asked), lambda: self._make(asked, turns))
            await self._conversations.keep(params, result)
            return dataclasses.replace(
                result,
                took_s=round(time.monotonic() - began, 3),
                # those in which it was only put off are none of a lost worker's
                deliveries=info.attempt - waited.times,
            )

        with self._fleet.lease(), effect_span(self._telemetry, CHAT_ACTIVITY, params.context):
            return await run_effect(work, timeout_s=params.timeout_s, on_timeout=lambda: _timed_out(params))

    async def _make(self, params: ChatParams, turns: CallTurns) -> ChatResult:
        """Make a call within limits and budgets, behind one that reads the same long text for the first time."""
        spending = self._spending(params, turns)

        async def choose(items: Sequence[Candidate]) -> Candidate:
            if spending.is_bounded:
                prices = [await self._price(item, spending) for item in items] if spending.needs_prices else []
                await spending.reserve(*estimate_chat(params, prices))
            return await turns.choose(items)

        configs = [item.backend.config for _, items in self._candidates(params) for item in items]
        async with self._warming.turn(beginning_of(params, configs)) as begun:
            try:
                result, route = await self._router.ask(
                    models_of(params),
                    lambda item, n: self._ask(item, params, n, turns, begun),
                    choose,
                    ChatFit(params),
                )
                spending.note(cost_to_nano(result.cost), None if result.usage is None else result.usage.total_tokens)
            finally:
                await spending.settle()
        told_route = {} if route is None else route.to_json()
        if turns.waited_s:
            told_route["waited_s"] = round(turns.waited_s, 3)
        return dataclasses.replace(result, route=told_route or None)

    def _spending(self, params: ChatParams, turns: CallTurns) -> CallSpending:
        task, spender = activity.info().workflow_type or "", self._spender
        pots = [] if spender is None else spender.pots(params.context, task, params.limits)
        return CallSpending(spender, pots, call_id_of(params), params.context.execution_id, turns.put_off)

    async def _price(self, item: Candidate, spending: CallSpending) -> Price:
        model = item.model or await self._default_model(item.backend)
        price = item.backend.config.price_of(model)
        if price is None:
            raise spending.unpriced(item.backend.name, model)
        return price

    def _candidates(self, params: ChatParams) -> list[tuple[str, list[Candidate]]]:
        """Return who may answer, by name of the model; a name that nobody has is refused by the router, not here."""
        try:
            return self._router.of_each(models_of(params), ChatFit(params))
        except BackendError:
            return []

    def _ways(self, params: ChatParams) -> Json:
        """Return what of the configuration says who answers."""
        return [
            [name, [[item.backend.name, item.backend.config.base_url, *names_at(item)] for item in items]]
            for name, items in self._candidates(params)
        ]

    async def _ask(
        self, item: Candidate, params: ChatParams, failed: int, turns: CallTurns, begun: Begun
    ) -> ChatResult:
        backend = item.backend
        model = item.model or await self._default_model(backend)
        _check_model(params, model)
        named = dataclasses.replace(params, model=model)
        where = {"backend": backend.name, "base_url": backend.config.base_url}
        async with turns.held(item) as results:
            with chat_span(self._telemetry, **where, params=named) as span:
                with told(self._tokens, params.context, failed) as tell:
                    wording = Wording(named, backend.config.capabilities_of(model))
                    result = wording.read(await backend.chat(wording.sent, noticed(wording.tell(tell), begun)))
                begun()
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
        if self._spender is not None:
            await self._spender.aclose()
        await self._fleet.aclose()


def models_of(params: ChatParams) -> list[str]:
    """Return the names of models and groups that may answer a call, in order of preference."""
    return [params.model, *(params.wants.models if params.wants is not None else ())]


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
