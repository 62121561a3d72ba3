"""The order of transitions in one branch: which type may follow which, and that an execution ends once."""

from __future__ import annotations

from collections import Counter

from engine.core.kinds import EventType as T
from tests.support.program_runs import by_branch, in_memory
from tests.support.programs import make_program

AFTER: dict[str | None, set[str]] = {
    None: {T.INIT, T.INIT_BRANCH, T.ERROR, T.CANCELLED},
    T.INIT: {T.WAIT, T.ERROR, T.STEP, T.CANCELLED, T.INIT_BRANCH, T.FINISH, T.FINISH_BRANCH},
    T.INIT_BRANCH: {T.WAIT, T.ERROR, T.STEP, T.CANCELLED, T.INIT_BRANCH, T.FINISH_BRANCH, T.FINISH},
    T.RESUME: {T.WAIT, T.ERROR, T.CANCELLED, T.STEP, T.FINISH, T.FINISH_BRANCH, T.INIT_BRANCH},
    T.STEP: {T.WAIT, T.ERROR, T.CANCELLED, T.STEP, T.FINISH, T.FINISH_BRANCH, T.INIT_BRANCH},
    T.FINISH_BRANCH: {T.WAIT, T.ERROR, T.CANCELLED, T.STEP, T.FINISH, T.INIT_BRANCH, T.FINISH_BRANCH},
    # a wait that runs out fails: its `on_error` begins, it is tried again, or the execution ends
    T.WAIT: {T.RESUME, T.STEP, T.CANCELLED, T.FINISH, T.FINISH_BRANCH, T.ERROR, T.INIT_BRANCH, T.WAIT},
    T.FINISH: set(),
    T.ERROR: set(),
    T.CANCELLED: set(),
}
"""What may follow in one branch; between concurrent ones there is no order."""


def test_the_transitions_of_each_branch_follow_each_other_as_they_may(full: bool) -> None:
    seen: Counter[tuple[str | None, str]] = Counter()
    for seed in range(1_000 if full else 150):
        run = in_memory(make_program(seed), f"execution-{seed}")
        told = [(event.type, event.body) for event in run.events if T(event.type).is_transition]
        assert sum(kind in (T.FINISH, T.ERROR, T.CANCELLED) for kind, _ in told) == 1, seed
        assert told[0][0] == T.INIT, seed
        for branch, transitions in by_branch(told).items():
            before: str | None = None
            for kind, _ in transitions:
                assert kind in AFTER[before], (seed, branch, before, kind)
                seen[before, kind] += 1
                before = kind
    # the programs must get around: every type occurs, and most of the orders that are allowed
    assert {kind for _, kind in seen} >= {
        T.INIT,
        T.INIT_BRANCH,
        T.STEP,
        T.WAIT,
        T.RESUME,
        T.FINISH_BRANCH,
        T.FINISH,
        T.ERROR,
    }
    assert len(seen) > 20
