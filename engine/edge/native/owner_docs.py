"""Routes of the documents of an agent or a user, and of vectors, in the shapes that Julep's clients read and write."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field, model_validator

from engine.control.definitions import now_us
from engine.control.docviews import old_reference_view, reference_view, whole_view
from engine.control.resources import deleted_view
from engine.core.contracts.lookups import Owner
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.clients import is_fern, is_stainless, listed
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import Page, metadata_filter, read_page
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import Answer, Deleted
from engine.edge.native.docs import DOC_EXAMPLE, Number, SnippetView, WholeDocView
from engine.edge.native.shapes import Body

Piece = Annotated[str, Field(max_length=30_000)]
Vector = Annotated[list[Number], Field(min_length=1, max_length=16_384)]
Embeddings = Annotated[bool | None, Query(description="with vectors; left out = as the client is used to")]
MOST_TEXTS: Final = 100


class OwnedDocBody(Body):
    """A new document of an agent or a user.

    Attributes:
        title: What it is called.
        content: Its text, or its pieces in order, each of which is found by itself.
        metadata: What else is known of it; left out = what was said before, if its owner has it already.
        embed_instruction: What the model that makes its vectors is told of it.
    """

    title: str = Field(max_length=800)
    content: Piece | Annotated[list[Piece], Field(max_length=1_000)]
    metadata: dict[str, Json] | None = None
    embed_instruction: str | None = Field(default=None, max_length=10_000)


class OwnedSearchBody(Body):
    """A search: by words if there is a text, by meaning if there is a vector, by both if there are both.

    Attributes:
        text: The words.
        vector: What they mean.
        alpha: Weight of the meaning: 0 words only, 1 meaning only. With a text alone, words count alone; if it is given
            then, a worker makes the vector.
        confidence: Least likeness in meaning.
        limit: Most documents.
        lang: Language of the words.
        metadata_filter: What the metadata of a document must hold.
        mmr: Whether variety counts; how the client of 2024 says it.
        mmr_strength: How much it counts.
        k_multiplier: How many more candidates than documents are looked at.
        trigram_similarity_threshold: Least likeness in spelling; left out = words must be there as they are.
        include_embeddings: Whether the vectors are told.
    """

    text: str = Field(default="", max_length=10_000)
    vector: Vector | None = None
    alpha: float | None = Field(default=None, ge=0, le=1)
    confidence: float = Field(default=0.5, ge=-1, le=1)
    limit: int = Field(default=10, ge=1, le=50)
    lang: str = Field(default="en-US", max_length=35)
    metadata_filter: dict[str, Json] = Field(default_factory=dict)
    mmr: bool = True
    mmr_strength: float = Field(default=0.5, ge=0, le=1)
    k_multiplier: int = Field(default=5, ge=1, le=100)
    trigram_similarity_threshold: float | None = Field(default=None, ge=0, le=1)
    include_embeddings: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """How it is searched."""
        same = ("confidence", "limit", "lang", "k_multiplier", "trigram_similarity_threshold", "include_embeddings")
        usual_alpha = 0.0 if self.vector is None else 0.5
        return {
            **{name: getattr(self, name) for name in same},
            "alpha": usual_alpha if self.alpha is None else self.alpha,
            "mmr_strength": self.mmr_strength if self.mmr else 0.0,
        }


class OwnedForgetBody(Body):
    """Which documents of the owner are deleted.

    Attributes:
        metadata_filter: What their metadata hold.
        delete_all: That all of them are deleted.
    """

    metadata_filter: dict[str, Json] = Field(default_factory=dict)
    delete_all: bool = False

    @model_validator(mode="after")
    def _some_or_all(self) -> OwnedForgetBody:
        if self.delete_all == bool(self.metadata_filter):
            raise ValueError("say which documents by `metadata_filter`, or `delete_all: true`, and not both")
        return self


class EmbedBody(Body):
    """Texts that become vectors.

    Attributes:
        text: A text, or a list of texts.
        embed_instruction: What the model is told of them.
        model: The model; empty = the default for embeddings.
    """

    text: Piece | Annotated[list[Piece], Field(min_length=1, max_length=MOST_TEXTS)]
    embed_instruction: str = Field(default="", max_length=10_000)
    model: str = Field(default="", max_length=255)


# --- whose documents -------------------------------------------------------------------------------------------------


async def _agent_of(agent_id: str, request: Request, services: In, tenant: Tenant) -> None:
    request.state.owner = await services.documents.owner("agent", agent_id, tenant=tenant)


async def _user_of(user_id: str, request: Request, services: In, tenant: Tenant) -> None:
    request.state.owner = await services.documents.owner("user", user_id, tenant=tenant)


async def _owner_of(request: Request) -> Owner:
    owner = request.state.owner
    assert isinstance(owner, Owner)
    return owner


Owned = Annotated[Owner, Depends(_owner_of)]
"""Whose documents the path of a route names."""
Paged = Annotated[Page, Depends(read_page)]

# --- routes ----------------------------------------------------------------------------------------------------------

_of_an_owner = APIRouter()


@_of_an_owner.post("/docs", status_code=201, dependencies=[MAY_RUN])
async def add_owned_doc(owner: Owned, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Add a document; one of this title and content that the owner has already stays one, and is returned.

    It is found by its words at once; its job tells when it is found by its meaning.
    """
    body = await read_model(request, OwnedDocBody)
    made = await services.documents.add(
        body.content,
        tenant=tenant,
        owner=owner,
        title=body.title,
        metadata=body.metadata,
        instruction=body.embed_instruction or "",
        actor=actor_of(request),
    )
    whole = await services.documents.get(made.id, tenant=tenant)
    return {**whole_view(whole, embeddings=is_stainless(request.headers)), "jobs": [made.id]}


@_of_an_owner.get("/docs")
async def list_owned_docs(
    owner: Owned, request: Request, services: In, tenant: Tenant, page: Paged, include_embeddings: Embeddings = None
) -> dict[str, Any]:
    """List the documents of an owner with their texts, the newest first."""
    found = await services.documents.store.page(
        tenant=tenant,
        owner=owner,
        metadata=page.metadata,
        limit=page.limit,
        offset=page.offset,
        descending=page.descending("desc"),
    )
    whole = await services.documents.with_pieces(found, tenant=tenant)
    told = is_stainless(request.headers) if include_embeddings is None else include_embeddings
    return listed(request, [whole_view(doc, embeddings=told) for doc in whole])


@_of_an_owner.delete("/docs", status_code=202, dependencies=[MAY_RUN])
async def delete_owned_docs(owner: Owned, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete documents of an owner: all of them, or those whose metadata hold something."""
    body = await read_model(request, OwnedForgetBody)
    moment = now_us()
    gone = await services.documents.remove_where(owner, body.metadata_filter, tenant=tenant)
    return {"items": [deleted_view(doc_id, moment) for doc_id in gone]}


@_of_an_owner.delete("/docs/{doc_id}", status_code=202, dependencies=[MAY_RUN])
async def delete_owned_doc(doc_id: str, owner: Owned, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete a document of an owner with all that was made of it."""
    moment = now_us()
    await services.documents.remove(doc_id, tenant=tenant, owner=owner)
    return deleted_view(doc_id, moment)


@_of_an_owner.post("/search", dependencies=[MAY_RUN])
async def search_owned_docs(owner: Owned, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Search the documents of an owner by words, by meaning or by both."""
    began = time.perf_counter()
    body = await read_model(request, OwnedSearchBody, wrapped=True)
    found = await services.documents.search(
        tenant=tenant,
        owner=owner,
        text=body.text,
        vector=body.vector,
        # the client of 2024 sends the queries of lists with a search, of which only the filter says something here
        metadata={**body.metadata_filter, **(metadata_filter(request, is_exact=True) or {})},
        options=body.options,
    )
    docs = [reference_view(item) for item in found]
    told: dict[str, Any] = {"docs": docs, "time": time.perf_counter() - began}
    return {**told, "results": [old_reference_view(doc) for doc in docs]} if is_fern(request.headers) else told


router = APIRouter(tags=["docs"])
router.include_router(_of_an_owner, prefix="/agents/{agent_id}", dependencies=[Depends(_agent_of)])
router.include_router(_of_an_owner, prefix="/users/{user_id}", dependencies=[Depends(_user_of)])


@router.post("/embed", dependencies=[MAY_RUN])
async def embed(request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Turn texts into vectors, as an `embed` step does: a worker makes them."""
    body = await read_model(request, EmbedBody, wrapped=True)
    texts = [body.text] if isinstance(body.text, str) else body.text
    vectors = await services.documents.embed(texts, tenant=tenant, instruction=body.embed_instruction, model=body.model)
    return {"vectors": vectors}


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class OwnedDoc(WholeDocView):
    """A document that was added."""

    jobs: list[str] = Field(description="The job that makes its vectors.")


class OwnedDocs(Answer):
    """A page of documents with their texts."""

    items: list[WholeDocView]


class DeletedList(Answer):
    """What was deleted."""

    items: list[Deleted]


class Role(Answer):
    """Whose a document is."""

    id: str
    role: Literal["agent", "user"]


class DocReference(Answer):
    """A document that was found, by the best of its pieces."""

    id: str
    owner: Role
    title: str
    metadata: dict[str, Json]
    snippet: SnippetView
    distance: float | None = Field(description="1 - cosine of the vectors, if it was found by meaning.")
    score: float = Field(description="How well it fits, up to 1.")
    similarity: float | None = Field(description="Cosine of the vectors, if it was found by meaning.")


class FoundReferences(Answer):
    """What was found, the best first."""

    docs: list[DocReference]
    time: float = Field(description="Seconds that it took.")


class Vectors(Answer):
    """A vector for each text."""

    vectors: list[list[float]]


_BODY: Final = (400, 404, 413, 415, 422)


def _documented(owner: str) -> Docs:
    text: Json = {"title": "Opening hours", "content": ["We open at nine.", "We close at six."], "metadata": {"v": 2}}
    return {
        ("POST", f"{owner}/docs"): Doc(
            answer=OwnedDoc, ok=(201,), errors=(*_BODY, 409), body=OwnedDocBody, example=text
        ),
        ("GET", f"{owner}/docs"): Doc(answer=OwnedDocs, errors=(400, 404, 422)),
        ("DELETE", f"{owner}/docs"): Doc(
            answer=DeletedList, ok=(202,), errors=_BODY, body=OwnedForgetBody, example={"metadata_filter": {"v": 1}}
        ),
        ("DELETE", f"{owner}/docs/{{doc_id}}"): Doc(answer=Deleted, ok=(202,), errors=(404, 422)),
        ("POST", f"{owner}/search"): Doc(
            answer=FoundReferences,
            errors=(*_BODY, 409, 503),
            body=OwnedSearchBody,
            example={"text": "when do you open", "limit": 3},
        ),
    }


OWNER_DOC_DOCS: Final[Docs] = {
    **_documented("/api/agents/{agent_id}"),
    **_documented("/api/users/{user_id}"),
    ("POST", "/api/embed"): Doc(
        answer=Vectors,
        errors=(*_BODY, 409, 503),
        body=EmbedBody,
        example={"text": ["We open at nine.", "We close at six."]},
    ),
}

_REFERENCE: Final[dict[str, Json]] = {
    **{name: DOC_EXAMPLE[name] for name in ("id", "title", "metadata")},
    "owner": {"id": "2a5f6c1e-0f6c-4b7e-9a59-4cf0f4f5b7aa", "role": "agent"},
    "snippet": {"index": 0, "content": "We open at nine."},
    "distance": 0.487127,
    "score": 0.991803,
    "similarity": 0.512873,
}
_DELETED: Final[dict[str, Json]] = {"id": str(DOC_EXAMPLE["id"]), "deleted_at": DOC_EXAMPLE["created_at"], "jobs": []}
OWNER_DOC_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    OwnedDoc: {**DOC_EXAMPLE, "jobs": [DOC_EXAMPLE["id"]]},
    OwnedDocs: {"items": [DOC_EXAMPLE]},
    DeletedList: {"items": [_DELETED]},
    Role: {"id": "2a5f6c1e-0f6c-4b7e-9a59-4cf0f4f5b7aa", "role": "agent"},
    DocReference: _REFERENCE,
    FoundReferences: {"docs": [_REFERENCE], "time": 0.0042},
    Vectors: {"vectors": [[0.6, 0.8], [0.8, -0.6]]},
}
