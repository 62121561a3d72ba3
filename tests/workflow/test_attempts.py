"""What the store holds of the calls, waits and costs of a real execution, row by row."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from engine.core.errors import ToolError
from engine.core.run.attempts import AttemptFacts
from engine.core.run.events import body_of
from engine.core.run.projection import Wait
from engine.core.run.usage import UsageSums
from engine.edge.mockllm.script import MockRule, MockScript, MockUsage
from engine.settings import Price
from engine.store.rebuilding import rows_of
from engine.tooling import ToolContext, tool
from tests.support.lab import TENANT, Lab, open_lab
from tests.support.rows import assert_rows_are_those_of_the_histories, settle_all

TASK = """
name: whole
main:
  - prompt: how many
    label: ask
    output_schema: {type: object, required: [n], properties: {n: {type: integer}}}
    unwrap: true
    retry: {attempts: 3, initial: 0.01}
  - {tool: second_time, arguments: {n: $ _.n}, retry: {attempts: 2, initial: 0.01}}
  - {label: judge, wait_for_input: {info: sure?}}
"""

SCRIPT = MockScript(
    rules=[
        MockRule(status=429, times=1),
        MockRule(json_reply={"n": "seven"}, times=1, usage=MockUsage(prompt_tokens=10, completion_tokens=4)),
        MockRule(
            json_reply={"n": 7},
            usage=MockUsage(prompt_tokens=30, completion_tokens=3, cached_tokens=20, reasoning_tokens=1),
        ),
    ]
)
PRICES = {"*": Price(input=Decimal("0.5"), output=Decimal(2), cached_input=Decimal("0.05"))}
CREATED_US = 1_800_000_000_000_000


@tool(effect="read")
async def second_time(n: int, context: ToolContext) -> int:
    """Fail at the first attempt."""
    if context.attempt == 1:
        raise ToolError("not yet", code="tool.failed", retryable=True)
    return n


async def run_whole(lab: Lab) -> str:
    """Run the task, answer its wait and return the id of the execution."""
    lab.prices = PRICES
    async with lab.worker():
        handle = await lab.start(
            TASK,
            "sheep",
            task_id="t1",
            task_version=3,
            metadata={"team": {"name": "a"}},
            labels=["red"],
            actor="ann via app",
            created_us=CREATED_US,
            trace=f"00-{'1' * 32}-{'2' * 16}-01",
        )
        await lab.until(handle, "wait")
        await lab.answer(handle, {"go": True})
        ended = await lab.end_of(handle)
        assert ended.output == {"go": True}
        await lab.until(handle, "finish")
    return handle.id


def attempt(at: dict[int, int], *, started: int | None, ended: int, **facts: Any) -> AttemptFacts:
    """Return an attempt whose times are those of its events."""
    started_us = None if started is None else at[started]
    return AttemptFacts(started_seq=started, started_us=started_us, ended_seq=ended, ended_us=at[ended], **facts)


async def test_retries_a_repair_a_failing_tool_and_an_answer_stand_in_the_rows(
    temporal_address: str, tmp_path: Path
) -> None:
    async with open_lab(temporal_address, tmp_path, script=SCRIPT, tools=(second_time,)) as lab:
        name = await run_whole(lab)
        events = await lab.store.list_events(name, tenant=TENANT)
        assert [event.type for event in events] == [
            "init",
            *("effect.started", "effect.finished", "attempt.failed"),  # 429
            *("effect.started", "effect.finished", "attempt.failed"),  # the reply does not fit
            *("effect.started", "effect.finished", "step"),
            *("effect.started", "effect.finished", "attempt.failed"),  # the tool fails
            *("effect.started", "effect.finished", "step"),
            *("wait", "answer.accepted", "resume", "finish"),
        ]
        # a part of the tokens that is 0 is left out
        assert [body_of(events[seq - 1])["usage"] for seq in (6, 9)] == [
            {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
            {
                "prompt_tokens": 30,
                "completion_tokens": 3,
                "total_tokens": 33,
                "cached_tokens": 20,
                "reasoning_tokens": 1,
            },
        ]
        at = {event.seq: event.now_us for event in events}
        prompt: dict[str, Any] = {"path": "main.0", "label": "ask", "kind": "prompt"}
        replied: dict[str, Any] = {"model": "mock", "backend": "mock"}
        called: dict[str, Any] = {"path": "main.1", "kind": "tool_call", "name": "second_time"}
        failed: dict[str, Any] = {"outcome": "failed", "error_code": "tool.failed", "pause_us": 10_000}
        pause_us = (await lab.store.list_attempts(name, tenant=TENANT, limit=1))[0].pause_us
        assert pause_us is not None
        assert pause_us >= 10_000
        expected = [
            attempt(
                at,
                started=2,
                ended=3,
                effect_id="main.0#1",
                attempt=1,
                outcome="failed",
                failed_seq=4,
                error_code="backend.rate_limited",
                pause_us=pause_us,
                **prompt,
            ),
            attempt(
                at,
                started=5,
                ended=6,
                effect_id="main.0#2",
                attempt=2,
                outcome="failed",
                failed_seq=7,
                error_code="backend.bad_reply",
                pause_us=0,
                prompt_tokens=10,
                completion_tokens=4,
                total_tokens=14,
                cost_nano=13_000,
                **prompt,
                **replied,
            ),
            attempt(
                at,
                started=8,
                ended=9,
                effect_id="main.0#2/repair1",
                attempt=2,
                outcome="ok",
                prompt_tokens=30,
                completion_tokens=3,
                total_tokens=33,
                cached_tokens=20,
                reasoning_tokens=1,
                cost_nano=12_000,
                **prompt,
                **replied,
            ),
            attempt(at, started=11, ended=12, effect_id="main.1#1", attempt=1, failed_seq=13, **called, **failed),
            attempt(at, started=14, ended=15, effect_id="main.1#2", attempt=2, outcome="ok", **called),
        ]
        assert await lab.store.list_attempts(name, tenant=TENANT) == expected

        facts = await lab.store.get_execution(name, tenant=TENANT)
        assert facts.usage == UsageSums(
            llm_calls=3,
            tool_calls=2,
            failed_attempts=3,
            prompt_tokens=40,
            completion_tokens=7,
            total_tokens=47,
            cached_tokens=20,
            reasoning_tokens=1,
            cost_nano=25_000,
        )
        assert (facts.labels, facts.actor, facts.trace_id) == (["red"], "ann via app", "1" * 32)
        assert (facts.created_us, facts.task_id, facts.task_version) == (CREATED_US, "t1", 3)

        wait = await lab.store.find_wait(name, "main.2", tenant=TENANT)
        assert wait == Wait(
            wait_id="main.2",
            path="main.2",
            label="judge",
            info="sure?",
            schema=None,
            deadline_us=None,
            opened_seq=17,
            opened_us=at[17],
            closed_seq=19,
            closed_us=at[19],
            outcome="answered",
            actor="test",
            answer={"go": True},
        )

        await settle_all(lab)
        await assert_rows_are_those_of_the_histories(lab, [name], tmp_path)

        rows = await lab.store.database.run(lambda connection: rows_of(connection, name))
        tags = {(row["kind"], row["name"], row["value"], row["created_us"]) for row in rows["execution_tags"]}
        assert tags == {
            ("label", "", "red", CREATED_US),
            ("meta", "team", "{}", CREATED_US),
            ("meta", "team.name", '"a"', CREATED_US),
            ("model", "", "mock", CREATED_US),
            ("backend", "", "mock", CREATED_US),
        }
