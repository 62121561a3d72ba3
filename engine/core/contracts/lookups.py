"""What crosses the border for steps that turn texts into vectors and search documents. Workflow-safe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from engine.core.contracts.activities import CallContext, CallLimits, Usage
from engine.core.values import Json

EMBED_ACTIVITY: Final = "llm.embed"
SEARCH_ACTIVITY: Final = "docs.search"
SEARCH_WORKFLOW: Final = "everstep.search"
EMBED_WORKFLOW: Final = "everstep.embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedParams:
    """Texts to be turned into vectors.

    Attributes:
        context: Who calls.
        texts: The texts; at least one.
        instruction: What the model is told about their purpose; it stands in front of each of them. Empty = nothing.
        model: Model name; empty = the default for embeddings.
        timeout_s: Longest time of the call in seconds.
        limits: What the execution may use; None = anything.
    """

    context: CallContext
    texts: list[str]
    instruction: str = ""
    model: str = ""
    timeout_s: float = 600.0
    limits: CallLimits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose documents they are.

    Attributes:
        kind: `agent` or `user`; empty = nobody's, so everybody's of the tenant.
        id: Id of it; empty if it is nobody's.
    """

    kind: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParams:
    """A search for documents.

    Attributes:
        context: Who calls.
        text: The words; empty = only the meaning counts.
        meaning: What is looked for by its meaning; empty = the words.
        vector: The vector; None = that of the meaning, as far as it counts.
        metadata_filter: What the metadata of a document must hold.
        owner: Whose documents are searched.
        owners: Whose documents are searched, if they are several; they stand in for `owner`.
        options: {limit?, lang?, confidence?, alpha?, mmr_strength?, k_multiplier?, trigram_similarity_threshold?,
            include_embeddings?}.
        timeout_s: Longest time of the call in seconds.
        limits: What the execution may use; None = anything.
    """

    context: CallContext
    text: str = ""
    meaning: str = ""
    vector: list[float] | None = None
    metadata_filter: dict[str, Any] = field(default_factory=dict)
    owner: Owner = Owner()
    owners: list[Owner] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 60.0
    limits: CallLimits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupResult:
    """What came back of either.

    Attributes:
        output: {vectors} or {docs}: what the step gives.
        model: Model that made the vectors; empty = none was asked.
        backend: Name of the backend that did.
        usage: Token counts; None if the backend sent none.
        cost: Price of the call in dollars as decimal text; None = the price is not known.
        took_s: How long it took.
        deliveries: How often Temporal handed the call to a worker; more than once after a lost worker.
        route: How the backend was found, if there was a choice; see `ChatResult`.
    """

    output: dict[str, Any]
    model: str = ""
    backend: str = ""
    usage: Usage | None = None
    cost: str | None = None
    took_s: float = 0.0
    deliveries: int = 1
    route: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Json]:
        """Return what the interpreter gets."""
        return asdict(self) | {"usage": None if self.usage is None else self.usage.to_json()}


def made_up(params: EmbedParams | SearchParams, output: Json = None) -> dict[str, Json]:
    """Return a result as the interpreter gets it, of a run that asks nobody.

    Args:
        params: The call.
        output: What it gives; None = something that fits.
    """
    if output is None and isinstance(params, EmbedParams):
        # texts of one length look alike; that does for a run whose values are made up
        output = {"vectors": [[1.0, round(len(text) / 1_000, 3), 0.0] for text in params.texts]}
    elif output is None and isinstance(params, SearchParams):
        words = params.text[:60]
        snippet = {"index": 0, "content": f"(found for: {words})"}
        output = {"docs": [{"id": "dry-run", "title": "dry-run", "metadata": {}, "snippet": snippet, "score": 1.0}]}
    model = "dry-run" if isinstance(params, EmbedParams) else ""
    return LookupResult(output=output, model=model, backend=model, cost="0" if model else None).to_json()
