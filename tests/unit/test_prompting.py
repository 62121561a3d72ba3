"""Prompts of sessions without a server: templates, what is looked up, what of a history fits, what is summed up."""

from __future__ import annotations

from typing import Any

import pytest

from engine.control.models import ModelSight
from engine.control.registry import DeclaredBackend
from engine.control.sessions.contexts import called
from engine.control.sessions.prompting import system_message
from engine.control.sessions.recalling import RecallOptions, query_of
from engine.control.sessions.summarising import messages_for, summary_task
from engine.control.sessions.talk import new_message, past_messages, without_loose_ends
from engine.control.sessions.templates import USUAL, check_template, render, template_env
from engine.control.sessions.windows import (
    Room,
    budget_of,
    message_tokens,
    parted,
    summary_bound,
    to_summarise,
    truncated,
)
from engine.core.errors import InvalidInput, PromptTooBigError
from engine.settings import BackendConfig, Capabilities, Group
from engine.store.agents import AgentFacts
from engine.store.entries import SUMMARIZER, EntryFacts
from engine.store.sessions import SessionFacts
from engine.store.users import UserFacts

AGENT = AgentFacts(id="a", tenant="t", name="Ada", about="A librarian.", created_us=1, updated_us=1)
USER = UserFacts(id="u", tenant="t", name="Bo", about="reads a lot", created_us=1, updated_us=1)
DOC = {"id": "d", "title": "Hours", "snippet": {"index": 0, "content": "We open at {{ nine }}."}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def session(**more: Any) -> SessionFacts:
    return SessionFacts(**{"id": "s", "tenant": "t", "agents": ["a"], "created_us": 1, "updated_us": 1, **more})


def agent(**more: Any) -> AgentFacts:
    return AgentFacts(**{"id": "a", "tenant": "t", "name": "Ada", "created_us": 1, "updated_us": 1, **more})


def entry(number: int, role: str = "user", content: Any = "", tokens: int = 6, **more: Any) -> EntryFacts:
    """Return an entry that counts ten tokens with what a message costs beside its text."""
    facts: dict[str, Any] = {
        "tenant": "t",
        "session_id": "s",
        "number": number,
        "id": f"e{number}",
        "turn_id": "x",
        "created_us": 1,
    }
    source = more.pop("source", "api_request")
    told = content or f"said {number}"
    return EntryFacts(**facts, role=role, content=told, source=source, token_count=tokens, **more)


def talk(turns: int) -> list[EntryFacts]:
    return [entry(number, "user" if number % 2 else "assistant") for number in range(1, 2 * turns + 1)]


def numbers(entries: list[EntryFacts]) -> list[int]:
    return [item.number for item in entries]


# --- templates -------------------------------------------------------------------------------------------------------


def test_without_a_template_the_system_message_tells_of_agent_users_situation_and_documents() -> None:
    env = template_env(session(situation="It is late."), [AGENT], [USER], docs=[DOC])
    text = render(USUAL, env, "x")
    assert text.startswith("You are Ada. A librarian.\n")
    assert "- Bo: reads a lot" in text
    assert "# The situation\nIt is late." in text
    # what was found is data, whatever it looks like
    assert "## Hours\nWe open at {{ nine }}." in text
    assert render(USUAL, template_env(session(), [agent()], []), "x") == "You are Ada."


@pytest.mark.parametrize(("given", "told"), [("Be kind.", "Be kind."), (["Be kind.", "Be brief."], "- Be kind.\n- Be")])
def test_instructions_are_one_text_or_a_list(given: Any, told: str) -> None:
    assert f"# Instructions\n{told}" in render(USUAL, template_env(session(), [agent(instructions=given)], []), "x")


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("Hello {{ agnt.name }}", "line 1, column 10", "agnt"),
        ("one\n{% for a in docs %}", "line 2", "endfor"),
        ("one\ntwo {% macro x() %}{% endmacro %}", "line 2", "macro"),
        ("{{ user.name | shout }}", "line 1", "shout"),
    ],
)
def test_a_template_that_no_session_could_render_is_refused_with_its_place(text: str, place: str, word: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_template(text)
    assert refused.value.code == "template.invalid"
    assert place in refused.value.message
    assert word in refused.value.message


def test_templates_see_all_that_julep_templates_see_and_plain_text_is_no_template() -> None:
    check_template(
        "{% for tool in tools %}{{ tool.name }}{% endfor %}{{ session.situation }}{{ settings.temperature }}"
    )
    check_template(
        "{% if user %}{{ user.name }}{% endif %}{{ users | length }}{{ agents[0].about }}{{ docs[0].content }}"
    )
    check_template('an object {"a": 1}, and {braces}')


def test_what_is_missing_prints_nothing_as_in_jinja() -> None:
    env = template_env(session(), [AGENT], [])
    text = "Hello {{ user.name | upper }}{{ agent.metadata.a.b[3] }}{% if user.about %}!{% endif %}{{ docs[0].title }}."
    assert render(text, env, "the system template") == "Hello ."
    assert render("{% for one in agent.metadata.friends %}x{% else %}none{% endfor %}", env, "it") == "none"


def test_what_cannot_be_computed_when_a_template_is_rendered_is_told_with_its_place() -> None:
    with pytest.raises(InvalidInput) as refused:
        render("Hello\n{{ agent.name - 1 }}", template_env(session(), [AGENT], []), "the system template")
    assert refused.value.code == "template.failed"
    assert "line 2" in refused.value.message


def test_the_template_of_the_session_wins_over_that_of_the_agent_and_an_empty_result_is_no_message() -> None:
    def told(given: SessionFacts, one: AgentFacts) -> list[dict[str, Any]]:
        return system_message(given, one, template_env(given, [one], []))

    own = agent(default_system_template="I am {{ agent.name }}")
    assert told(session(system_template="We: {{ agent.name }}"), own)[0]["content"] == "We: Ada"
    assert told(session(), own)[0]["content"] == "I am Ada"
    assert told(session(system_template="{% if docs %}x{% endif %}"), own) == []


def test_a_situation_is_a_template_only_where_templates_are_rendered_and_stands_alone_if_there_is_no_other() -> None:
    def told(**more: Any) -> str:
        given = session(situation="Help {{ agent.name }}!", **more)
        return str(system_message(given, AGENT, template_env(given, [AGENT], []))[0]["content"])

    assert told(render_templates=True) == "Help Ada!"
    assert told(render_templates=True, system_template="So: {{ situation }}/{{ session.situation }}") == (
        "So: Help Ada!/Help Ada!"
    )
    assert told().endswith("# The situation\nHelp {{ agent.name }}!")


def test_messages_are_data_unless_they_are_rendered_and_texts_become_parts() -> None:
    env = template_env(session(), [AGENT], [USER])
    plain = new_message({"role": "user", "content": "{{ user.name }}", "name": None}, None)
    assert plain == {"role": "user", "content": "{{ user.name }}"}
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    rendered = new_message({"role": "user", "content": ["{{ user.name }}", picture]}, env)
    assert rendered["content"] == [{"type": "text", "text": "Bo"}, picture]
    with pytest.raises(InvalidInput):
        new_message({"role": "user", "content": "{{ nobody.name }}"}, env)


# --- history ---------------------------------------------------------------------------------------------------------


def test_a_history_becomes_messages_with_names_that_providers_take_and_summaries_say_what_they_are() -> None:
    history = [
        entry(-1, "system", "They met.", source=SUMMARIZER),
        entry(1, name="Bo B."),
        entry(2, "assistant", name="Ada L."),
    ]
    alone = past_messages(history, agents=1, tools=True)
    assert alone[0] == {"role": "system", "content": "Summary of what was said before:\nThey met."}
    assert [message.get("name") for message in alone] == [None, "Bo_B", None]
    assert past_messages(history, agents=2, tools=True)[2]["name"] == "Ada_L"


def test_calls_of_tools_are_left_out_on_request_and_where_one_half_is_missing() -> None:
    asked = entry(2, "assistant", tool_calls=[CALL, {**CALL, "id": "c2"}])
    answered = entry(3, "tool", "sunny", tool_call_id="c1")
    lost = entry(4, "tool", "rain", tool_call_id="c9")
    past = past_messages([entry(1), asked, answered, lost], agents=1, tools=True)
    told = without_loose_ends(past, [])
    assert [message["role"] for message in told] == ["user", "assistant", "tool"]
    assert [call["id"] for call in told[1]["tool_calls"]] == ["c1"]
    # what is said now may be the other half
    both = without_loose_ends(past[:2], [{"role": "tool", "content": "x", "tool_call_id": "c2"}])
    assert [call["id"] for call in both[1]["tool_calls"]] == ["c2"]
    without = past_messages([entry(1), asked, answered], agents=1, tools=False)
    assert without == [{"role": "user", "content": "said 1"}, {"role": "assistant", "content": "said 2"}]


def test_the_oldest_entries_go_first_and_what_is_left_begins_with_a_question() -> None:
    history = talk(4)
    assert numbers(truncated(history, 80)) == list(range(1, 9))
    assert numbers(truncated(history, 40)) == [5, 6, 7, 8]
    assert numbers(truncated(history, 35)) == [7, 8]
    assert truncated(history, 9) == []


def test_results_of_tools_go_with_what_called_them() -> None:
    history = [
        *(entry(1), entry(2, "assistant", tool_calls=[CALL]), entry(3, "tool", tool_call_id="c1")),
        *(entry(4, "assistant"), entry(5), entry(6, "assistant")),
    ]
    for room in range(70):
        kept = numbers(truncated(history, room))
        assert (2 in kept) == (3 in kept)
    rest, needed = parted(history[:3], goes_on=True)
    assert (numbers(rest), numbers(needed)) == ([1], [2, 3])


def test_a_summary_is_left_out_last() -> None:
    history = [entry(-1, "system", source=SUMMARIZER), *talk(3)]
    assert numbers(truncated(history, 30)) == [-1, 5, 6]
    assert numbers(truncated(history, 10)) == [-1]
    assert truncated(history, 9) == []


def test_a_summary_that_has_no_room_takes_none_from_what_is_newest() -> None:
    history = [entry(-1, "system", source=SUMMARIZER, tokens=90), *talk(3)]
    assert numbers(truncated(history, 60)) == [1, 2, 3, 4, 5, 6]
    assert numbers(truncated(history, 20)) == [5, 6]


def test_what_a_long_message_leaves_no_room_for_is_summed_up_with_as_many_words_as_ever() -> None:
    room = Room(100, 100, "adaptive", said=80)
    assert (room.left, room.usual, summary_bound(room.usual)) == (0, 80, 20)
    assert numbers(room.to_summarise(talk(2))) == [1, 2, 3, 4]


def test_a_prompt_that_does_not_fit_is_refused_unless_the_session_says_what_gives_way() -> None:
    history = talk(3)
    assert Room(60 + 40, 40, None).fitting(history) == history
    with pytest.raises(PromptTooBigError) as refused:
        Room(99, 40, None).fitting(history)
    assert (refused.value.code, refused.value.details) == ("session.prompt_too_big", {"tokens": 100, "budget": 99})
    assert "context_overflow" in refused.value.hint
    assert numbers(Room(80, 40, "truncate").fitting(history)) == [3, 4, 5, 6]
    with pytest.raises(PromptTooBigError) as alone:
        Room(39, 40, "truncate").fitting(history)
    assert "without its history" in alone.value.hint
    assert Room(None, 10**9, None).fitting(history) == history


def test_older_entries_are_summed_up_from_three_quarters_of_the_room_on_down_to_a_half_of_it() -> None:
    assert to_summarise(talk(4), 107, 200) == []
    assert numbers(to_summarise(talk(4), 106, 200)) == [1, 2, 3, 4]
    # an older summary goes into the new one, and is summed up by no other
    assert numbers(to_summarise([entry(-1, "system", source=SUMMARIZER), *talk(4)], 100, 200)) == [-1, 1, 2, 3, 4]
    assert to_summarise([entry(-1, "system", source=SUMMARIZER, tokens=90)], 100, 200) == []


def test_a_model_is_asked_to_sum_up_no_more_than_it_takes() -> None:
    chosen = to_summarise(talk(20), 100, 140)
    # the summary, too, has to go into what the model takes
    assert numbers(chosen) == list(range(1, 11))
    # what is too long by itself is cut, and holds nobody up
    huge = [entry(-1, "system", source=SUMMARIZER), entry(1, tokens=10_000), entry(2, "assistant"), *talk(3)[2:]]
    assert numbers(to_summarise(huge, 100, 100)) == [-1, 1]


def test_only_adaptive_sessions_are_summed_up() -> None:
    assert Room(100, 20, "truncate").to_summarise(talk(4)) == []
    assert Room(100, 20, "adaptive").to_summarise(talk(4)) != []
    assert Room(None, 20, "adaptive").to_summarise(talk(4)) == []
    assert Room(20, 20, "adaptive").to_summarise(talk(4)) == []


def test_the_prompt_of_a_summary_names_who_spoke_cuts_long_texts_and_is_no_template() -> None:
    entries = [
        entry(-1, "system", "They met.", source=SUMMARIZER),
        entry(1, name="Bo", content="{{ x }} " + "y" * 9_000),
        entry(2, "assistant", tool_calls=[CALL]),
    ]
    system, user = messages_for(entries, most_tokens=5_000)
    assert system["role"] == "system"
    assert user["content"].startswith("Summary of what was said before:\nThey met.\n\nuser (Bo): {{ x }} yyy")
    assert len(user["content"]) < 5_000
    assert user["content"].endswith("assistant: said 2\n[calls weather {}]")
    # where the model would not take it all each gets its share, whatever it is; what was summed up before stays whole
    results = [entry(number, "tool", "語" * 3_000, tokens=3_000, tool_call_id="c1") for number in range(3, 6)]
    _, short = messages_for([*entries, *results], most_tokens=200)
    assert short["content"].startswith("Summary of what was said before:\nThey met.\n\nuser (Bo): {{ x }} yyy")
    assert 150 < message_tokens(short) < 220
    task = summary_task("m", tenant="t", agent_id="a")
    assert "{{" not in task.source


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_budget_is_what_the_model_takes_without_its_reply() -> None:
    assert budget_of(None, {"max_tokens": 100}) is None
    assert budget_of(4_096, {}) == 4_096
    assert budget_of(4_096, {"max_tokens": 1_000}) == 3_096


def test_tokens_are_counted_by_characters_and_pictures_by_their_number() -> None:
    assert message_tokens({"role": "user", "content": "x" * 40}) == 14
    assert message_tokens({"role": "user", "content": None}) == 4
    small = message_tokens({"role": "assistant", "content": None, "tool_calls": [CALL]})
    assert small > message_tokens({"role": "assistant", "content": None})
    url = f"data:image/png;base64,{'A' * 100_000}"
    picture = [{"type": "image_url", "image_url": {"url": url}}]
    assert 1_000 < message_tokens({"role": "user", "content": picture}) < 3_000


def test_a_name_of_a_model_stands_for_all_that_may_answer_for_it() -> None:
    def sight(backend: str, model: str, context: int | None) -> ModelSight:
        config = BackendConfig(base_url="http://127.0.0.1:1/v1")
        declared = DeclaredBackend(name=backend, source="file", config=config)
        can = Capabilities(context=context)
        return ModelSight(backend=declared, model=model, declared=True, found=None, capabilities=can, price=None)

    sights = [sight("one", "big", 8_000), sight("two", "big", 4_000), sight("two", "small", None)]
    groups = {"any": Group(models=["one/big", "small"])}

    def found(model: str) -> list[tuple[str, str]]:
        return [(item.backend.name, item.model) for item in called(model, sights, groups)]

    assert found("big") == [("one", "big"), ("two", "big")]
    assert found("two/big") == [("two", "big")]
    assert found("any") == [("one", "big"), ("two", "small")]
    assert found("unknown") == []


# --- what is looked up -----------------------------------------------------------------------------------------------

SAID: list[dict[str, Any]] = [
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "second"},
    {"role": "tool", "content": "third"},
    {"role": "user", "content": [{"type": "text", "text": "fourth"}, {"type": "image_url", "image_url": {"url": "u"}}]},
]


def test_words_are_those_of_the_last_message_and_the_meaning_is_that_of_the_last_few() -> None:
    query = query_of(SAID, RecallOptions(num_search_messages=3))
    assert query is not None
    assert (query.text, query.meaning) == ("fourth", "second\n\nfourth")
    assert query_of(SAID[2:3], RecallOptions()) is None
    short = query_of([{"role": "user", "content": "a" * 150 + "b" * 150}], RecallOptions(max_query_length=200))
    assert short is not None
    assert (short.text, short.meaning) == ("a" * 150 + "b" * 50, "a" * 50 + "b" * 150)


@pytest.mark.parametrize(("mode", "alpha"), [("text", 0.0), ("vector", 1.0), ("hybrid", 0.3)])
def test_the_mode_says_how_much_meaning_counts(mode: str, alpha: float) -> None:
    options = RecallOptions.of({"mode": mode, "alpha": 0.3, "confidence": None, "unknown": 1})
    assert options.search_options["alpha"] == alpha
    assert options.search_options["confidence"] == 0.5
    assert (options.search_options["mmr_strength"] == 0) == (mode == "text")
