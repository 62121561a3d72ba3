"""What the steps of one named list see of each other. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.core.values import Json

StepRecord = dict[str, Json]
"""{input, output} of a step that ended."""


@dataclass(slots=True, eq=False)
class Scope:
    """What the steps of one named list see of each other.

    Attributes:
        id: UUID text, derived from the execution and the place.
        workflow: Name of the list.
        input: Its input.
        steps: Records of the top-level steps that ended, in order.
        labels: Records of labelled steps that are visible.
        state: What `set` steps wrote.
    """

    id: str
    workflow: str
    input: Json
    steps: list[StepRecord] = field(default_factory=list)
    labels: dict[str, StepRecord] = field(default_factory=dict)
    state: dict[str, Json] = field(default_factory=dict)

    def fork(self) -> Scope:
        """Return the copy that a concurrent branch works on."""
        return Scope(self.id, self.workflow, self.input, list(self.steps), dict(self.labels), dict(self.state))
