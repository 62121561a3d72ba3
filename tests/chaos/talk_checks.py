"""What came of talks while processes were killed: counted, and nothing lost or doubled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.store.chat_turns import DONE
from tests.chaos.talks import ADAPTIVE, FIRST, Talk, Talks, answer_to, is_tool_used
from tests.chaos.voyages import repaired_all
from tests.support.lab import open_lab
from tests.support.receiver import Receiver
from tests.support.rows import assert_rows_are_those_of_the_histories


@dataclass
class Findings:
    """What was counted.

    Attributes:
        turns: Turns, each answered once.
        asked_again: Calls of the model that were made again since a worker was lost.
        effects: Effects of tools.
        unknown: Calls of tools of which nobody knows whether they were made.
        summaries: Summaries that were made.
        executions: Executions that were compared row by row.
    """

    turns: int = 0
    asked_again: int = 0
    effects: int = 0
    unknown: int = 0
    summaries: int = 0
    executions: int = 0


async def look_over(talks: Talks, receiver: Receiver) -> Findings:
    """Let the installation end its work, stop it and assert that nothing of the talks was lost or doubled."""
    told, stage = Findings(), talks.stage
    turn_ids: set[str] = set()
    for talk in talks.all:
        await talks.kept.quiet(talk.id)
        turns = await talks.kept.turns(talk.id)
        assert [(turn.state, turn.request["messages"][0]["content"]) for turn in turns] == [
            (DONE, text) for text in talk.texts
        ], talk
        turn_ids |= {turn.id for turn in turns}
        check_history(talk, await talks.kept.said(talk.id), told)
        told.turns += len(turns)
        made = await talks.kept.summaries(talk.id)
        assert made == 0 or talk.kind == ADAPTIVE
        told.summaries += made
    check_calls(talks, told)
    check_effects(talks, receiver, told)
    assert len({start.id for start in talks.starts}) == len(talks.starts)
    for start in talks.starts:
        assert start.output == {"n": start.n, "first": f"first {start.n}", "second": f"second {start.n}"}
    async with open_lab(stage.temporal.address, stage.folder) as lab:
        kinds = {flow.id: flow.workflow_type async for flow in lab.client.list_workflows('EverstepTenant = "default"')}
        ids = list(kinds)
        assert {one for one in ids if kinds[one] == "chat"} == turn_ids, "each turn is there once"
        begun = {one for one in ids if kinds[one] == "two"}
        assert {start.id for start in talks.starts} <= begun
        assert len(begun) - len(talks.starts) <= talks.given_up["starts"]
        await repaired_all(stage, lab, ids, patience_s=120)
        await stage.stop()
        told.executions = (await assert_rows_are_those_of_the_histories(lab, ids, stage.folder)).executions
    assert stage.left() == []
    return told


def check_history(talk: Talk, said: list[tuple[str, Any]], told: Findings) -> None:
    """Assert that each message stands in a history once, in order, and its answer behind it."""
    results = [content for role, content in said if role == "tool"]
    told.unknown += sum("outcome" in str(content) for content in results)
    wanted: list[tuple[str, Any]] = []
    for text in talk.texts:
        calls = [("assistant", FIRST), ("tool", None)] if is_tool_used(text) else []
        wanted += [("user", text), *calls, ("assistant", answer_to(text))]
    assert [(role, None if role == "tool" else content) for role, content in said] == wanted, talk
    for text, pieces in talk.pieces.items():
        whole = (FIRST if is_tool_used(text) else "") + answer_to(text)
        assert all(whole.startswith(piece) for piece in pieces), pieces


def check_calls(talks: Talks, told: Findings) -> None:
    """Assert that the model was asked for nothing whose answer was told, and again only where a worker was lost."""
    calls = talks.calls()
    for talk in talks.all:
        for text in talk.texts:
            assert calls[text] == talk.called[text], f"asked for {text!r} after it was answered"
            told.asked_again += calls[text] - (2 if is_tool_used(text) else 1)
    lost = talks.stage.kills["worker"] + talks.stage.kills["temporal"] + talks.stage.ended_alone["worker"]
    assert told.asked_again <= lost * len(talks.all)


def check_effects(talks: Talks, receiver: Receiver, told: Findings) -> None:
    """Assert that each tool had its effect once, or that its turn knows nothing of it."""
    for key, bodies in receiver.by_key.items():
        assert len(bodies) == 1, f"{key} came {len(bodies)} times"
    told.effects = len(receiver.by_key)
    used = sum(is_tool_used(text) for talk in talks.all for text in talk.texts)
    assert used - told.unknown <= told.effects <= used
