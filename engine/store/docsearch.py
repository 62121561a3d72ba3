"""Searches documents: by words (full text), by meaning (exact cosine), or by both, fused by their ranks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, and_, column, func, literal_column, or_, select, table

from engine.core.contracts.lookups import Owner
from engine.store.arrays import load_numpy
from engine.store.database import Database
from engine.store.docwords import Spelling, words_of
from engine.store.metadata import contains
from engine.store.schema_docs import WORDS, docs, snippets
from engine.store.vectors import Part, Place, Vectors, VectorSet, to_bytes

if TYPE_CHECKING:
    from engine.store.vectors import Floats

RANK_BASE = 60
"""Of reciprocal rank fusion: how little the first ranks differ; the usual number."""
MOST_MODELS = 3
"""Models whose vectors are looked at in one search: documents of one owner seldom have more than one."""
PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DocQuery:
    """What is looked for.

    Attributes:
        tenant: Tenant id.
        owners: Whose documents.
        text: The words; empty = none.
        vectors: The meaning, as a vector for each model; only documents of that model are compared.
        metadata: What the metadata of a document must hold.
        limit: Most documents.
        confidence: Least cosine with a vector.
        alpha: Weight of the meaning, 0 to 1, where both count.
        mmr_strength: How much variety counts, 0 to 1; 0 = not at all.
        k_multiplier: How many candidates are looked at for each document that is wanted.
        spelling: Least likeness in spelling, 0 to 1; None = words must be there as they are.
    """

    tenant: str
    owners: Sequence[Owner]
    text: str = ""
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    limit: int = 10
    confidence: float = 0.0
    alpha: float = 0.5
    mmr_strength: float = 0.0
    k_multiplier: int = 5
    spelling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A piece that was found.

    Attributes:
        doc_id: Its document.
        owner: Whose it is.
        title: What the document is called.
        metadata: What else is known of it.
        number: Number of the piece.
        content: Its text.
        embedding: Its vector, if there is one.
        model: The model that made it.
        score: How well it fits, up to 1: 1 = the first by words and by meaning.
        similarity: Cosine with the vector that was looked for; None = it was not found by meaning.
    """

    doc_id: str
    owner: Owner
    title: str
    metadata: dict[str, Any]
    number: int
    content: str
    embedding: bytes | None
    model: str
    score: float
    similarity: float | None


@dataclass(frozen=True, slots=True)
class ModelShare:
    """How many documents have vectors of a model, and of which length."""

    model: str
    dims: int
    docs: int


class DocSearch:
    """Searches documents.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._vectors = Vectors()

    async def models(self, owners: Sequence[Owner], *, tenant: str) -> list[ModelShare]:
        """Return the models of the documents' vectors, the one with the most documents first."""
        count = func.count().label("docs")
        query = (
            select(docs.c.model, docs.c.dims, count)
            .where(docs.c.tenant == tenant, docs.c.model != "", _owned(owners))
            .group_by(docs.c.model, docs.c.dims)
            .order_by(count.desc(), docs.c.model)
            .limit(MOST_MODELS)
        )
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [ModelShare(row.model, row.dims, row.docs) for row in rows]

    async def search(self, query: DocQuery) -> list[Found]:
        """Return the pieces that fit best, the best first; one piece of each document."""
        return await self._database.run(lambda connection: _Search(connection, query, self._vectors).run())


def _owned(owners: Sequence[Owner]) -> ColumnElement[bool]:
    return or_(*(and_(docs.c.owner_kind == owner.kind, docs.c.owner_id == owner.id) for owner in owners))


class _Search:
    """One search in one transaction."""

    def __init__(self, connection: Connection, query: DocQuery, vectors: Vectors) -> None:
        self._connection = connection
        self._query = query
        self._vectors = vectors
        self._mine = and_(docs.c.tenant == query.tenant, _owned(query.owners))
        self._most = query.limit * query.k_multiplier
        self._similar: dict[Place, float] = {}
        self._allowed = self._fitting()

    def run(self) -> list[Found]:
        query = self._query
        lists: list[tuple[float, list[Place]]] = []
        by_text = query.text.strip() and (query.alpha < 1 or not query.vectors)
        if by_text:
            weight = 1 - query.alpha if query.vectors else 1.0
            lists.append((weight, self._by_words()))
            if query.spelling is not None:
                lists.append((weight, self._by_spelling(query.spelling)))
        if query.vectors and (query.alpha > 0 or not by_text):
            weight = query.alpha if by_text else 1.0
            lists += [(weight, self._by_meaning(model, vector)) for model, vector in query.vectors.items()]
        scores = fuse(lists)
        found = self._whole(one_each(scores)[: self._most], scores)
        # where nothing has to give way, there is no variety to gain
        if query.mmr_strength and len(found) > query.limit:
            return varied(found, query.limit, query.mmr_strength)
        return found[: query.limit]

    def _fitting(self) -> frozenset[str] | None:
        """Return the documents whose metadata fit; None = all."""
        if not self._query.metadata:
            return None
        wanted = dict(self._query.metadata)
        rows = self._connection.execute(select(docs.c.id, docs.c.metadata).where(self._mine))
        # many documents have the same
        fits = lru_cache(maxsize=PAGE)(lambda text: contains(json.loads(text), wanted))
        return frozenset(doc_id for doc_id, text in rows if fits(text))

    def _may(self, doc_id: str) -> bool:
        return self._allowed is None or doc_id in self._allowed

    def _joined(self) -> ColumnElement[bool]:
        return and_(docs.c.tenant == snippets.c.tenant, docs.c.id == snippets.c.doc_id)

    def _first(self, rows: Iterable[Row[*tuple[Any, ...]]]) -> list[Place]:
        found: list[Place] = []
        for row in rows:
            if self._may(row.doc_id):
                found.append((row.doc_id, row.number))
                if len(found) >= self._most:
                    break
        return found

    # --- by words ----------------------------------------------------------------------------------------------------

    def _by_words(self) -> list[Place]:
        words = words_of(self._query.text)
        if not words:
            return []
        if self._connection.dialect.name == "sqlite":
            return self._by_words_in_sqlite(words)
        # just as the index has it, or it would not be used
        whole: ColumnElement[Any] = literal_column("to_tsvector('english', snippets.title || ' ' || snippets.content)")
        english: ColumnElement[Any] = literal_column("'english'")
        wanted = func.to_tsquery(english, " | ".join(f"'{word}'" for word in words))
        rank = func.ts_rank(whole, wanted, literal_column("1"))
        base = select(snippets.c.doc_id, snippets.c.number).join_from(snippets, docs, self._joined())
        ranked = base.where(self._mine, whole.op("@@")(wanted)).order_by(
            rank.desc(), snippets.c.doc_id, snippets.c.number
        )
        return self._first(self._connection.execute(ranked))

    def _by_words_in_sqlite(self, words: Sequence[str]) -> list[Place]:
        # quoted, so that no word is one of the index's own
        matched = literal_column(WORDS).op("MATCH")(" OR ".join(f'"{word}"' for word in words))
        index = table(WORDS, column("rowid"))
        ranked = select(index.c.rowid).where(matched).order_by(literal_column(f"bm25({WORDS})"), index.c.rowid)
        mine = select(snippets.c.seq, snippets.c.doc_id, snippets.c.number).join_from(snippets, docs, self._joined())
        found: list[Place] = []
        # a word may stand in every piece: to rank them is cheap, to look up whose each of them is would not be
        ranks = self._connection.execute(ranked).scalars()
        part = ranks.fetchmany(2 * self._most)
        while part and len(found) < self._most:
            rows = self._connection.execute(mine.where(self._mine, snippets.c.seq.in_(part)))
            by_seq = {row.seq: row for row in rows}
            found += self._first(by_seq[seq] for seq in part if seq in by_seq)
            part = ranks.fetchmany(PAGE)
        ranks.close()
        return found[: self._most]

    def _by_spelling(self, least: float) -> list[Place]:
        """Find pieces that have words like those of the query: by the trigrams that they share."""
        spelling = Spelling(words_of(self._query.text))
        rows = self._connection.execute(
            select(snippets.c.doc_id, snippets.c.number, snippets.c.title, snippets.c.content)
            .join_from(snippets, docs, self._joined())
            .where(self._mine)
        )
        scored: list[tuple[float, Place]] = []
        for row in rows:
            if self._may(row.doc_id):
                likeness = spelling.likeness(f"{row.title} {row.content}")
                if likeness and likeness >= least:
                    scored.append((-likeness, (row.doc_id, row.number)))
        return [place for _, place in sorted(scored)[: self._most]]

    # --- by meaning --------------------------------------------------------------------------------------------------

    def _by_meaning(self, model: str, vector: Sequence[float]) -> list[Place]:
        np = load_numpy()

        wanted = np.frombuffer(to_bytes(vector), dtype="<f4")
        near: list[tuple[float, Place]] = []
        for owner in self._query.owners:
            of_owner = VectorSet(self._query.tenant, owner, model, len(vector))
            for part in self._vectors.read(self._connection, of_owner):
                near += self._nearest(part, wanted)
        best = sorted(near)[: self._most]
        self._similar |= {place: -cosine for cosine, place in best}
        return [place for _, place in best]

    def _nearest(self, part: Part, wanted: Floats) -> list[tuple[float, Place]]:
        """Return the nearest of some pieces that may be found, the nearest first: cosines below zero, and places."""
        # rounded, so that equal pieces stay in one order whatever the arithmetic makes of them
        cosines = (part.matrix @ wanted).round(6)
        found: list[tuple[float, Place]] = []
        for index in (-cosines).argsort(kind="stable"):
            cosine = float(cosines[index])
            if cosine < self._query.confidence or len(found) >= self._most:
                break
            if self._may(part.places[index][0]):
                found.append((-cosine, part.places[index]))
        return found

    # --- what is told ------------------------------------------------------------------------------------------------

    def _whole(self, places: Sequence[Place], scores: Mapping[Place, float]) -> list[Found]:
        found: dict[Place, Found] = {}
        columns = (snippets.c.doc_id, snippets.c.number, snippets.c.content, snippets.c.embedding)
        more = (docs.c.owner_kind, docs.c.owner_id, docs.c.title, docs.c.metadata, docs.c.model)
        base = select(*columns, *more).join_from(snippets, docs, self._joined()).where(self._mine)
        wanted = set(places)
        ids = sorted({doc_id for doc_id, _ in places})
        for first in range(0, len(ids), PAGE):
            for row in self._connection.execute(base.where(docs.c.id.in_(ids[first : first + PAGE]))):
                place = (row.doc_id, row.number)
                if place in wanted:
                    found[place] = self._found(row, scores[place])
        return [found[place] for place in places if place in found]

    def _found(self, row: Row[*tuple[Any, ...]], score: float) -> Found:
        return Found(
            doc_id=row.doc_id,
            owner=Owner(kind=row.owner_kind, id=row.owner_id),
            title=row.title,
            metadata=json.loads(row.metadata),
            number=row.number,
            content=row.content,
            embedding=row.embedding,
            model=row.model,
            score=round(score, 6),
            similarity=self._similar.get((row.doc_id, row.number)),
        )


# --- ranks -----------------------------------------------------------------------------------------------------------


def fuse(lists: Sequence[tuple[float, Sequence[Place]]]) -> dict[Place, float]:
    """Return scores by reciprocal rank fusion, the best first: 1 for what is the first of all lists.

    Args:
        lists: Weight of each list, and its places, the best first.
    """
    scores: dict[Place, float] = {}
    for weight, places in lists:
        for rank, place in enumerate(places):
            scores[place] = scores.get(place, 0.0) + weight / (RANK_BASE + 1 + rank)
    most = sum(weight for weight, places in lists if places) / (RANK_BASE + 1)
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return {place: score / most if most else 0.0 for place, score in ranked}


def one_each(scores: Mapping[Place, float]) -> list[Place]:
    """Return the best piece of each document, the best first."""
    best: dict[str, Place] = {}
    for place in scores:
        best.setdefault(place[0], place)
    return list(best.values())


def varied(found: Sequence[Found], limit: int, strength: float) -> list[Found]:
    """Return the best ones of which none says much what another says: maximal marginal relevance.

    Args:
        found: Candidates, the best first.
        limit: Most of them.
        strength: How much variety counts: 0 not at all, 1 nothing else.
    """
    np = load_numpy()

    scores = np.array([item.score for item in found])
    kinds: dict[tuple[str, int], list[int]] = {}
    for index, item in enumerate(found):
        if item.embedding:
            kinds.setdefault((item.model, len(item.embedding)), []).append(index)
    comparable = [(same, _matrix_of([found[index] for index in same])) for same in kinds.values()]

    def likeness(chosen: int) -> Floats:
        # what cannot be compared is another thing, unless it is the same text
        alike: Floats = np.array([float(item.content == found[chosen].content) for item in found])
        for same, matrix in comparable:
            if chosen in same:
                alike[same] = matrix @ matrix[same.index(chosen)]
        return alike

    chosen = [0]
    nearest = likeness(0)
    while len(chosen) < min(limit, len(found)):
        worth = (1 - strength) * scores - strength * nearest
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
        nearest = np.maximum(nearest, likeness(chosen[-1]))
    return [found[index] for index in chosen]


def _matrix_of(found: Sequence[Found]) -> Floats:
    rows = b"".join(item.embedding or b"" for item in found)
    matrix: Floats = load_numpy().frombuffer(rows, dtype="<f4").reshape(len(found), -1)
    return matrix
