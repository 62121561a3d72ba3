"""What the API tells of branches: by workflow and scope, the transitions of each begin, go on and end in order."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from engine.core.kinds import EventType as T
from engine.core.run.events import EventRecord
from engine.core.run.projection import TRANSITION_TYPES, transition_view
from engine.core.values import compact_json
from tests.property.test_transition_order import AFTER
from tests.support.program_runs import in_memory
from tests.support.programs import make_program

ENDS = {T.FINISH, T.FINISH_BRANCH, T.ERROR, T.CANCELLED}


def test_whoever_sorts_transitions_by_workflow_and_scope_sees_each_branch_in_order(full: bool) -> None:
    waited_beside_others = 0
    for seed in range(400 if full else 100):
        run = in_memory(make_program(seed), f"execution-{seed}")
        branches: dict[tuple[str, str], list[str]] = defaultdict(list)
        open_branches: set[tuple[str, str]] = set()
        for seq, event in enumerate(run.events, start=1):
            if event.type not in TRANSITION_TYPES:
                continue
            body = compact_json(event.body)
            view = transition_view(EventRecord(f"execution-{seed}", "run", seq, 0, event.type, body))
            if view["type"] in (T.ERROR, T.CANCELLED):
                # whoever asks for the scope of the first sees how it ended
                assert view["current"]["scope_id"] == next(iter(branches))[0], seed
                continue
            place = view["current"]["scope_id"], view["current"]["workflow"]
            branches[place].append(view["type"])
            (open_branches.discard if view["type"] in ENDS else open_branches.add)(place)
            beside = sum("mapreduce" in workflow for _, workflow in open_branches)
            waited_beside_others += view["type"] == T.RESUME and beside > 1
        for place, kinds in branches.items():
            assert kinds[0] == (T.INIT if T.INIT in kinds else T.INIT_BRANCH), (seed, place)
            for before, after in pairwise(kinds):
                assert after in AFTER[before], (seed, place, kinds)
    # among them are branches that waited while others were under way
    assert waited_beside_others > 10
