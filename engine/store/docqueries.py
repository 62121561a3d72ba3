"""From the options of a search to a query of documents, and from what was found to what is told of it."""

from __future__ import annotations

from dataclasses import asdict

from engine.core.contracts.lookups import SearchParams
from engine.core.errors import InputRejected
from engine.core.values import Json
from engine.store.docsearch import DocQuery, Found, ModelShare
from engine.store.vectors import from_bytes


def query_of(params: SearchParams) -> DocQuery:
    """Return a search as the store knows it; what an option leaves out or sets to null is as usual."""
    names = {"trigram_similarity_threshold": "spelling"}
    known = ("limit", "confidence", "alpha", "mmr_strength", "k_multiplier", *names)
    options = {names.get(name, name): value for name in known if (value := params.options.get(name)) is not None}
    for name in ("limit", "k_multiplier"):
        if name in options:
            options[name] = int(options[name])
    return DocQuery(
        tenant=params.context.tenant,
        owners=params.owners or [params.owner],
        text=params.text,
        metadata=params.metadata_filter,
        **options,
    )


def of_one_length(vector: list[float], shares: list[ModelShare]) -> dict[str, list[float]]:
    """Return a vector by the model whose vectors it is compared with.

    Args:
        vector: What is looked for.
        shares: Models of the documents' vectors.

    Raises:
        InputRejected: `search.dimensions` if none of them has vectors of its length.
    """
    fitting = [share.model for share in shares if share.dims == len(vector)]
    if shares and not fitting:
        known = ", ".join(f"{share.dims} ({share.model})" for share in shares)
        raise InputRejected(
            f"the vector has {len(vector)} numbers, those of the documents have {known}",
            code="search.dimensions",
            hint="make it with the model of the documents: `embed: {text: …, model: …}`",
        )
    return {fitting[0]: vector} if fitting else {}


def found_view(found: Found, *, embeddings: bool = False) -> dict[str, Json]:
    """Return what is told of a piece that was found.

    Args:
        found: The piece.
        embeddings: Whether its vector is told.

    Returns:
        {id, owner {kind, id} or null, title, metadata, snippet {index, content, embedding?}, score, similarity}.
    """
    snippet: dict[str, Json] = {"index": found.number, "content": found.content}
    if embeddings:
        snippet["embedding"] = None if found.embedding is None else from_bytes(found.embedding)
    return {
        "id": found.doc_id,
        "owner": asdict(found.owner) if found.owner.kind else None,
        "title": found.title,
        "metadata": found.metadata,
        "snippet": snippet,
        "score": found.score,
        "similarity": found.similarity,
    }
