"""Turns texts into vectors: at a backend that the router picks, or with the bundled model in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from temporalio import activity

from activities.backends.minilm import BACKEND_NAME, MODEL_NAME, MiniLM, find_model, not_installed
from activities.budgets import CallSpending
from activities.candidates import ANYONE, Candidate, Fit
from activities.estimating import estimate_texts
from activities.limits import CallTurns, Waited, call_id_of
from activities.llm import ChatActivities
from engine.core.contracts.activities import CallContext, CallLimits, Usage
from engine.core.contracts.lookups import EmbedParams, LookupResult
from engine.core.errors import BackendError
from engine.core.plan.grant import DEFAULT_MODEL, check_permitted
from engine.core.run.usage import cost_to_nano
from engine.settings import BackendConfig, Price


class _EmbedFit(Fit):
    """Passes over those of several candidates that make no vectors."""

    def lacks(self, item: Candidate) -> str:
        """See `Fit`."""
        can = item.backend.config.capabilities_of(item.model).embed
        return "makes no vectors" if can is False or getattr(item.backend, "embed_texts", 1) == 0 else ""


class Embedder:
    """Turns texts into vectors with the backends of a worker.

    Args:
        chat: Knows the backends, their limits and the budgets.
    """

    def __init__(self, chat: ChatActivities) -> None:
        self._chat = chat
        self._bundled = MiniLM()

    def model_of(self, wanted: str) -> str:
        """Return the name of the model that is asked: the wanted one, else the default for embeddings.

        That is `[routing] embed`, else the first model of a backend of which is known that it embeds, else the bundled
        one.

        Raises:
            BackendError: `backend.not_installed` if there is none of them.
        """
        if wanted or self._chat.embed_model:
            return wanted or self._chat.embed_model
        for backend in self._chat.fleet.backends:
            config = backend.config
            for name in (config.default_model, *config.models, *config.capabilities):
                if name not in ("", "*") and config.capabilities_of(name).embed:
                    return name
        if find_model() is None:
            raise not_installed("no backend has a model of which is known that it embeds, and its weights are missing")
        return MODEL_NAME

    async def embed(self, params: EmbedParams) -> LookupResult:
        """Turn the texts of a running activity into vectors, within limits and budgets.

        Args:
            params: The call.

        Returns:
            {vectors} with who made them and what that cost.

        Raises:
            BackendError: `backend.…`.
            AuthorityError: `authority.denied`.
            LimitExceeded: `limit.cost` or `limit.tokens`.
            Postponed: It is to be made again later.
        """
        waited = Waited.of(activity.info().heartbeat_details)
        turns = CallTurns(self._chat.limiter, params, call_id_of(params), waited)
        spending = self._spending(params.context, params.limits, turns, call_id_of(params))
        with self._chat.fleet.lease():
            return await self._ask(params, turns, spending)

    async def embed_document(
        self, texts: Sequence[str], model: str, *, key: str, instruction: str = ""
    ) -> LookupResult:
        """Turn the pieces of a document into vectors, within the limits of the backends; nobody's execution pays.

        Args:
            texts: The pieces.
            model: The model; empty = the default.
            key: Idempotency key.
            instruction: What it is told of the texts; empty = nothing.

        Raises:
            BackendError: `backend.…`.
            Postponed: It is to be made again later.
        """
        params = EmbedParams(
            context=CallContext(tenant="", execution_id="", path="", key=key),
            texts=list(texts),
            model=model,
            instruction=instruction,
        )
        turns = CallTurns(self._chat.limiter, params, key, Waited())
        with self._chat.fleet.lease():
            return await self._ask(params, turns, CallSpending(None, (), key, "", turns.put_off))

    def _spending(
        self, context: CallContext, limits: CallLimits | None, turns: CallTurns, call_id: str
    ) -> CallSpending:
        spender, task = self._chat.spender, activity.info().workflow_type or ""
        pots = [] if spender is None else spender.pots(context, task, limits)
        return CallSpending(spender, pots, call_id, context.execution_id, turns.put_off)

    async def _ask(self, params: EmbedParams, turns: CallTurns, spending: CallSpending) -> LookupResult:
        model = self.model_of(params.model)
        texts = [f"{params.instruction}\n{text}" for text in params.texts] if params.instruction else params.texts
        ask = self._ask_bundled if model == MODEL_NAME and not self._is_named(model) else self._ask_backends
        try:
            result = await ask(params, model, texts, turns, spending)
            spending.note(cost_to_nano(result.cost), None if result.usage is None else result.usage.total_tokens)
        finally:
            await spending.settle()
        return result

    async def _ask_bundled(
        self, params: EmbedParams, model: str, texts: list[str], turns: CallTurns, spending: CallSpending
    ) -> LookupResult:
        del turns
        _check_model(params, model)
        if spending.is_bounded:
            await spending.reserve(*estimate_texts(texts, None))
        made = await self._bundled.embed(texts)
        return _result(made.vectors, model, BACKEND_NAME, made.prompt_tokens, None)

    async def _ask_backends(
        self, params: EmbedParams, model: str, texts: list[str], turns: CallTurns, spending: CallSpending
    ) -> LookupResult:
        async def choose(items: Sequence[Candidate]) -> Candidate:
            if spending.is_bounded:
                await spending.reserve(*estimate_texts(texts, _dearest(items, spending)))
            return await turns.choose(items)

        async def call(item: Candidate, failed: int) -> LookupResult:
            named = item.model or model
            _check_model(params, named)
            async with turns.held(item) as results:
                key = f"{params.context.key}/{failed}" if failed else params.context.key
                made = await item.backend.embed(named, texts, key=key)
                config = item.backend.config
                result = _result(made.vectors, made.model, item.backend.name, made.prompt_tokens, config, named)
                results.append(result)
            # what was asked for is what it is called: servers answer with longer names
            return replace(result, model=named)

        router = self._chat.fleet.router
        fit = _EmbedFit() if len(router.candidates(model)) > 1 else ANYONE
        result, route = await router.ask(model, call, choose, fit)
        told = {} if route is None else route.to_json()
        if turns.waited_s:
            told["waited_s"] = round(turns.waited_s, 3)
        return replace(result, route=told or None)

    def _is_named(self, model: str) -> bool:
        configs = [backend.config for backend in self._chat.fleet.backends]
        return any(model in config.models or model == config.default_model for config in configs)

    def close(self) -> None:
        """End the thread of the bundled model."""
        self._bundled.close()


def _dearest(items: Sequence[Candidate], spending: CallSpending) -> Price | None:
    if not spending.needs_prices:
        return None
    found: list[Price] = []
    for item in items:
        price = item.backend.config.price_of(item.model)
        if price is None:
            raise spending.unpriced(item.backend.name, item.model)
        found.append(price)
    return max(found, key=lambda price: price.input)


def _result(
    vectors: list[list[float]], model: str, backend: str, tokens: int | None, config: BackendConfig | None, *names: str
) -> LookupResult:
    usage = None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens)
    price = None if config is None else config.price_of(model, *names)
    cost = "0" if config is None else None
    if price is not None and tokens is not None:
        cost = f"{(tokens * price.input / 1_000_000).normalize():f}"
    return LookupResult(output={"vectors": vectors}, model=model, backend=backend, usage=usage, cost=cost)


def _check_model(params: EmbedParams, model: str) -> None:
    bound = params.context.allow
    if bound is not None and not bound.permits("models", params.model or DEFAULT_MODEL):
        check_permitted(bound, "models", model)


def timed_out(params: EmbedParams) -> BackendError:
    """Return the error of a call for vectors that took too long."""
    asked = f"the model '{params.model}'" if params.model else "the default model for embeddings"
    return BackendError(
        f"{asked} made no vectors within {params.timeout_s:g} s", code="backend.timeout", retryable=True
    )


def took(began: float) -> float:
    """Return the seconds since a time of the monotonic clock, as they are told."""
    return round(time.monotonic() - began, 3)
