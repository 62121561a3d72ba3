"""Documents in the store: found by words, by meaning and by both, on both databases, and by their tenant alone."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from engine.core.contracts.lookups import Owner
from engine.core.errors import Conflict
from engine.store.database import open_database
from engine.store.docs import FIRST_PAUSE_US, LEASE_US, DocFacts, DocStore
from engine.store.docsearch import DocQuery, DocSearch, Found, fuse
from engine.store.vectors import Place, Vectors, VectorSet, from_bytes, to_bytes
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000
ANA = Owner(kind="agent", id="ana")
BOB = Owner(kind="user", id="bob")

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DocStore]:
    database = await open_database(store_url(tmp_path / "docs.db"))
    try:
        yield DocStore(database)
    finally:
        await database.close()


def facts(name: str, *, owner: Owner = ANA, tenant: str = "t", **changes: Any) -> DocFacts:
    given = {"title": "", "created_us": T0, "pieces": 1, "due_us": T0, "digest": name, **changes}
    return DocFacts(id=name, tenant=tenant, owner=owner, **given)


def around(degrees: float) -> list[float]:
    """Return a direction in a plane; the cosine of two of them is that of the angle between them."""
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0]


async def put(
    store: DocStore, name: str, *contents: str, at: list[float] | None = None, model: str = "m", **changes: Any
) -> DocFacts:
    """Add a document; with a direction it has vectors."""
    added = await store.add(facts(name, pieces=len(contents), **changes), contents)
    if at is not None:
        assert await store.keep_vectors(added, model, [to_bytes(around(angle)) for angle in at], now_us=T0 + 1)
    return added


async def find(store: DocStore, words: str = "", **query: Any) -> list[Found]:
    query = {"tenant": "t", "owners": [ANA], **query}
    return await DocSearch(store.database).search(DocQuery(text=words, **query))


def ids(found: list[Found]) -> list[str]:
    return [item.doc_id for item in found]


# --- by words --------------------------------------------------------------------------------------------------------


async def test_words_are_found_in_title_and_pieces_in_any_of_their_forms(store: DocStore) -> None:
    await put(store, "a", "The cats were sleeping.", "Dogs bark at night.")
    await put(store, "b", "Nothing of the kind.", title="About a cat")
    await put(store, "c", "Ships sail.")
    assert set(ids(await find(store, "cat"))) == {"a", "b"}
    [dogs] = await find(store, "barking dog")
    assert (dogs.doc_id, dogs.number, dogs.content, dogs.score) == ("a", 1, "Dogs bark at night.", 1.0)
    assert await find(store, "airplane") == []


async def test_a_document_with_more_of_the_words_comes_first_and_each_comes_once(store: DocStore) -> None:
    await put(store, "one", "red apples", "red pears", "red plums")
    await put(store, "both", "red green apples")
    found = await find(store, "green apples")
    assert ids(found) == ["both", "one"]
    assert found[0].score > found[1].score


async def test_words_that_say_nothing_count_only_where_there_are_no_others(store: DocStore) -> None:
    await put(store, "a", "It is in the house and on the roof")
    await put(store, "b", "Roofs")
    assert ids(await find(store, "is it a tree")) == []
    assert set(ids(await find(store, "what is on the roof"))) == {"a", "b"}


@pytest.mark.parametrize("words", ['"', "a' OR 1=1 --", "NEAR(", "cat AND NOT", "* : -", "''", "&|!", "title:cat"])
async def test_signs_in_a_query_are_no_commands_of_the_index(store: DocStore, words: str) -> None:
    await put(store, "a", "a cat")
    assert set(ids(await find(store, words))) <= {"a"}


async def test_words_that_are_misspelled_are_found_by_their_spelling_on_request(store: DocStore) -> None:
    await put(store, "a", "Photosynthesis in plants")
    await put(store, "b", "Trains and timetables")
    assert await find(store, "fotosynthesis") == []
    assert ids(await find(store, "fotosynthesis", spelling=0.5)) == ["a"]


# --- by meaning ------------------------------------------------------------------------------------------------------


async def test_meaning_is_the_cosine_of_vectors_and_too_far_ones_are_left_out(store: DocStore) -> None:
    for name, angle in (("near", 10), ("far", 60), ("across", 120)):
        await put(store, name, name, at=[angle])
    found = await find(store, vectors={"m": around(0)})
    assert ids(found) == ["near", "far"]
    cosines = [item.similarity for item in found]
    assert cosines == pytest.approx([math.cos(math.radians(10)), 0.5], abs=1e-5)
    assert ids(await find(store, vectors={"m": around(0)}, confidence=0.6)) == ["near"]
    assert ids(await find(store, vectors={"m": around(0)}, confidence=-1)) == ["near", "far", "across"]


async def test_vectors_of_another_model_or_length_are_not_compared(store: DocStore) -> None:
    await put(store, "mine", "x", at=[0])
    await put(store, "other", "y", at=[0], model="n")
    assert ids(await find(store, vectors={"m": around(0)})) == ["mine"]
    assert await find(store, vectors={"m": [1.0, 0.0]}) == []
    assert ids(await find(store, vectors={"m": around(0), "n": around(0)})) == ["mine", "other"]
    shares = await DocSearch(store.database).models([ANA], tenant="t")
    assert [(share.model, share.dims, share.docs) for share in shares] == [("m", 3, 1), ("n", 3, 1)]


async def test_alpha_weighs_meaning_against_words(store: DocStore) -> None:
    await put(store, "words", "green apples", at=[100])
    await put(store, "meaning", "something else", at=[0])
    order = {}
    for alpha in (0, 0.2, 0.8, 1):
        order[alpha] = ids(await find(store, "green apples", vectors={"m": around(0)}, alpha=alpha))
    assert order == {0: ["words"], 0.2: ["words", "meaning"], 0.8: ["meaning", "words"], 1: ["meaning"]}
    both = await find(store, "green apples", vectors={"m": around(100)})
    assert (both[0].doc_id, both[0].score) == ("words", 1.0)


async def test_variety_prefers_what_says_something_else(store: DocStore) -> None:
    for name, angle in (("a", 0), ("like-a", 1), ("other", 50)):
        await put(store, name, name, at=[angle])
    assert ids(await find(store, vectors={"m": around(0)}, limit=2)) == ["a", "like-a"]
    assert ids(await find(store, vectors={"m": around(0)}, limit=2, mmr_strength=0.7)) == ["a", "other"]


def test_ranks_are_fused_by_their_reciprocals() -> None:
    a, b, c = ("a", 0), ("b", 0), ("c", 0)
    scores = fuse([(0.5, [a, b]), (0.5, [b, c])])
    assert list(scores) == [b, a, c]
    assert scores[b] == pytest.approx((0.5 / 62 + 0.5 / 61) * 61)
    assert fuse([(1.0, []), (1.0, [a])]) == {a: 1.0}


def test_a_vector_is_kept_with_length_one() -> None:
    assert from_bytes(to_bytes([3.0, 4.0])) == pytest.approx([0.6, 0.8])
    assert from_bytes(to_bytes([0.0, 0.0])) == [0.0, 0.0]


# --- whose -----------------------------------------------------------------------------------------------------------


async def test_only_documents_of_the_tenant_and_the_owners_are_found(store: DocStore) -> None:
    await put(store, "mine", "cat", at=[0])
    await put(store, "bobs", "cat", at=[0], owner=BOB)
    await put(store, "all", "cat", at=[0], owner=Owner())
    await put(store, "mine", "cat", at=[0], tenant="other")
    for query in ({"words": "cat"}, {"vectors": {"m": around(0)}}, {"words": "kat", "spelling": 0.1}):
        words = str(query.pop("words", ""))
        assert ids(await find(store, words, **query)) == ["mine"]
        assert set(ids(await find(store, words, owners=[ANA, BOB], **query))) == {"mine", "bobs"}
        assert ids(await find(store, words, owners=[Owner()], **query)) == ["all"]
        assert await find(store, words, tenant="third", **query) == []


async def test_metadata_decide_what_is_found_before_ranks_do(store: DocStore) -> None:
    for number in range(12):
        meta = {"lang": "de" if number == 11 else "en", "more": {"n": number}}
        await put(store, f"d{number}", "cat " * (12 - number), at=[number], metadata=meta)
    assert ids(await find(store, "cat", metadata={"lang": "de"}, limit=1, k_multiplier=1)) == ["d11"]
    found = await find(store, vectors={"m": around(0)}, metadata={"more": {"n": 3}}, limit=1, k_multiplier=1)
    assert ids(found) == ["d3"]
    assert await find(store, "cat", metadata={"lang": "fr"}) == []


# --- adding, listing, deleting ---------------------------------------------------------------------------------------


async def test_the_same_document_twice_is_one_and_another_under_its_id_is_refused(store: DocStore) -> None:
    first = await put(store, "a", "cat")
    assert await put(store, "a", "cat") == first
    with pytest.raises(Conflict) as caught:
        await put(store, "a", "dog", digest="else")
    assert caught.value.code == "doc.exists"
    assert [piece.content for piece in await store.pieces("a", tenant="t")] == ["cat"]


async def test_documents_are_listed_newest_first_in_pages(store: DocStore) -> None:
    for number in range(5):
        await put(store, f"d{number}", "x", created_us=T0 + number // 2, metadata={"n": number})
    await put(store, "bobs", "x", owner=BOB)
    whole = await store.page(tenant="t", owner=ANA)
    assert [item.id for item in whole] == ["d4", "d3", "d2", "d1", "d0"]
    last = whole[1]
    rest = await store.page(tenant="t", owner=ANA, limit=2, after=(last.created_us, last.id))
    assert [item.id for item in rest] == ["d2", "d1"]
    assert [item.id for item in await store.page(tenant="t", metadata={"n": 2})] == ["d2"]
    assert len(await store.page(tenant="t")) == 6
    assert await store.page(tenant="other") == []


async def test_what_is_deleted_is_found_by_nothing_any_more(store: DocStore) -> None:
    await put(store, "a", "zebra crossing", at=[0])
    await put(store, "b", "zebra stripes", at=[0], metadata={"k": 1})
    await put(store, "c", "zebra", at=[0], owner=BOB, metadata={"k": 1})
    assert not await store.remove("a", tenant="other")
    assert await store.remove("a", tenant="t")
    assert not await store.remove("a", tenant="t")
    assert ids(await find(store, "zebra")) == ["b"]
    assert await store.remove_where(ANA, {"k": 1}, tenant="t") == ["b"]
    assert await find(store, "zebra") == await find(store, vectors={"m": around(0)}) == []
    assert ids(await find(store, "zebra", owners=[BOB])) == ["c"]


async def test_no_word_of_a_deleted_document_stays_in_the_file(store: DocStore, tmp_path: Path) -> None:
    if not store.database.is_sqlite:
        pytest.skip("a file of SQLite")
    await put(store, "a", "the quokkasecret word")
    await put(store, "b", "another")
    await store.remove("a", tenant="t")
    async with store.database.engine.connect() as connection:
        await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    assert b"quokkasecret" not in (tmp_path / "docs.db").read_bytes()


# --- vectors that are still to be made -------------------------------------------------------------------------------


async def test_a_document_is_embedded_by_one_worker_and_by_another_one_when_that_is_lost(store: DocStore) -> None:
    await put(store, "a", "x")
    await put(store, "later", "x", due_us=T0 + 10 * LEASE_US)
    await put(store, "never", "x", due_us=None)
    assert not await store.any_due(now_us=T0 - 1)
    assert await store.any_due(now_us=T0)
    [claimed] = await store.claim(now_us=T0, limit=10)
    assert claimed.id == "a"
    assert await store.claim(now_us=T0 + 1, limit=10) == []
    [again] = await store.claim(now_us=T0 + LEASE_US, limit=10)
    assert await store.keep_vectors(again, "m", [to_bytes([1.0, 0.0])], now_us=T0 + 5)
    known = await store.get("a", tenant="t")
    assert known is not None
    assert (known.model, known.dims, known.embedded_us, known.due_us) == ("m", 2, T0 + 5, None)
    # what the lost one says late changes nothing, and it learns that there is nothing more to do
    assert not await store.put_off(claimed, until_us=T0 + LEASE_US)
    await store.note_trouble(claimed, "late", now_us=T0 + 6)
    assert await store.get("a", tenant="t") == known
    assert not await store.any_due(now_us=T0 + LEASE_US)


async def test_whoever_goes_on_holds_a_document_longer(store: DocStore) -> None:
    await put(store, "a", "x")
    [claimed] = await store.claim(now_us=T0, limit=10)
    assert await store.put_off(claimed, until_us=T0 + 2 * LEASE_US)
    assert await store.claim(now_us=T0 + LEASE_US, limit=10) == []
    assert [item.id for item in await store.claim(now_us=T0 + 2 * LEASE_US, limit=10)] == ["a"]


async def test_a_document_that_cannot_be_embedded_is_tried_again_ever_later_and_says_why(store: DocStore) -> None:
    added = await put(store, "a", "x")
    await store.note_trouble(added, "the backend is away", now_us=T0)
    await store.note_trouble(replace(added, tries=1), "the backend is away", now_us=T0)
    known = await store.get("a", tenant="t")
    assert known is not None
    assert (known.tries, known.trouble, known.due_us) == (2, "the backend is away", T0 + 2 * FIRST_PAUSE_US)
    assert ids(await find(store, "x")) == ["a"]


async def test_vectors_of_a_document_that_was_deleted_meanwhile_are_dropped(store: DocStore) -> None:
    added = await put(store, "a", "x")
    await store.remove("a", tenant="t")
    assert not await store.keep_vectors(added, "m", [to_bytes([1.0])], now_us=T0)
    assert await store.pieces("a", tenant="t") == []


# --- doubles ---------------------------------------------------------------------------------------------------------


async def test_what_an_owner_has_already_is_not_stored_twice_and_takes_over_what_is_said_of_it(store: DocStore) -> None:
    first = await put(store, "a", "cat", at=[0], content_hash="h", metadata={"v": 1})
    again = await put(store, "b", "cat", content_hash="h", due_us=T0 + 5)
    assert (again.id, again.metadata, again.due_us) == (first.id, {"v": 1}, None)
    said = await put(store, "c", "cat", content_hash="h", metadata={"v": 2})
    assert (said.id, said.metadata) == (first.id, {"v": 2})
    assert await store.get("a", tenant="t") == said
    assert len(await store.page(tenant="t")) == 1
    # others may have the same, and what has no hash is compared with nothing
    for other in ({"owner": BOB}, {"tenant": "u"}):
        assert (await put(store, "d", "cat", content_hash="h", **other)).id == "d"
    assert (await put(store, "e", "cat")).id == "e"


async def test_vectors_are_made_anew_when_the_model_is_told_something_else_and_those_under_way_are_dropped(
    store: DocStore,
) -> None:
    await put(store, "a", "cat", at=[0], content_hash="h")
    changed = await put(store, "b", "cat", content_hash="h", instruction="for a search", due_us=T0 + 5)
    assert (changed.id, changed.instruction, changed.due_us) == ("a", "for a search", T0 + 5)
    [claimed] = await store.claim(now_us=T0 + 5, limit=1)
    assert claimed.instruction == "for a search"
    await put(store, "c", "cat", content_hash="h", instruction="for another", due_us=T0 + 6)
    assert not await store.keep_vectors(claimed, "m", [to_bytes([1.0, 0.0])], now_us=T0 + 7)
    [newer] = await store.claim(now_us=T0 + 8, limit=1)
    assert await store.keep_vectors(newer, "m", [to_bytes([0.0, 1.0])], now_us=T0 + 9)
    [piece] = await store.pieces("a", tenant="t")
    assert from_bytes(piece.embedding or b"") == [0.0, 1.0]


async def test_documents_of_an_owner_that_is_gone_go_with_it(store: DocStore) -> None:
    for name, owner, tenant in (("a", ANA, "t"), ("b", BOB, "t"), ("c", Owner(), "t"), ("d", ANA, "u")):
        await put(store, name, "zebra", owner=owner, tenant=tenant)
    await store.remove_of_owner(ANA, tenant="t")
    assert {item.id for item in await store.page(tenant="t")} == {"b", "c"}
    assert len(await store.page(tenant="u")) == 1
    assert await find(store, "zebra") == []


async def test_a_list_begins_at_either_end_and_has_the_pieces_of_its_documents(store: DocStore) -> None:
    for number in range(3):
        await put(store, f"d{number}", f"one {number}", f"two {number}", created_us=T0 + number)
    oldest = await store.page(tenant="t", owner=ANA, limit=2, offset=1, descending=False)
    assert [item.id for item in oldest] == ["d1", "d2"]
    pieces = await store.pieces_of(["d2", "d0", "gone"], tenant="t")
    assert {name: [piece.content for piece in found] for name, found in pieces.items()} == {
        "d0": ["one 0", "two 0"],
        "d2": ["one 2", "two 2"],
    }


# --- vectors in memory -----------------------------------------------------------------------------------------------


async def test_a_search_knows_vectors_of_the_one_before_until_any_of_them_changes(store: DocStore) -> None:
    search = DocSearch(store.database)

    async def nearest(**query: Any) -> list[str]:
        found = await search.search(DocQuery(tenant="t", owners=[ANA], vectors={"m": around(0)}, **query))
        return ids(found)

    first = await put(store, "a", "a", at=[20])
    assert await nearest() == await nearest() == ["a"]
    await put(store, "b", "b", at=[10])
    assert await nearest() == ["b", "a"]
    assert await nearest(metadata={"no": "such"}) == []
    await store.keep_vectors(first, "m", [to_bytes(around(0))], now_us=T0 + 9)
    assert await nearest() == ["a", "b"]
    # one goes and one comes at the same time as the other did: as many as before
    await store.remove("a", tenant="t")
    await put(store, "c", "c", at=[5])
    assert await nearest() == ["c", "b"]
    await store.remove_of_owner(ANA, tenant="t")
    assert await nearest() == []


async def test_however_many_vectors_there_are_their_times_fit_into_numbers(store: DocStore) -> None:
    for number in range(3):
        added = await put(store, f"d{number}", "x")
        assert await store.keep_vectors(added, "m", [to_bytes(around(number))], now_us=2**62)
    assert len(await find(store, vectors={"m": around(0)})) == 3


async def test_vectors_that_do_not_fit_into_memory_are_read_each_time(store: DocStore) -> None:
    for owner in (ANA, BOB):
        await put(store, f"{owner.id}1", "x", "y", at=[0, 30], owner=owner)
    sets = [VectorSet("t", owner, "m", 3) for owner in (ANA, BOB)]
    size = 2 * 3 * 4
    for most, held in ((0, 0), (size, 1), (2 * size, 2)):
        vectors = Vectors(most)

        def read(connection: Connection, kept: Vectors = vectors) -> list[list[Place]]:
            return [[place for part in kept.read(connection, wanted) for place in part.places] for wanted in sets]

        for _ in range(2):
            assert await store.database.run(read) == [[("ana1", 0), ("ana1", 1)], [("bob1", 0), ("bob1", 1)]]
        assert vectors.held == held
