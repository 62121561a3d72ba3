"""Looks documents up for a turn of a session: of whom, by which words, and what the client is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import structlog

from engine.control.documents import DocumentService
from engine.control.docviews import reference_view
from engine.core.contracts.lookups import Owner
from engine.core.errors import InvalidInput, Unavailable

SEARCHED_ROLES: Final = ("user", "assistant")
"""Whose messages say what is looked for."""

Mode = Literal["text", "vector", "hybrid"]

log = structlog.get_logger("everstep.sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallOptions:
    """How documents are looked up in a session.

    Attributes:
        mode: `text` = by words, `vector` = by meaning, `hybrid` = by both.
        limit: Most documents.
        confidence: Least likeness in meaning.
        alpha: Weight of the meaning where both count.
        mmr_strength: How much variety counts.
        k_multiplier: How many more candidates than documents are looked at.
        trigram_similarity_threshold: Least likeness in spelling; None = words must be there as they are.
        num_search_messages: How many of the last messages say what is looked for.
        max_query_length: Most characters of it.
        lang: Language of the words.
        metadata_filter: What the metadata of a document must hold.
        include_embeddings: Whether the client is told the vectors.
    """

    mode: Mode = "vector"
    limit: int = 10
    confidence: float = 0.5
    alpha: float = 0.5
    mmr_strength: float = 0.5
    k_multiplier: int = 7
    trigram_similarity_threshold: float | None = None
    num_search_messages: int = 4
    max_query_length: int = 1_000
    lang: str = "en-US"
    metadata_filter: dict[str, Any] = field(default_factory=dict)
    include_embeddings: bool = True

    @staticmethod
    def of(given: Mapping[str, Any]) -> RecallOptions:
        """Read what a session keeps; what is left out or null is as usual."""
        known = [item.name for item in fields(RecallOptions)]
        return RecallOptions(**{name: given[name] for name in known if given.get(name) is not None})

    @property
    def search_options(self) -> dict[str, Any]:
        """The options of the search."""
        by_text = self.mode == "text"
        return {
            "limit": self.limit,
            "lang": self.lang,
            "confidence": self.confidence,
            "alpha": {"text": 0.0, "vector": 1.0, "hybrid": self.alpha}[self.mode],
            "mmr_strength": 0.0 if by_text else self.mmr_strength,
            "k_multiplier": self.k_multiplier,
            "trigram_similarity_threshold": self.trigram_similarity_threshold,
            "include_embeddings": self.include_embeddings,
        }


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: by its words, and by its meaning."""

    text: str
    meaning: str


def query_of(messages: Sequence[Mapping[str, Any]], options: RecallOptions) -> Query | None:
    """Return what the last messages of a session look for.

    Args:
        messages: The history and what is said now, in order.
        options: How many messages count, and how long the query may be.

    Returns:
        The words of the last of those messages, and the meaning of all of them; None if they have no text.
    """
    last = messages[-options.num_search_messages :]
    texts = [text for item in last if item["role"] in SEARCHED_ROLES and (text := text_of(item.get("content")).strip())]
    if not texts:
        return None
    most = options.max_query_length
    # of what is said, the latest counts most
    return Query(texts[-1][:most], "\n\n".join(texts)[-most:])


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of texts and parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, (str, dict))]
    return "\n".join(part for part in parts if isinstance(part, str))


async def recall(
    documents: DocumentService,
    given: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    owners: Sequence[Owner],
    *,
    tenant: str,
) -> list[dict[str, Any]]:
    """Look documents up for a turn.

    What cannot be found by its meaning, since no worker or no model answers, is looked for by its words alone: an
    answer from fewer documents is worth more than none.

    Args:
        documents: Looks them up.
        given: Recall options of the session.
        messages: The history and what is said now, in order.
        owners: Whose documents.
        tenant: Tenant id.

    Returns:
        The documents as a client is told of them, the best first.

    Raises:
        Unavailable: The store does not answer.
    """
    options = RecallOptions.of(given)
    query = query_of(messages, options)
    if query is None:
        return []

    async def search(**more: Any) -> list[dict[str, Any]]:
        found = await documents.search(
            tenant=tenant,
            owners=owners,
            text=query.text,
            meaning=query.meaning,
            metadata=options.metadata_filter,
            options={**options.search_options, **more},
        )
        return [reference_view(item) for item in found]

    try:
        return await search()
    except (InvalidInput, Unavailable) as error:
        if options.mode == "text":
            raise
        log.warning("documents are found by their words alone", code=error.code, error=error.message)
        return await search(alpha=0.0, mmr_strength=0.0)
