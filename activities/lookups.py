"""The activities `llm.embed` and `docs.search`, and the vectors of documents that wait for theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import structlog
from temporalio import activity

from activities.effects import Postponed, run_effect
from activities.embedding import Embedder, timed_out, took
from activities.limits import Waited
from activities.tracing import effect_span
from engine.core.contracts.activities import Usage
from engine.core.contracts.lookups import EMBED_ACTIVITY, SEARCH_ACTIVITY, EmbedParams, LookupResult, SearchParams
from engine.core.errors import EngineError, RunError, Unavailable
from engine.core.values import Json
from engine.obs.telemetry import OFF, Telemetry
from engine.store.docqueries import found_view, of_one_length, query_of
from engine.store.docs import LEASE_US, DocFacts, DocStore
from engine.store.docsearch import DocSearch, ModelShare
from engine.store.vectors import to_bytes

AT_ONCE = 20
"""Documents that are taken at one time; others leave their vectors to other workers."""

PART = 64
"""Pieces that are embedded at one time."""
PART_TIMEOUT_S = 45.0
assert PART_TIMEOUT_S * 1e6 < LEASE_US

log = structlog.get_logger(__name__)


class LookupActivities:
    """What steps look up, and what makes documents ready to be looked up.

    Args:
        embedder: Makes vectors.
        docs: The documents, or what opens them when they are first searched.
        telemetry: Where spans and metrics go.
    """

    def __init__(
        self, embedder: Embedder, docs: DocStore | Callable[[], Awaitable[DocStore]], *, telemetry: Telemetry = OFF
    ) -> None:
        self._embedder = embedder
        self._docs = docs
        self._search: DocSearch | None = None
        self._telemetry = telemetry

    async def _store(self) -> DocStore:
        if not isinstance(self._docs, DocStore):
            self._docs = await self._docs()
        return self._docs

    # --- steps -------------------------------------------------------------------------------------------------------

    @activity.defn(name=EMBED_ACTIVITY)
    async def embed(self, params: EmbedParams) -> dict[str, Any]:
        """Turn texts into vectors.

        Args:
            params: The call.

        Returns:
            A LookupResult as JSON.

        Raises:
            ApplicationError: A `backend.…` error, or `authority.denied`, with its failure body.
        """

        async def work() -> dict[str, Any]:
            began = time.monotonic()
            return _told(await self._embedder.embed(params), began)

        with effect_span(self._telemetry, EMBED_ACTIVITY, params.context):
            return await run_effect(work, timeout_s=params.timeout_s, on_timeout=lambda: timed_out(params))

    @activity.defn(name=SEARCH_ACTIVITY)
    async def search(self, params: SearchParams) -> dict[str, Any]:
        """Search documents.

        Args:
            params: What is looked for.

        Returns:
            A LookupResult as JSON.

        Raises:
            ApplicationError: A `backend.…` error of the model that gives the meaning of the words, `search.…`, or
                `authority.denied`, with its failure body.
        """

        async def work() -> dict[str, Any]:
            began = time.monotonic()
            try:
                found = await self._find(params)
            except Unavailable as error:
                raise RunError(error.message, code="search.unavailable", hint=error.hint, retryable=True) from error
            return _told(found, began)

        def late() -> RunError:
            return RunError(f"nothing was found within {params.timeout_s:g} s", code="search.timeout", retryable=True)

        with effect_span(self._telemetry, SEARCH_ACTIVITY, params.context):
            return await run_effect(work, timeout_s=params.timeout_s, on_timeout=late)

    async def find(self, params: SearchParams) -> list[Json]:
        """Search documents for a running activity of another kind.

        Args:
            params: What is looked for.

        Returns:
            The documents as a `search` step gets them.

        Raises:
            EngineError: As `search`.
        """
        docs: list[Json] = (await self._find(params)).output["docs"]
        return docs

    async def _find(self, params: SearchParams) -> LookupResult:
        if self._search is None:
            # one for all searches, since it knows the vectors of those before
            self._search = DocSearch((await self._store()).database)
        search = self._search
        query = query_of(params)
        asked = LookupResult(output={})
        if params.vector is not None or (_meant(params).strip() and query.alpha > 0):
            shares = await search.models(query.owners, tenant=query.tenant)
            if params.vector is not None:
                query = replace(query, vectors=of_one_length(params.vector, shares))
            else:
                asked = await self._meaning(params, shares)
                query = replace(query, vectors=asked.output)
        found = await search.search(query)
        whole = params.options.get("include_embeddings") is True
        return replace(asked, output={"docs": [found_view(item, embeddings=whole) for item in found]})

    async def _meaning(self, params: SearchParams, shares: list[ModelShare]) -> LookupResult:
        """Return the vector of the words for each model that made vectors of the documents; they stand in `output`."""
        made: dict[str, list[float]] = {}
        parts: list[LookupResult] = []
        for share in shares:
            if share.model in made:
                continue
            asked = EmbedParams(
                context=params.context,
                texts=[_meant(params)],
                model=share.model,
                timeout_s=params.timeout_s,
                limits=params.limits,
            )
            parts.append(await self._embedder.embed(asked))
            made[share.model] = parts[-1].output["vectors"][0]
        return replace(_sum_of(parts), output=made)

    # --- documents ---------------------------------------------------------------------------------------------------

    async def embed_due(self) -> None:
        """Make the vectors of documents that wait for them; any number of workers may do so at one time.

        Raises:
            EngineError: The store does not answer.
        """
        store = await self._store()
        if not await store.any_due(now_us=_now_us()):
            return
        for facts in await store.claim(now_us=_now_us(), limit=AT_ONCE):
            await self._embed_document(store, facts)

    async def _embed_document(self, store: DocStore, facts: DocFacts) -> None:
        pieces = await store.pieces(facts.id, tenant=facts.tenant)
        texts = [f"{facts.title}\n{piece.content}" if facts.title else piece.content for piece in pieces]
        if not texts:
            return
        vectors: list[bytes] = []
        model = ""
        try:
            for first in range(0, len(texts), PART):
                # whoever takes long goes on holding the document, unless another one was quicker
                if not await store.put_off(facts, until_us=_now_us() + LEASE_US):
                    return
                key = f"doc:{facts.tenant}:{facts.id}:{first}"
                async with asyncio.timeout(PART_TIMEOUT_S):
                    part = texts[first : first + PART]
                    told = facts.instruction
                    made = await self._embedder.embed_document(part, facts.wanted, key=key, instruction=told)
                model = made.model
                vectors += [to_bytes(vector) for vector in made.output["vectors"]]
            await store.keep_vectors(facts, model, vectors, now_us=_now_us())
        except TimeoutError:
            await store.note_trouble(facts, f"{PART_TIMEOUT_S:g} s were not enough", now_us=_now_us())
        except Postponed as later:
            await store.put_off(facts, until_us=_now_us() + round(later.wait_s * 1e6))
        except Unavailable:
            raise
        except EngineError as error:
            hint = f" ({error.hint})" if error.hint else ""
            log.warning("a document has no vectors yet", doc=facts.id, code=error.code, error=error.message)
            await store.note_trouble(facts, f"{error.code}: {error.message}{hint}", now_us=_now_us())

    def close(self) -> None:
        """Stop what computes vectors here."""
        self._embedder.close()


# --- results ---------------------------------------------------------------------------------------------------------


def _sum_of(parts: list[LookupResult]) -> LookupResult:
    """Return what several calls used; who was asked stands there as the first of them."""
    if len(parts) < 2:
        return parts[0] if parts else LookupResult(output={})
    counts = [part.usage.prompt_tokens for part in parts if part.usage is not None]
    tokens = sum(counts)
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens) if len(counts) == len(parts) else None
    costs = [Decimal(part.cost) for part in parts if part.cost is not None]
    cost = f"{sum(costs, Decimal(0)).normalize():f}" if len(costs) == len(parts) else None
    return replace(parts[0], usage=usage, cost=cost)


def _meant(params: SearchParams) -> str:
    return params.meaning or params.text


def _told(result: LookupResult, began: float) -> dict[str, Any]:
    info = activity.info()
    postponed = Waited.of(info.heartbeat_details).times
    return replace(result, took_s=took(began), deliveries=info.attempt - postponed).to_json()


def _now_us() -> int:
    return time.time_ns() // 1_000
