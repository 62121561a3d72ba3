"""Documents and vectors by Julep's SDK: kept, embedded, found by words, by meaning and by both, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from julep import BadRequestError, NotFoundError, UnprocessableEntityError

from tests.julep.sdk import Sdk, about, eventually, everything

CATS = {"title": "Cats", "content": ["Felines sleep for most of the day.", "Their young are called kittens."]}
TAXES = {"title": "Taxes", "content": "Invoices are due within thirty days."}


async def owner(julep: Sdk, kind: str) -> tuple[Sdk, str]:
    """Return the documents of a new agent or user, and its id."""
    made = await (julep.agents if kind == "agent" else julep.users).create(name="owner")
    docs: Sdk = julep.agents.docs if kind == "agent" else julep.users.docs
    return docs, made.id


async def embedded(julep: Sdk, doc_id: str) -> Any:
    """Wait until a document has vectors."""

    async def look() -> Any:
        doc = await julep.docs.get(doc_id, include_embeddings=True)
        return doc if doc.embeddings else None

    return await eventually(look)


def contents(found: Any) -> list[str]:
    """Return what a search found."""
    return [doc.snippet.content for doc in found.docs]


@about("agents.docs.create", "agents.docs.list", "users.docs.create", "users.docs.list")
@pytest.mark.parametrize("kind", ["agent", "user"])
async def test_documents_are_listed_to_the_end_for_their_owner(julep: Sdk, kind: str) -> None:
    for docs_kind in ("agent", "user"):
        docs, id_ = await owner(julep, docs_kind)
        made = [(await docs.create(id_, title=f"doc {n}", content=f"text {n}", metadata={"n": n})).id for n in range(5)]
        listed = await everything(await docs.list(id_, limit=2, direction="asc"))
        assert [doc.id for doc in listed] == made
        assert (listed[0].title, listed[0].content, listed[0].metadata) == ("doc 0", "text 0", {"n": 0})
        (found,) = await everything(await docs.list(id_, metadata_filter={"n": 3}))
        assert found.id == made[3]
    other, nobody = await owner(julep, kind)
    assert await everything(await other.list(nobody)) == []


@about("docs.get")
async def test_a_document_is_read_with_its_vectors_or_without(julep: Sdk) -> None:
    docs, id_ = await owner(julep, "agent")
    made = await docs.create(id_, **CATS, metadata={"kind": "animal"})
    with_vectors = await embedded(julep, made.id)
    assert (with_vectors.title, with_vectors.content, with_vectors.metadata) == (*CATS.values(), {"kind": "animal"})
    assert [len(vector) for vector in with_vectors.embeddings] == [384, 384]
    assert with_vectors.embedding_dimensions == 384
    assert not (await julep.docs.get(made.id, include_embeddings=False)).embeddings


@about("agents.docs.search", "users.docs.search", "docs.embed")
async def test_a_search_finds_by_words_by_meaning_and_by_both(julep: Sdk) -> None:
    for kind in ("agent", "user"):
        docs, id_ = await owner(julep, kind)
        cats, taxes = await docs.create(id_, **CATS), await docs.create(id_, **TAXES)
        by_words = await docs.search(id_, text="invoices")
        assert contents(by_words) == [TAXES["content"]]
        assert by_words.time > 0
        (hit,) = by_words.docs
        assert (hit.id, hit.title, hit.owner.id, hit.owner.role) == (taxes.id, "Taxes", id_, kind)
        await embedded(julep, cats.id)
        await embedded(julep, taxes.id)
        (vector,) = (await julep.docs.embed(text="a pet that takes naps")).vectors
        by_meaning = await docs.search(id_, vector=vector, limit=1, confidence=-1)
        assert contents(by_meaning) == [CATS["content"][0]]
        both = await docs.search(id_, text="kittens", vector=vector, alpha=0.5, limit=3, confidence=-1)
        assert both.docs[0].id == cats.id
        assert CATS["content"][1] in contents(both)


@about("agents.docs.search")
async def test_a_search_looks_only_at_documents_whose_metadata_fits(julep: Sdk) -> None:
    docs, id_ = await owner(julep, "agent")
    for n in range(3):
        await docs.create(id_, title=f"rule {n}", content=f"The same words in number {n}.", metadata={"n": n})
    found = await docs.search(id_, text="words", metadata_filter={"n": 1}, include_embeddings=False, lang="en-US")
    assert contents(found) == ["The same words in number 1."]
    assert len((await docs.search(id_, text="words", limit=2)).docs) == 2


@about("docs.embed")
async def test_texts_become_vectors_in_their_order(julep: Sdk) -> None:
    one = await julep.docs.embed(text="a")
    two: Sequence[Any] = (await julep.docs.embed(text=["b", "a"])).vectors
    assert len(two) == 2
    assert two[1] == pytest.approx(one.vectors[0], abs=1e-5)
    with pytest.raises((BadRequestError, UnprocessableEntityError)):
        await julep.docs.embed(text=["x"] * 101)


@about("agents.docs.delete", "agents.docs.bulk_delete", "users.docs.delete", "users.docs.bulk_delete")
async def test_documents_are_deleted_one_by_one_by_metadata_or_all(julep: Sdk) -> None:
    for kind in ("agent", "user"):
        docs, id_ = await owner(julep, kind)
        made = [
            (await docs.create(id_, title=f"doc {n}", content=f"text {n}", metadata={"even": n % 2 == 0})).id
            for n in range(5)
        ]
        gone = await docs.delete(made[0], **{f"{kind}_id": id_})
        assert gone.id == made[0]
        with pytest.raises(NotFoundError):
            await julep.docs.get(made[0])
        even = await docs.bulk_delete(id_, metadata_filter={"even": True})
        assert {doc.id for doc in even} == {made[2], made[4]}
        rest = await everything(await docs.list(id_))
        assert {doc.id for doc in rest} == {made[1], made[3]}
        everyone = await docs.bulk_delete(id_, delete_all=True)
        assert {doc.id for doc in everyone} == {made[1], made[3]}
        assert await everything(await docs.list(id_)) == []
