"""Vectors of documents by owner and model: as they are kept, and read into memory once for as long as none changes."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from engine.core.contracts.lookups import Owner
from engine.store.arrays import load_numpy
from engine.store.schema_docs import docs, snippets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MOST_BYTES = 256 * 2**20
"""Of the vectors that are held in memory; those that were not asked for the longest go first."""
PAGE = 2_000
MOMENTS = 10**12
"""Microseconds of eleven days, after which times of vectors are counted from the beginning again."""

Place = tuple[str, int]
"""Id of a document and number of a piece."""
Stamp = tuple[int, ...]
"""What differs as soon as a vector is added, made anew or deleted."""

_IS_BIG = array("H", [1]).tobytes()[0] == 0


def to_bytes(vector: Sequence[float]) -> bytes:
    """Return a vector as it is kept: made of length one, four bytes a number, the lowest byte first."""
    length = sum(value * value for value in vector) ** 0.5
    numbers = array("f", (value / length if length else 0.0 for value in vector))
    if _IS_BIG:
        numbers.byteswap()
    return numbers.tobytes()


def from_bytes(kept: bytes) -> list[float]:
    """Return a kept vector as numbers, without the digits that they do not have."""
    numbers = array("f")
    numbers.frombytes(kept)
    if _IS_BIG:
        numbers.byteswap()
    return [float(f"{value:.8g}") for value in numbers]


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Whose vectors, of which model and length."""

    tenant: str
    owner: Owner
    model: str
    dims: int

    def condition(self) -> ColumnElement[bool]:
        """Return what holds of its documents."""
        return and_(
            docs.c.tenant == self.tenant,
            docs.c.owner_kind == self.owner.kind,
            docs.c.owner_id == self.owner.id,
            docs.c.model == self.model,
            docs.c.dims == self.dims,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Some vectors of a set: the places of the pieces in their order, and a row for each."""

    places: list[Place]
    matrix: Floats


@dataclass(frozen=True, slots=True)
class _Held:
    stamp: Stamp
    parts: list[Part]
    size: int


class Vectors:
    """Reads vectors of documents.

    Args:
        most_bytes: How many bytes of them are held in memory at most.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._held: OrderedDict[VectorSet, _Held] = OrderedDict()
        # searches run in threads of the store
        self._lock = threading.Lock()

    def read(self, connection: Connection, wanted: VectorSet) -> Iterator[Part]:
        """Yield all vectors of a set, from memory if none has changed since they were read.

        Args:
            connection: The transaction of the search.
            wanted: The set.
        """
        # before the vectors: one that comes in between is then read once more the next time
        stamp, size = _stamp_of(connection, wanted)
        held = self._take(wanted, stamp)
        if held is not None:
            yield from held.parts
            return
        parts: list[Part] = []
        for part in _read(connection, wanted):
            yield part
            if size <= self._most:
                parts.append(part)
        if size <= self._most:
            self._hold(wanted, _Held(stamp, parts, size))

    @property
    def held(self) -> int:
        """How many sets are in memory."""
        return len(self._held)

    def _take(self, wanted: VectorSet, stamp: Stamp) -> _Held | None:
        with self._lock:
            held = self._held.pop(wanted, None)
            if held is None or held.stamp != stamp:
                return None
            self._held[wanted] = held
            return held

    def _hold(self, wanted: VectorSet, held: _Held) -> None:
        with self._lock:
            self._held[wanted] = held
            while sum(item.size for item in self._held.values()) > self._most:
                self._held.popitem(last=False)


def _stamp_of(connection: Connection, wanted: VectorSet) -> tuple[Stamp, int]:
    # the sum of whole times would be more than a number of the database holds
    moments = func.sum(docs.c.embedded_us % MOMENTS)
    told = (func.count(), func.max(docs.c.embedded_us), moments, func.sum(docs.c.pieces))
    row = connection.execute(select(*told).where(wanted.condition())).one()
    stamp = tuple(int(value or 0) for value in row)
    return stamp, stamp[-1] * wanted.dims * 4


def _read(connection: Connection, wanted: VectorSet) -> Iterator[Part]:
    joined = and_(docs.c.tenant == snippets.c.tenant, docs.c.id == snippets.c.doc_id)
    query = (
        select(snippets.c.doc_id, snippets.c.number, snippets.c.embedding)
        .join_from(snippets, docs, joined)
        .where(wanted.condition(), snippets.c.embedding.is_not(None))
        .order_by(snippets.c.doc_id, snippets.c.number)
    )
    for rows in connection.execute(query).partitions(PAGE):
        yield _part_of(rows)


def _part_of(rows: Sequence[Row[*tuple[Any, ...]]]) -> Part:
    np = load_numpy()
    matrix = np.frombuffer(b"".join(row.embedding for row in rows), dtype="<f4").reshape(len(rows), -1)
    return Part([(row.doc_id, row.number) for row in rows], matrix)
