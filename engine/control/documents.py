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
from engine.control.docviews import WholeDoc
from engine.core.contracts.activities import CallContext
from engine.core.contracts.doors import doors_queue
from engine.core.contracts.failures import run_error_of
from engine.core.contracts.lookups import EMBED_WORKFLOW, SEARCH_WORKFLOW, EmbedParams, Owner, SearchParams
from engine.core.errors import InputRejected, InvalidInput, NotFound, RunError, Unavailable
from engine.core.values import Json, canonical_json
from engine.store.agents import AgentStore
from engine.store.docqueries import found_view, of_one_length, query_of
from engine.store.docs import DocFacts, DocStore, Key
from engine.store.docsearch import DocSearch
from engine.store.users import UserStore

MOST_PIECES = 1_000
MOST_CHARS = 1_000_000
"""Of all pieces of a document."""
MOST_LISTED_CHARS = 8_000_000
"""Of the documents of one page: a longer list goes on in the next one."""
READ_AT_ONCE = 20
SEARCH_TIMEOUT_S = 30.0
NOBODY = Owner()
"""Whose documents those are that belong to no agent and no user."""
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
        instruction: str = "",
        embed: bool = True,
        actor: str = "",
        request_key: str = "",
    ) -> DocFacts:
        """Store a document; it can be found by its words at once, and by its meaning as soon as a worker embedded it.

        A document with this title and content that the owner has already stays one, and takes over what is said of it.

        Args:
            content: Its text, or its pieces in order: each is found by itself.
            tenant: Tenant id.
            owner: Whose it is.
            title: What it is called.
            metadata: What else is known of it.
            model: Model of its vectors; empty = the default.
            instruction: What that is told of the texts; empty = nothing.
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
        said = [title, pieces, dict(metadata or {}), model, asdict(owner)]
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
            digest=_hash_of(said),
            wanted=model,
            instruction=instruction,
            due_us=now if embed else None,
            content_hash=_hash_of([title, pieces]),
        )
        return await self.store.add(facts, pieces)

    async def owner(self, kind: str, reference: str, *, tenant: str) -> Owner:
        """Return an owner of documents.

        Args:
            kind: `agent` or `user`.
            reference: Its id; of an agent also its canonical name.
            tenant: Tenant id.

        Raises:
            NotFound: `agent.not_found`, `user.not_found`.
        """
        if kind == "agent":
            return Owner(kind=kind, id=(await AgentStore(self.store.database).get(reference, tenant=tenant)).id)
        return Owner(kind=kind, id=(await UserStore(self.store.database).get(reference, tenant=tenant)).id)

    async def get(self, doc_id: str, *, tenant: str, owner: Owner | None = None) -> WholeDoc:
        """Return a document with its pieces.

        Args:
            doc_id: Its id.
            tenant: Tenant id.
            owner: Whose it must be; None = anybody's.

        Raises:
            NotFound: `doc.not_found`.
        """
        facts = await self.store.get(doc_id, tenant=tenant)
        if facts is None or owner not in (None, facts.owner):
            # whose else it is, is not told
            raise _not_found(doc_id)
        return WholeDoc(facts, await self.store.pieces(doc_id, tenant=tenant))

    async def with_pieces(self, found: Sequence[DocFacts], *, tenant: str) -> list[WholeDoc]:
        """Return documents with their pieces, without those that were deleted meanwhile, until they are long."""
        whole: list[WholeDoc] = []
        chars = 0
        for first in range(0, len(found), READ_AT_ONCE):
            part = found[first : first + READ_AT_ONCE]
            pieces = await self.store.pieces_of([facts.id for facts in part], tenant=tenant)
            for facts in part:
                if chars >= MOST_LISTED_CHARS:
                    return whole
                if facts.id in pieces:
                    whole.append(WholeDoc(facts, pieces[facts.id]))
                    chars += sum(len(piece.content) for piece in pieces[facts.id])
        return whole

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

    async def remove(self, doc_id: str, *, tenant: str, owner: Owner | None = None) -> None:
        """Delete a document with all that was made of it.

        Args:
            doc_id: Its id.
            tenant: Tenant id.
            owner: Whose it must be; None = anybody's.

        Raises:
            NotFound: `doc.not_found`.
        """
        known = None if owner is None else await self.store.get(doc_id, tenant=tenant)
        if owner is not None and (known is None or known.owner != owner):
            raise _not_found(doc_id)
        if not await self.store.remove(doc_id, tenant=tenant):
            raise _not_found(doc_id)

    async def remove_where(self, owner: Owner, metadata: Mapping[str, Any], *, tenant: str) -> list[str]:
        """Delete the documents of an owner whose metadata hold something; {} = all of them. Return their ids."""
        return await self.store.remove_where(owner, metadata, tenant=tenant)

    async def search(
        self,
        *,
        tenant: str,
        owner: Owner = NOBODY,
        owners: Sequence[Owner] = (),
        text: str = "",
        meaning: str = "",
        vector: list[float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Json]]:
        """Search documents as a `search` step does.

        If words are to be found by their meaning a worker makes the search, since it knows the models.

        Args:
            tenant: Tenant id.
            owner: Whose documents.
            owners: Whose documents, if they are several; they stand in for `owner`.
            text: The words.
            meaning: What is looked for by its meaning; empty = the words.
            vector: A vector in place of the meaning.
            metadata: What the metadata of a document must hold.
            options: As `SearchParams.options`.

        Returns:
            The documents as a step gets them.

        Raises:
            InvalidInput: `search.empty` if there is nothing to look for; the code of a search that was refused.
            Unavailable: `search.no_worker` if no worker answers in time, or the code of a search that failed.
        """
        if not text.strip() and not meaning.strip() and vector is None:
            raise InvalidInput("there is nothing to look for", code="search.empty", hint="give `text` or `vector`")
        if vector is not None and not any(vector):
            raise InvalidInput("the vector has no direction: all its numbers are 0", code="search.empty")
        search_id = f"search-{uuid.uuid4()}"
        params = SearchParams(
            context=CallContext(tenant=tenant, execution_id=search_id, path="search", key=search_id),
            text=text,
            meaning=meaning,
            vector=vector,
            metadata_filter=dict(metadata or {}),
            owner=owner,
            owners=list(owners),
            options=dict(options or {}),
            timeout_s=self._timeout_s,
        )
        query = query_of(params)
        if vector is not None or query.alpha > 0:
            shares = await self._search.models(query.owners, tenant=tenant)
            if vector is None and shares:
                return list((await self._ask_worker(SEARCH_WORKFLOW, search_id, params))["output"]["docs"])
            try:
                query = replace(query, vectors={} if vector is None else of_one_length(vector, shares))
            except InputRejected as error:
                raise InvalidInput(error.message, code=error.code, hint=error.hint) from error
        whole = params.options.get("include_embeddings") is True
        return [found_view(item, embeddings=whole) for item in await self._search.search(query)]

    async def embed(
        self, texts: Sequence[str], *, tenant: str, instruction: str = "", model: str = ""
    ) -> list[list[float]]:
        """Turn texts into vectors as an `embed` step does: a worker makes them, since it knows the models.

        Args:
            texts: The texts.
            tenant: Tenant id.
            instruction: What the model is told of them; empty = nothing.
            model: The model; empty = the default for embeddings.

        Returns:
            A vector for each text.

        Raises:
            InvalidInput: `embed.empty`; the code of a call that was refused.
            Unavailable: `embed.no_worker` if no worker answers in time, or the code of a call that failed.
        """
        if not texts or not all(text.strip() for text in texts):
            raise InvalidInput("there is nothing to embed", code="embed.empty", hint="give texts that are not blank")
        embed_id = f"embed-{uuid.uuid4()}"
        params = EmbedParams(
            context=CallContext(tenant=tenant, execution_id=embed_id, path="embed", key=embed_id),
            texts=list(texts),
            instruction=instruction,
            model=model,
            timeout_s=self._timeout_s,
        )
        vectors: list[list[float]] = (await self._ask_worker(EMBED_WORKFLOW, embed_id, params))["output"]["vectors"]
        return vectors

    async def _ask_worker(self, workflow: str, run_id: str, params: SearchParams | EmbedParams) -> dict[str, Any]:
        assert self._temporal is not None
        client = await self._temporal.client()
        with self._temporal.errors():
            handle = await client.start_workflow(
                workflow,
                params,
                id=run_id,
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
                raise _nobody(workflow, self._timeout_s) from None
            except WorkflowFailureError as error:
                raise _failed(error) from error


def _nobody(workflow: str, timeout_s: float) -> Unavailable:
    if workflow == EMBED_WORKFLOW:
        return Unavailable(
            f"no worker has made vectors within {timeout_s:g} s",
            code="embed.no_worker",
            hint="see whether a worker runs",
        )
    return Unavailable(
        f"no worker has searched within {timeout_s:g} s",
        code="search.no_worker",
        hint="see whether a worker runs; with `alpha` 0 words are found without one",
    )


def _failed(error: WorkflowFailureError) -> InvalidInput | Unavailable:
    cause: BaseException | None = error
    while cause is not None and not getattr(cause, "details", None):
        cause = getattr(cause, "cause", None)
    details = getattr(cause, "details", None)
    told = run_error_of(details[0]) if details and isinstance(details[0], dict) else RunError(str(error.cause))
    kind = Unavailable if told.retryable or not told.code.startswith(("input", "search.dim")) else InvalidInput
    return kind(told.message, code=told.code, hint=told.hint)


def _hash_of(said: Json) -> str:
    return hashlib.sha256(canonical_json(said).encode("utf-8", "surrogatepass")).hexdigest()


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
