"""Use cases on documents: add, get, list, delete, search; a worker gives them their vectors."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from temporalio.client import WorkflowFailureError

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import now_us
from engine.core.contracts.activities import CallContext
from engine.core.contracts.doors import doors_queue
from engine.core.contracts.failures import run_error_of
from engine.core.contracts.lookups import SEARCH_WORKFLOW, Owner, SearchParams
from engine.core.errors import InputRejected, InvalidInput, NotFound, RunError, Unavailable
from engine.core.run.times import iso_time
from engine.core.values import Json, canonical_json
from engine.store.docqueries import found_view, of_one_length, query_of
from engine.store.docs import DocFacts, DocStore, Key
from engine.store.docsearch import DocSearch, from_bytes

MOST_PIECES = 1_000
MOST_CHARS = 1_000_000
"""Of all pieces of a document."""
SEARCH_TIMEOUT_S = 30.0
_NAMESPACE = uuid.UUID("0b5d2a2e-7c0c-4a58-9a3e-6a1c6f0b1e52")


class DocumentService:
    """Keeps and searches documents.

    Args:
        store: Where they are.
        temporal: The connection to Temporal, for searches by meaning; None = there are none.
        task_queue: Task queue of the executions.
        timeout_s: How long a worker has for a search.
    """

    def __init__(
        self,
        store: DocStore,
        temporal: TemporalConnection | None = None,
        *,
        task_queue: str = "",
        timeout_s: float = SEARCH_TIMEOUT_S,
    ) -> None:
        self.store = store
        self._search = DocSearch(store.database)
        self._timeout_s = timeout_s
        self._temporal = temporal
        self._queue = task_queue

    async def add(
        self,
        content: str | Sequence[str],
        *,
        tenant: str,
        owner: Owner,
        title: str = "",
        metadata: Mapping[str, Any] | None = None,
        model: str = "",
        embed: bool = True,
        actor: str = "",
        request_key: str = "",
    ) -> DocFacts:
        """Store a document; it can be found by its words at once, and by its meaning as soon as a worker embedded it.

        Args:
            content: Its text, or its pieces in order: each is found by itself.
            tenant: Tenant id.
            owner: Whose it is.
            title: What it is called.
            metadata: What else is known of it.
            model: Model of its vectors; empty = the default.
            embed: Whether it gets vectors at all.
            actor: Who adds it.
            request_key: A repetition with the same key adds nothing.

        Raises:
            InvalidInput: `doc.empty`, `doc.too_large`.
            Conflict: `doc.exists` if another document was added with the key.
        """
        pieces = [content] if isinstance(content, str) else list(content)
        _check(pieces)
        now = now_us()
        told = canonical_json([title, pieces, dict(metadata or {}), model, asdict(owner)])
        doc_id = str(uuid.uuid5(_NAMESPACE, f"{tenant}/{request_key}")) if request_key else str(uuid.uuid4())
        facts = DocFacts(
            id=doc_id,
            tenant=tenant,
            owner=owner,
            title=title,
            metadata=dict(metadata or {}),
            created_us=now,
            pieces=len(pieces),
            actor=actor,
            digest=hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest(),
            wanted=model,
            due_us=now if embed else None,
        )
        return await self.store.add(facts, pieces)

    async def get(self, doc_id: str, *, tenant: str, embeddings: bool = False) -> dict[str, Json]:
        """Return a document with its pieces.

        Raises:
            NotFound: `doc.not_found`.
        """
        facts = await self.store.get(doc_id, tenant=tenant)
        if facts is None:
            raise _not_found(doc_id)
        content: list[Json] = []
        for piece in await self.store.pieces(doc_id, tenant=tenant):
            shown: dict[str, Json] = {"index": piece.number, "content": piece.content}
            if embeddings:
                shown["embedding"] = None if piece.embedding is None else from_bytes(piece.embedding)
            content.append(shown)
        return {**doc_view(facts), "snippets": content}

    async def page(
        self,
        *,
        tenant: str,
        owner: Owner | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        after: Key | None = None,
    ) -> list[DocFacts]:
        """Return documents without their pieces, the newest first; see `DocStore.page`."""
        return await self.store.page(tenant=tenant, owner=owner, metadata=metadata, limit=limit, after=after)

    async def remove(self, doc_id: str, *, tenant: str) -> None:
        """Delete a document with all that was made of it.

        Raises:
            NotFound: `doc.not_found`.
        """
        if not await self.store.remove(doc_id, tenant=tenant):
            raise _not_found(doc_id)

    async def remove_where(self, owner: Owner, metadata: Mapping[str, Any], *, tenant: str) -> int:
        """Delete the documents of an owner whose metadata hold something; {} = all of them. Return how many."""
        return await self.store.remove_where(owner, metadata, tenant=tenant)

    async def search(
        self,
        *,
        tenant: str,
        owner: Owner,
        text: str = "",
        vector: list[float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Json]]:
        """Search documents as a `search` step does.

        If words are to be found by their meaning a worker makes the search, since it knows the models.

        Returns:
            The documents as a step gets them.

        Raises:
            InvalidInput: `search.empty` if there is nothing to look for; the code of a search that was refused.
            Unavailable: `search.no_worker` if no worker answers in time, or the code of a search that failed.
        """
        if not text.strip() and vector is None:
            raise InvalidInput("there is nothing to look for", code="search.empty", hint="give `text` or `vector`")
        if vector is not None and not any(vector):
            raise InvalidInput("the vector has no direction: all its numbers are 0", code="search.empty")
        search_id = f"search-{uuid.uuid4()}"
        params = SearchParams(
            context=CallContext(tenant=tenant, execution_id=search_id, path="search", key=search_id),
            text=text,
            vector=vector,
            metadata_filter=dict(metadata or {}),
            owner=owner,
            options=dict(options or {}),
            timeout_s=self._timeout_s,
        )
        query = query_of(params)
        if vector is not None or query.alpha > 0:
            shares = await self._search.models(query.owners, tenant=tenant)
            if vector is None and shares:
                return list((await self._run(search_id, params))["output"]["docs"])
            try:
                query = replace(query, vectors={} if vector is None else of_one_length(vector, shares))
            except InputRejected as error:
                raise InvalidInput(error.message, code=error.code, hint=error.hint) from error
        whole = params.options.get("include_embeddings") is True
        return [found_view(item, embeddings=whole) for item in await self._search.search(query)]

    async def _run(self, search_id: str, params: SearchParams) -> dict[str, Any]:
        assert self._temporal is not None
        client = await self._temporal.client()
        with self._temporal.errors():
            handle = await client.start_workflow(
                SEARCH_WORKFLOW,
                params,
                id=search_id,
                task_queue=doors_queue(self._queue),
                result_type=dict,
                rpc_timeout=RPC_TIMEOUT,
            )
            try:
                async with asyncio.timeout(self._timeout_s):
                    found: dict[str, Any] = await handle.result()
                    return found
            except TimeoutError:
                await handle.terminate("nobody waits for it any more", rpc_timeout=RPC_TIMEOUT)
                raise Unavailable(
                    f"no worker has searched within {self._timeout_s:g} s",
                    code="search.no_worker",
                    hint="see whether a worker runs; with `alpha` 0 words are found without one",
                ) from None
            except WorkflowFailureError as error:
                raise _failed(error) from error


def _failed(error: WorkflowFailureError) -> InvalidInput | Unavailable:
    cause: BaseException | None = error
    while cause is not None and not getattr(cause, "details", None):
        cause = getattr(cause, "cause", None)
    details = getattr(cause, "details", None)
    told = run_error_of(details[0]) if details and isinstance(details[0], dict) else RunError(str(error.cause))
    kind = Unavailable if told.retryable or not told.code.startswith(("input", "search.dim")) else InvalidInput
    return kind(told.message, code=told.code, hint=told.hint)


def _check(pieces: Sequence[str]) -> None:
    if not pieces or not all(piece.strip() for piece in pieces):
        raise InvalidInput("a document needs text, and each of its pieces too", code="doc.empty")
    if len(pieces) > MOST_PIECES or sum(map(len, pieces)) > MOST_CHARS:
        raise InvalidInput(
            f"a document may have {MOST_PIECES:,} pieces and {MOST_CHARS:,} characters",
            code="doc.too_large",
            hint="add it as several documents",
        )


def _not_found(doc_id: str) -> NotFound:
    return NotFound(f"there is no document '{doc_id}'", code="doc.not_found")


def doc_view(facts: DocFacts) -> dict[str, Json]:
    """Return what is told of a document.

    Returns:
        {id, owner {kind, id} or null, title, metadata, pieces, model, dims, created_at, embedded_at, trouble, actor}.
    """
    return {
        "id": facts.id,
        "owner": asdict(facts.owner) if facts.owner.kind else None,
        "title": facts.title,
        "metadata": facts.metadata,
        "pieces": facts.pieces,
        "model": facts.model or None,
        "dims": facts.dims or None,
        "created_at": iso_time(facts.created_us),
        "embedded_at": None if facts.embedded_us is None else iso_time(facts.embedded_us),
        "trouble": facts.trouble or None,
        "actor": facts.actor or None,
    }
