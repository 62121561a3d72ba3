"""The use case "a task works with documents": those of an agent, of a user or of nobody, in its own tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from engine.control.documents import DocumentService
from engine.control.docviews import doc_view, text_view, whole_view
from engine.core.contracts.activities import CallContext
from engine.core.contracts.lookups import Owner, SearchParams
from engine.core.errors import InvalidInput, ToolError
from engine.core.values import Json, compact_json

Find = Callable[[SearchParams], Awaitable[list[Json]]]
"""Searches documents as a `search` step does, within the bound of whoever asks."""

USUAL_LIMIT = 20
MOST_METADATA_CHARS = 100_000
_OPTIONS = (
    "limit",
    "confidence",
    "alpha",
    "mmr_strength",
    "k_multiplier",
    "trigram_similarity_threshold",
    "lang",
    "include_embeddings",
)


class SystemDocs:
    """Does what system tools ask for of documents.

    Args:
        documents: Use cases on documents.
        find: Searches; None = this process cannot.
    """

    def __init__(self, documents: DocumentService, find: Find | None = None) -> None:
        self._documents = documents
        self._find = find

    async def run(self, operation: str, given: dict[str, Any], context: CallContext) -> Json:
        """Do an operation.

        Args:
            operation: `[agent.|user.]doc.` and list, get, create, delete or search.
            given: Its arguments, which fit its schema.
            context: Who calls.

        Raises:
            EngineError: As the use case behind it.
        """
        place, _, what = operation.rpartition(".")
        kind = place.removesuffix("doc").removesuffix(".")
        owner = Owner(kind=kind, id=given[kind]) if kind else Owner()
        match what:
            case "list":
                return await self._list(owner, given, context)
            case "get":
                return await self._get(owner, given["id"], context)
            case "create":
                return await self._create(owner, given, context)
            case "delete":
                shown = await self._get(owner, given["id"], context)
                await self._documents.remove(shown["id"], tenant=context.tenant, owner=owner)
                return {"id": shown["id"], "title": shown["title"]}
            case _:
                return await self._search(owner, given, context)

    async def _list(self, owner: Owner, given: dict[str, Any], context: CallContext) -> Json:
        found = await self._documents.store.page(
            tenant=context.tenant,
            owner=owner,
            metadata=given.get("metadata_filter"),
            limit=given.get("limit", USUAL_LIMIT),
            offset=given.get("offset", 0),
        )
        return [text_view(doc) for doc in await self._documents.with_pieces(found, tenant=context.tenant)]

    async def _get(self, owner: Owner, doc_id: str, context: CallContext) -> Any:
        return whole_view(await self._documents.get(doc_id, tenant=context.tenant, owner=owner))

    async def _create(self, owner: Owner, given: dict[str, Any], context: CallContext) -> Json:
        metadata = given.get("metadata", {})
        if len(compact_json(metadata)) > MOST_METADATA_CHARS:
            raise InvalidInput(
                f"the metadata of a document may have {MOST_METADATA_CHARS:,} characters", code="doc.too_large"
            )
        facts = await self._documents.add(
            given["content"],
            tenant=context.tenant,
            owner=owner,
            title=given.get("title", ""),
            metadata=metadata,
            actor=f"execution {context.execution_id}",
            request_key=context.key,
        )
        return {**doc_view(facts), "content": given["content"]}

    async def _search(self, owner: Owner, given: dict[str, Any], context: CallContext) -> Json:
        if self._find is None:
            raise ToolError("documents cannot be searched here", code="tool.unknown")
        text, vector = given.get("text", ""), given.get("vector")
        if not text.strip() and vector is None:
            raise InvalidInput("there is nothing to look for", code="search.empty", hint="give `text` or `vector`")
        asked = SearchParams(
            context=context,
            text=text,
            vector=vector,
            metadata_filter=given.get("metadata_filter", {}),
            owner=owner,
            options={name: given[name] for name in _OPTIONS if name in given},
        )
        # what a `search` step gives, so that one can stand for the other
        return {"docs": await self._find(asked)}
