"""The steps `embed` and `search` in the interpreter: what they ask, what they give, what they refuse, what they use."""

from __future__ import annotations

from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.contracts.activities import Usage
from engine.core.contracts.lookups import EmbedParams, LookupResult, Owner, SearchParams
from engine.core.errors import BackendError
from engine.core.plan.ir import AgentSnapshot, Plan
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.events import EventRecord
from engine.core.run.story import Story
from engine.core.run.usage import UsageSums
from engine.core.values import Json, compact_json
from engine.dryrun.effects import START_US, Answered
from engine.dryrun.running import DryRun, run_in_memory
from engine.dryrun.scripted import dry_run
from engine.testing import run_task

FOUND = {"docs": [{"id": "d", "score": 1.0}]}


def plan_of(text: str, agent: str = "") -> Plan:
    return compile_text(text, contracts={}, agent=AgentSnapshot(id=agent, name=agent)).plan


def ran(text: str, *outcomes: Any, given: Json = None, agent: str = "") -> tuple[DryRun, list[Call]]:
    """Run a task whose calls end one after another as told; return the run and its calls."""
    left, calls = list(outcomes), list[Call]()

    def answer(call: Call) -> Answered:
        calls.append(call)
        outcome = left.pop(0)
        return Answered(outcome if isinstance(outcome, Failed) else Ok(outcome.to_json()), 0.5)

    return run_in_memory(plan_of(text, agent), given, answer), calls


def vectors(*made: list[float], tokens: int = 3, cost: str | None = "0.001") -> LookupResult:
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens)
    return LookupResult(output={"vectors": list(made)}, model="e1", backend="b", usage=usage, cost=cost)


def output_of(run: DryRun) -> Json:
    assert run.finished is not None
    assert isinstance(run.finished.outcome, Ok), run.finished.outcome
    return run.finished.outcome.value


def code_of(run: DryRun) -> str:
    assert run.finished is not None
    assert isinstance(run.finished.outcome, Failed)
    return run.finished.outcome.error.code


def bodies(run: DryRun, kind: str) -> list[dict[str, Any]]:
    return [event.body for event in run.events if event.type == kind]


# --- embed -----------------------------------------------------------------------------------------------------------


def test_embed_sends_a_text_or_a_list_of_texts_and_gives_one_vector_for_each() -> None:
    run, calls = ran("main: [{embed: $ _.topic}]", vectors([1.0, 0.0]), given={"topic": "clouds"})
    assert output_of(run) == {"vectors": [[1.0, 0.0]]}
    text = "main: [{embed: {text: [a, $ _], model: e1, embed_instruction: Find it.}}]"
    run, more = ran(text, vectors([1.0], [2.0]), given="b")
    assert output_of(run) == {"vectors": [[1.0], [2.0]]}
    asked = [call.params for call in (*calls, *more) if isinstance(call.params, EmbedParams)]
    told = [(params.texts, params.model, params.instruction) for params in asked]
    assert told == [(["clouds"], "", ""), (["a", "b"], "e1", "Find it.")]
    assert all(call.repeatable for call in calls)


@pytest.mark.parametrize("given", [3, [], ["a", None], {"text": "a"}, None])
def test_embed_refuses_what_is_no_text_before_anything_is_called(given: Json) -> None:
    run, calls = ran("main: [{embed: $ _}]", given=given)
    assert code_of(run) == "input.rejected"
    assert not calls


def test_a_failed_embedding_is_tried_again_and_an_error_that_stays_goes_to_on_error() -> None:
    passing = Failed(BackendError("away", code="backend.unreachable", retryable=True))
    run, calls = ran("main: [{embed: a}]", passing, vectors([1.0]))
    assert (output_of(run), len(calls)) == ({"vectors": [[1.0]]}, 2)
    assert calls[0].params.context.key == calls[1].params.context.key
    lasting = Failed(BackendError("no", code="backend.no_embeddings"))
    run, _ = ran("main: [{embed: a, on_error: [{evaluate: $ error.code}]}]", lasting)
    assert output_of(run) == "backend.no_embeddings"


def test_what_embeddings_use_is_told_counted_and_held_to_the_limit() -> None:
    text = "limits: {tokens: 5}\nmain: [{embed: a}, {embed: b}, {embed: c}]"
    run, calls = ran(text, vectors([1.0]), vectors([1.0]), given=None)
    assert code_of(run) == "limit.tokens"
    assert len(calls) == 2
    ended = bodies(run, "effect.finished")
    assert [(body["model"], body["backend"], body["cost"], body["took_s"]) for body in ended] == [
        ("e1", "b", "0.001", 0.5)
    ] * 2
    sums = UsageSums()
    for event in run.events:
        sums.apply(event.type, event.body)
    told = sums.to_json()
    assert (told["llm_calls"], told["tool_calls"], told["total_tokens"], told["cost"]) == (2, 0, 6, "0.002")


# --- search ----------------------------------------------------------------------------------------------------------


def test_search_says_what_is_looked_for_and_gives_the_documents() -> None:
    text = """
    main:
      - search: {text: $ _.q, vector: [1, 2.5], metadata_filter: {lang: $ _.lang}, limit: 3, alpha: $ _.alpha}
    """
    given = {"q": "rain", "lang": "de", "alpha": 0.25}
    run, calls = ran(text, LookupResult(output=FOUND), given=given, agent="a1")
    assert output_of(run) == FOUND
    params = calls[0].params
    assert isinstance(params, SearchParams)
    assert (params.text, params.vector, params.metadata_filter) == ("rain", [1.0, 2.5], {"lang": "de"})
    assert (params.options, params.owner) == ({"limit": 3, "alpha": 0.25}, Owner(kind="agent", id="a1"))


@pytest.mark.parametrize(
    ("members", "agent", "owner"),
    [
        ("", "", Owner()),
        ("", "a1", Owner(kind="agent", id="a1")),
        (", agent: other", "a1", Owner(kind="agent", id="other")),
        (", user: u", "a1", Owner(kind="user", id="u")),
    ],
)
def test_the_documents_are_those_of_the_named_owner_else_of_the_tasks_agent(
    members: str, agent: str, owner: Owner
) -> None:
    _, calls = ran(f"main: [{{search: {{text: x{members}}}}}]", LookupResult(output=FOUND), agent=agent)
    assert isinstance(calls[0].params, SearchParams)
    assert calls[0].params.owner == owner


@pytest.mark.parametrize(
    ("search", "given"),
    [
        ("{text: $ _}", " "),
        ("{text: $ _}", 7),
        ("{text: x, vector: $ _}", []),
        ("{text: x, vector: $ _}", [0, 0.0]),
        ("{text: x, vector: $ _}", [True]),
        ("{text: x, metadata_filter: $ _}", "lang"),
        ("{text: x, limit: $ _}", 51),
        ("{text: x, limit: $ _}", 2.5),
        ("{text: x, alpha: $ _}", "much"),
        ("{text: x, agent: a, user: $ _}", "u"),
    ],
)
def test_search_refuses_what_cannot_be_looked_for_before_anything_is_called(search: str, given: Json) -> None:
    run, calls = ran(f"main: [{{search: {search}}}]", given=given)
    assert code_of(run) == "input.rejected"
    assert not calls


def test_a_search_counts_as_a_call_of_a_tool_and_its_vector_has_tokens_and_a_price() -> None:
    asked = vectors()
    found = LookupResult(output=FOUND, model=asked.model, backend="b", usage=asked.usage, cost="0.001")
    run, _ = ran("main: [{search: words only}, {search: both}]", LookupResult(output=FOUND), found)
    sums = UsageSums()
    for event in run.events:
        sums.apply(event.type, event.body)
    told = sums.to_json()
    assert (told["llm_calls"], told["tool_calls"], told["unpriced_calls"]) == (0, 2, 0)
    assert (told["total_tokens"], told["cost"]) == (3, "0.001")


# --- without servers -------------------------------------------------------------------------------------------------


def test_a_dry_run_makes_up_vectors_and_documents_and_takes_scripted_ones() -> None:
    plan = plan_of("main:\n  - embed: [a, b]\n    label: v\n  - search: rain\n    label: s\n")
    made = dry_run(plan, None)
    assert output_of(made)["docs"][0]["snippet"]["content"] == "(found for: rain)"
    told = dry_run(plan, None, replies={"v": {"vectors": [[1], [2]]}, "s": FOUND})
    assert output_of(told) == FOUND
    assert bodies(told, "step")[0]["output"] == {"vectors": [[1], [2]]}


def test_a_tasks_own_test_scripts_them_by_name_and_sees_what_was_asked() -> None:
    text = "main:\n  - embed: {text: $ _, model: e1}\n  - search: {vector: '$ _.vectors[0]', user: u}\n"
    run = run_task(text, "rain", replies={"embed": {"vectors": [[1.0, 0.5]]}, "search": FOUND})
    assert run.result == FOUND
    assert [(call["kind"], call["name"], call["request"]) for call in run.calls] == [
        ("embed", "e1", {"texts": ["rain"], "model": "e1"}),
        ("search", "", {"vector": [1.0, 0.5], "user": "u"}),
    ]
    assert run.calls[0]["reply"] == {"vectors": [[1.0, 0.5]]}


def test_the_story_tells_of_both_in_words() -> None:
    run, _ = ran("main: [{embed: a}, {search: b}]", vectors([1.0]), LookupResult(output=FOUND))
    story = Story()
    for event in run.events:
        story.apply(EventRecord("x", "r", event.seq, event.now_us, event.type, compact_json(event.body), "t"))
    assert story.began_us >= START_US
    kinds = [(attempt.kind, attempt.outcome) for step in story.steps.values() for attempt in step.attempts]
    assert kinds == [("embed", "ok"), ("search", "ok")]
