"""Routes of documents: add, list, show, delete, search."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field, model_validator

from engine.control.definitions import now_us
from engine.control.docviews import doc_view, whole_view
from engine.control.resources import deleted_view
from engine.core.contracts.lookups import Owner
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.clients import is_stainless
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import Cursor, read_cursor, write_cursor
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import MOMENT, Answer, Deleted, Paged
from engine.edge.native.shapes import ActorName, Body

router = APIRouter(tags=["docs"])

Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
OwnerId = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
Text = Annotated[str, Field(max_length=1_000_000)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]
MOST_NUMBERS: Final = 16_384


class OwnedBody(Body):
    """Whose documents they are: an agent's, a user's, or nobody's.

    Attributes:
        agent: Id of the agent.
        user: Id of the user.
    """

    agent: OwnerId = ""
    user: OwnerId = ""

    @model_validator(mode="after")
    def _one_owner(self) -> OwnedBody:
        if self.agent and self.user:
            raise ValueError("documents have one owner: name an agent or a user")
        return self

    @property
    def owner(self) -> Owner:
        """The owner."""
        return owner_of(self.agent, self.user)


class DocBody(OwnedBody):
    """A new document.

    Attributes:
        content: Its text, or its pieces in order, each of which is found by itself.
        title: What it is called.
        metadata: What else is known of it.
        model: Model of its vectors; empty = the default for embeddings.
        embed: Whether it gets vectors; without them it is found by its words alone.
        actor: Who adds it.
    """

    content: Text | Annotated[list[Text], Field(max_length=1_000)]
    title: str = Field(default="", max_length=1_000)
    metadata: dict[str, Json] = Field(default_factory=dict)
    model: str = Field(default="", max_length=255)
    embed: bool = True
    actor: ActorName = ""


class SearchBody(OwnedBody):
    """A search for documents.

    Attributes:
        text: The words; what they mean counts too, as far as `alpha` says.
        vector: A vector in place of the meaning of the words.
        metadata_filter: What the metadata of a document must hold.
        limit: Most documents.
        lang: Language of the words.
        confidence: Least likeness in meaning.
        alpha: Weight of the meaning: 0 words only, 1 meaning only.
        mmr_strength: How much variety counts.
        k_multiplier: How many more candidates than documents are looked at.
        trigram_similarity_threshold: Least likeness in spelling; left out = words must be there as they are.
        include_embeddings: Whether the vectors are told.
    """

    text: str = Field(default="", max_length=10_000)
    vector: Annotated[list[Number], Field(min_length=1, max_length=MOST_NUMBERS)] | None = None
    metadata_filter: dict[str, Json] = Field(default_factory=dict)
    limit: int = Field(default=10, ge=1, le=50)
    lang: str = Field(default="en-US", max_length=35)
    confidence: float = Field(default=0.0, ge=-1, le=1)
    alpha: float = Field(default=0.5, ge=0, le=1)
    mmr_strength: float = Field(default=0.0, ge=0, le=1)
    k_multiplier: int = Field(default=5, ge=1, le=100)
    trigram_similarity_threshold: float | None = Field(default=None, ge=0, le=1)
    include_embeddings: bool = False


class ForgetBody(OwnedBody):
    """Which documents of an owner are deleted.

    Attributes:
        metadata_filter: What their metadata hold.
        all: That all of them are deleted.
    """

    metadata_filter: dict[str, Json] = Field(default_factory=dict)
    all: bool = False

    @model_validator(mode="after")
    def _some_or_all(self) -> ForgetBody:
        if self.all == bool(self.metadata_filter):
            raise ValueError("say which documents by `metadata_filter`, or `all: true`, and not both")
        return self


def owner_of(agent: str, user: str) -> Owner:
    """Return the owner that a request names."""
    return Owner(kind="user" if user else "agent" if agent else "", id=user or agent)


@router.post("/docs", status_code=201, dependencies=[MAY_RUN])
async def add_doc(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Add a document. It is found by its words at once, and by its meaning when a worker has made its vectors."""
    body = await read_model(request, DocBody)
    facts = await services.documents.add(
        body.content,
        tenant=tenant,
        owner=body.owner,
        title=body.title,
        metadata=body.metadata,
        model=body.model,
        embed=body.embed,
        actor=actor_of(request, body.actor),
        request_key=key,
    )
    return {**doc_view(facts), "jobs": [facts.id]}


@router.get("/docs")
async def list_docs(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
    agent: Annotated[str, Query(max_length=128, description="those of an agent, by its id")] = "",
    user: Annotated[str, Query(max_length=128, description="those of a user, by its id")] = "",
) -> dict[str, Any]:
    """List documents without their texts, the newest first; without an owner those of all."""
    place = read_cursor(request, cursor, kinds=(int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    owner = owner_of(agent, user) if agent or user else None
    found = await services.documents.page(tenant=tenant, owner=owner, limit=limit + 1, after=after)
    shown = found[:limit]
    ended = (shown[-1].created_us, shown[-1].id) if len(found) > limit else None
    return {"items": [doc_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.post("/docs/search", dependencies=[MAY_RUN])
async def search_docs(request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Search documents by words, by meaning or by both; without an owner those that are nobody's.

    That is what a `search` step does. A worker gives words their meaning; with `alpha: 0` none is needed.
    """
    body = await read_model(request, SearchBody)
    options = body.model_dump(exclude={"text", "vector", "metadata_filter", "agent", "user"})
    found = await services.documents.search(
        tenant=tenant,
        owner=body.owner,
        text=body.text,
        vector=body.vector,
        metadata=body.metadata_filter,
        options=options,
    )
    return {"docs": found}


@router.post("/docs/delete", dependencies=[MAY_RUN])
async def delete_docs(request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete documents of one owner: all of them, or those whose metadata hold something."""
    body = await read_model(request, ForgetBody)
    gone = await services.documents.remove_where(body.owner, body.metadata_filter, tenant=tenant)
    return {"deleted": len(gone)}


@router.get("/docs/{doc_id}")
async def get_doc(
    doc_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    include_embeddings: Annotated[
        bool | None, Query(description="with the vectors of its pieces; left out = as the client is used to")
    ] = None,
) -> dict[str, Any]:
    """Return a document with its pieces."""
    told = is_stainless(request.headers) if include_embeddings is None else include_embeddings
    return whole_view(await services.documents.get(doc_id, tenant=tenant), embeddings=told)


@router.delete("/docs/{doc_id}", status_code=202, dependencies=[MAY_RUN])
async def delete_doc(doc_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete a document with all that was made of it."""
    moment = now_us()
    await services.documents.remove(doc_id, tenant=tenant)
    return deleted_view(doc_id, moment)


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class OwnerView(Answer):
    """Whose a document is."""

    kind: Literal["agent", "user"]
    id: str


class DocView(Answer):
    """A document without its texts."""

    id: str
    owner: OwnerView | None
    title: str
    metadata: dict[str, Json]
    pieces: int
    model: str | None = Field(description="The model that made its vectors.")
    dims: int | None = Field(description="Their length.")
    created_at: str
    embedded_at: str | None = Field(description="When they were there; from then on it is found by its meaning.")
    trouble: str | None = Field(description="Why they could not be made; it is tried again.")
    actor: str | None


class SnippetView(Answer):
    """A piece of a document."""

    index: int
    content: str
    embedding: list[float] | None = Field(default=None, description="Its vector, if it was asked for.")


class WholeDocView(DocView):
    """A document with its pieces, and once more in the members that Julep's clients read."""

    snippets: list[SnippetView]
    content: str | list[str] = Field(description="Its text, or its pieces if there are several.")
    embeddings: list[float] | list[list[float]] | None = Field(description="Likewise, if they were asked for.")
    embedding_model: str | None
    embedding_dimensions: int | None
    language: str
    modality: str


class AddedDoc(DocView):
    """A document that was added."""

    jobs: list[str] = Field(description="The job that makes its vectors.")


class DocPage(Paged):
    """A page of documents."""

    items: list[DocView]


class FoundDoc(Answer):
    """A document that was found, by the best of its pieces."""

    id: str
    owner: OwnerView | None
    title: str
    metadata: dict[str, Json]
    snippet: SnippetView
    score: float = Field(description="How well it fits, up to 1.")
    similarity: float | None = Field(description="Cosine of the vectors, if it was found by meaning.")


class FoundDocs(Answer):
    """What was found, the best first."""

    docs: list[FoundDoc]


class DeletedDocs(Answer):
    """How many documents were deleted."""

    deleted: int


_BODY: Final = (400, 409, 413, 415, 422)

DOC_DOCS: Final[Docs] = {
    ("POST", "/api/docs"): Doc(
        answer=AddedDoc,
        ok=(201,),
        errors=_BODY,
        body=DocBody,
        example={"title": "Opening hours", "content": ["We open at nine.", "We close at six."], "metadata": {"v": 2}},
    ),
    ("GET", "/api/docs"): Doc(answer=DocPage, errors=(400, 422)),
    ("POST", "/api/docs/search"): Doc(
        answer=FoundDocs,
        errors=(*_BODY, 503),
        body=SearchBody,
        example={"text": "when do you open", "limit": 3, "alpha": 0},
    ),
    ("POST", "/api/docs/delete"): Doc(
        answer=DeletedDocs, errors=_BODY, body=ForgetBody, example={"metadata_filter": {"v": 1}}
    ),
    ("GET", "/api/docs/{doc_id}"): Doc(answer=WholeDocView, errors=(404, 422)),
    ("DELETE", "/api/docs/{doc_id}"): Doc(answer=Deleted, ok=(202,), errors=(404, 422)),
}

_DOC: Final[dict[str, Json]] = {
    "id": "7d0c2f6e-1a53-4a43-8f0b-0f4f5f7f3c11",
    "owner": None,
    "title": "Opening hours",
    "metadata": {"v": 2},
    "pieces": 2,
    "model": "minilm",
    "dims": 384,
    "created_at": MOMENT,
    "embedded_at": MOMENT,
    "trouble": None,
    "actor": "ada",
}
_SNIPPETS: Final[list[Json]] = [
    {"index": 0, "content": "We open at nine."},
    {"index": 1, "content": "We close at six."},
]
DOC_EXAMPLE: Final[dict[str, Json]] = {
    **_DOC,
    "snippets": _SNIPPETS,
    "content": ["We open at nine.", "We close at six."],
    "embeddings": None,
    "embedding_model": "minilm",
    "embedding_dimensions": 384,
    "language": "english",
    "modality": "text",
}
_OWNER: Final[dict[str, Json]] = {"kind": "agent", "id": "2a5f6c1e-0f6c-4b7e-9a59-4cf0f4f5b7aa"}
_FOUND: Final[dict[str, Json]] = {
    **{name: _DOC[name] for name in ("id", "owner", "title", "metadata")},
    "snippet": _SNIPPETS[0],
    "score": 0.991803,
    "similarity": 0.512873,
}
DOC_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    OwnerView: _OWNER,
    DocView: _DOC,
    SnippetView: {"index": 0, "content": "We open at nine."},
    WholeDocView: DOC_EXAMPLE,
    AddedDoc: {**_DOC, "jobs": [_DOC["id"]]},
    DocPage: {"items": [_DOC], "next_cursor": None},
    FoundDoc: _FOUND,
    FoundDocs: {"docs": [_FOUND]},
    DeletedDocs: {"deleted": 3},
}
