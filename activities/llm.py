"""The chat activity: picks the backend that serves a model and asks it."""

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
from activities.effects import run_effect
from activities.telling import told
from activities.tracing import chat_span, effect_span
from engine.broker.publishing import TokenPublisher
from engine.core.contracts.activities import CHAT_ACTIVITY, ChatParams, ChatResult
from engine.core.diagnostics import did_you_mean
from engine.core.errors import BackendError
from engine.core.plan.grant import DEFAULT_MODEL, check_permitted
from engine.obs.telemetry import OFF, Telemetry
from engine.settings import BackendConfig, BackendKind, Project

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
        self, backends: Sequence[Backend], *, telemetry: Telemetry = OFF, tokens: TokenPublisher | None = None
    ) -> None:
        """Bind the activity.

        Args:
            backends: In order of preference; the first one is the default.
            telemetry: Where spans and metrics go.
            tokens: Takes what models write, as it comes; None = nobody reads it.
        """
        self._tokens = tokens
        self._telemetry = telemetry
        self._backends = tuple(backends)
        self._first_models: dict[str, str] = {}

    @activity.defn(name=CHAT_ACTIVITY)
    async def chat(self, params: ChatParams) -> ChatResult:
        """Ask a model.

        Args:
            params: The call.

        Returns:
            The reply.

        Raises:
            ApplicationError: A `backend.…` error, or `authority.denied`, with its failure body.
        """

        async def work() -> ChatResult:
            backend = self.route(params.model)
            model = params.model or await self._default_model(backend)
            _check_model(params, model)
            began = time.monotonic()
            named = dataclasses.replace(params, model=model)
            where = {"backend": backend.name, "base_url": backend.config.base_url}
            with chat_span(self._telemetry, **where, params=named) as span:
                with told(self._tokens, params.context) as tell:
                    result = await backend.chat(named, tell)
                span.done(result)
            return dataclasses.replace(
                result,
                took_s=round(time.monotonic() - began, 3),
                cost=cost_of(backend.config, model, result),
                deliveries=activity.info().attempt,
            )

        with effect_span(self._telemetry, CHAT_ACTIVITY, params.context):
            return await run_effect(work, timeout_s=params.timeout_s, on_timeout=lambda: _timed_out(params))

    def route(self, model: str) -> Backend:
        """Return the backend that names the model, else the first that takes any; the first of all for an empty name.

        Raises:
            BackendError: `backend.none_configured`, or `backend.unknown_model` with the known names.
        """
        if not self._backends:
            raise BackendError(
                "no LLM backend is configured",
                code="backend.none_configured",
                hint='add [backends.NAME] base_url = "http://…/v1" to everstep.toml, or set OPENAI_API_KEY or '
                "OPENAI_BASE_URL, or use `everstep dev`, which brings the bundled model",
            )
        if not model:
            return self._backends[0]
        for backend in self._backends:
            if model in backend.config.models or model == backend.config.default_model:
                return backend
        for backend in self._backends:
            if not backend.config.models:
                return backend
        known = sorted({name for backend in self._backends for name in backend.config.models})
        hint = " ".join(part for part in (did_you_mean(model, known), f"known models: {', '.join(known)}") if part)
        raise BackendError(f"no backend has the model '{model}'", code="backend.unknown_model", hint=hint)

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
        for backend in self._backends:
            await backend.aclose()


def cost_of(config: BackendConfig, asked: str, result: ChatResult) -> str | None:
    """Return what a reply costs in dollars as decimal text; None if its price or its tokens are not known.

    Args:
        config: The backend that answered.
        asked: Name of the model that was asked for; servers often answer with a longer one.
        result: The reply.
    """
    price = config.price_of(result.model, asked)
    if price is None or result.usage is None:
        return None
    dollars = (result.usage.prompt_tokens * price.input + result.usage.completion_tokens * price.output) / 1_000_000
    return f"{dollars.normalize():f}"


def _check_model(params: ChatParams, model: str) -> None:
    """Refuse a model beyond the bound of the call; which one the operator's default is shows only here."""
    bound = params.context.allow
    if bound is not None and not (not params.model and bound.permits("models", DEFAULT_MODEL)):
        check_permitted(bound, "models", model)


def _timed_out(params: ChatParams) -> BackendError:
    asked = f"the model '{params.model}'" if params.model else "the default model"
    return BackendError(f"{asked} did not answer within {params.timeout_s:g} s", code="backend.timeout", retryable=True)
