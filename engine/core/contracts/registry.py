"""What the workflows that look after backends are given: checks, fetches of models, pruning. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field

RECONCILE_WORKFLOW = "everstep.reconcile"
PULL_WORKFLOW = "everstep.pull"
PRUNE_WORKFLOW = "everstep.prune"

CHECK_ACTIVITY = "backend.check"
PULL_ACTIVITY = "backend.pull"
PRUNE_ACTIVITY = "backend.prune"

SIGNAL_PULL = "everstep.pull_wanted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckParams:
    """Which backends are looked at.

    Attributes:
        backend: The one; empty = all.
    """

    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How the backends are: up, down or refused, by name."""

    states: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullParams:
    """Whose models are fetched, one after the other.

    Attributes:
        backend: The backend.
    """

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PullResult:
    """What became of one fetch.

    Attributes:
        model: The model; empty = there was nothing to fetch.
        state: How it ended.
    """

    model: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneParams:
    """What is deleted from a backend.

    Attributes:
        backend: The backend.
        models: Of the models that are not declared only these; empty = all of them.
        dry_run: Whether to say only which these are.
    """

    backend: str
    models: list[str] = field(default_factory=list)
    dry_run: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What is not declared.

    Attributes:
        undeclared: The models that the backend has and nobody declared.
        deleted: Those of them that were deleted.
    """

    undeclared: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
