"""What is told of documents: to our own clients, and in the members that Julep's clients read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from engine.core.run.times import iso_time
from engine.core.values import Json
from engine.store.docs import DocFacts, Piece
from engine.store.vectors import from_bytes

LANGUAGE: Final = "english"
"""Whose words are found in all their forms, whatever a document is written in."""
MODALITY: Final = "text"


@dataclass(frozen=True, slots=True)
class WholeDoc:
    """A document with its pieces, in order."""

    facts: DocFacts
    pieces: Sequence[Piece]


def doc_view(facts: DocFacts) -> dict[str, Json]:
    """Return what is told of a document without its texts.

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


def text_view(doc: WholeDoc) -> dict[str, Json]:
    """Return what is told of a document with its texts as `content`: one text, or a list if there are several."""
    return {**doc_view(doc.facts), "content": _one_or_all([piece.content for piece in doc.pieces])}


def whole_view(doc: WholeDoc, *, embeddings: bool = False) -> dict[str, Json]:
    """Return all that is told of a document, in our members and in those of Julep.

    Args:
        doc: The document.
        embeddings: Whether its vectors are told.

    Returns:
        {…, snippets [{index, content, embedding?}], content, embeddings, embedding_model, embedding_dimensions,
        language, modality}; `content` is a text if there is one piece, else a list, and so are `embeddings`.
    """
    told = text_view(doc)
    # the pieces are read after the facts: vectors that came in between have no model yet
    is_embedded = doc.facts.embedded_us is not None
    vectors: list[Json] = [
        from_bytes(piece.embedding) if is_embedded and piece.embedding is not None else None for piece in doc.pieces
    ]
    snippets: list[Json] = []
    for piece, vector in zip(doc.pieces, vectors, strict=True):
        vector_told: dict[str, Json] = {"embedding": vector} if embeddings else {}
        snippets.append({"index": piece.number, "content": piece.content, **vector_told})
    is_told = embeddings and None not in vectors
    return {
        **told,
        "snippets": snippets,
        "embeddings": _one_or_all(vectors) if is_told else None,
        "embedding_model": told["model"],
        "embedding_dimensions": told["dims"],
        "language": LANGUAGE,
        "modality": MODALITY,
    }


def _one_or_all(items: Sequence[Json]) -> Json:
    return items[0] if len(items) == 1 else list(items)


def reference_view(found: dict[str, Any]) -> dict[str, Json]:
    """Return a document that was found as Julep's SDK reads it.

    Args:
        found: The document as a `search` step gets it.

    Returns:
        {id, owner {id, role}, title, metadata, snippet {index, content, embedding?}, distance, score, similarity}.
    """
    similarity = found["similarity"]
    owner = found["owner"]
    return {
        **found,
        "owner": None if owner is None else {"id": owner["id"], "role": owner["kind"]},
        "distance": None if similarity is None else round(1 - similarity, 6),
    }


def old_reference_view(found: dict[str, Any]) -> dict[str, Json]:
    """Return a document that was found as the Julep client of 2024 reads it.

    Args:
        found: As `reference_view` returns it.

    Returns:
        {owner {id, role}, id, snippet_index, title, snippet}: the snippet as a text.
    """
    told: dict[str, Json] = {name: found[name] for name in ("owner", "id", "title")}
    snippet = found["snippet"]
    return {**told, "snippet_index": [snippet["index"]], "snippet": snippet["content"]}
