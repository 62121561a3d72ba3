"""Models without tool calls or schemas: what they are told in words, and how what they say is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.structured import json_in
from activities.tool_mode import Wording
from engine.core.contracts.activities import ChatParams, ChatResult, Wants
from engine.settings import Capabilities
from tests.backends.adapters import scripted
from tests.backends.loopback import chat_params

POOR = Capabilities(tools=False, json_schema=False)
PLAIN = Capabilities(tools=False)
LOOK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
}
CALL = {"tool_calls": [{"name": "look", "arguments": {"at": "x"}}, {"name": "look", "arguments": {"at": "y"}}]}
MOOD = {"type": "object", "required": ["mood"], "properties": {"mood": {"enum": ["happy", "angry"]}}}


def replied(text: str) -> ChatResult:
    return ChatResult(
        id="1",
        model="m",
        backend="b",
        created=0,
        message={"role": "assistant", "content": text},
        finish_reason="stop",
    )


def read(text: str, known: Capabilities = POOR, **params: Any) -> ChatResult:
    """Return what a text of a model means."""
    return Wording(chat_params(**{"tools": [LOOK], **params}), known).read(replied(text))


def calls_of(result: ChatResult) -> list[tuple[str, Any]]:
    made = result.message.get("tool_calls") or []
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in made]


# --- what is sent ----------------------------------------------------------------------------------------------------


def sent(known: Capabilities = POOR, **params: Any) -> ChatParams:
    return Wording(chat_params(**{"tools": [LOOK], **params}), known).sent


def test_tools_are_described_behind_the_authors_own_system_message() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is at x?"}]
    said = sent(messages=messages, settings={"parallel_tool_calls": True, "temperature": 0})
    assert (said.tools, said.tool_choice, said.settings) == ([], None, {"temperature": 0})
    first, second = said.messages
    assert first["role"] == "system"
    assert first["content"].startswith("Be brief.\n\nYou can use tools.")
    assert json.dumps(LOOK["function"], separators=(",", ":")) in first["content"]
    assert second == messages[1]


def test_without_a_system_message_there_is_one_now() -> None:
    assert [message["role"] for message in sent().messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (None, "only if you need it"),
        ("auto", "only if you need it"),
        ("required", "must use a tool now"),
        ({"type": "function", "function": {"name": "look"}}, "must use the tool look now"),
    ],
)
def test_whether_a_tool_must_be_used_is_said(choice: Any, words: str) -> None:
    assert words in sent(tool_choice=choice).messages[0]["content"]


def test_a_call_that_may_use_no_tool_is_told_of_none() -> None:
    said = sent(tool_choice="none")
    assert (said.tools, len(said.messages)) == ([], 1)


def test_earlier_calls_and_their_results_become_text() -> None:
    messages = [
        {"role": "user", "content": "What is at x and y?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}},
                {"id": "c2", "type": "function", "function": {"name": "look", "arguments": '{"at":"y"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "red"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "blue"}]},
    ]
    told = [
        messages[0],
        {"role": "assistant", "content": json.dumps(CALL, separators=(",", ":"))},
        {"role": "user", "content": "Result of look:\nred\n\nResult of look:\nblue"},
    ]
    assert sent(messages=messages).messages[1:] == told
    # also where the last round offers no tools any more
    assert sent(messages=messages, tools=[]).messages == told
    assert sent(messages=messages, tool_choice="none").messages == told
    # and not for a model that has tool calls
    assert sent(Capabilities(), messages=messages).messages == messages


def test_a_model_that_can_be_bound_to_a_schema_is_bound_to_that_of_an_answer() -> None:
    schema = sent(PLAIN).output_schema
    assert isinstance(schema, dict)
    use, reply = schema["anyOf"]
    assert use["properties"]["tool_calls"]["items"]["properties"]["name"] == {"type": "string", "enum": ["look"]}
    assert reply["properties"] == {"reply": {"type": "string"}}
    bound = sent(PLAIN, output_schema=MOOD).output_schema
    assert isinstance(bound, dict)
    assert bound["anyOf"][1]["properties"] == {"reply": MOOD}
    forced = sent(PLAIN, tool_choice="required", settings={"parallel_tool_calls": False}).output_schema
    assert isinstance(forced, dict)
    assert forced["properties"]["tool_calls"]["maxItems"] == 1
    assert sent(POOR).output_schema is None


def test_the_mode_of_the_step_comes_before_what_is_known_of_the_model() -> None:
    assert sent(Capabilities(tools=True), wants=Wants(tool_mode="json")).tools == []
    assert sent(PLAIN, wants=Wants(tool_mode="native")).tools == [LOOK]
    assert sent(Capabilities()).tools == [LOOK]
    assert sent(Capabilities(tools=True)).tools == [LOOK]


def test_a_schema_that_cannot_bind_a_model_is_told_in_words() -> None:
    said = sent(Capabilities(json_schema=False), tools=[], output_schema=MOOD)
    assert said.output_schema is None
    assert json.dumps(MOOD, separators=(",", ":")) in said.messages[0]["content"]
    assert sent(Capabilities(), tools=[], output_schema=MOOD).output_schema == MOOD


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CALL),
        f"```json\n{json.dumps(CALL, indent=2)}\n```",
        f"I look it up [twice].\n{json.dumps(CALL)}\nThat is all.",
    ],
    ids=["alone", "fenced", "within a text"],
)
def test_tool_calls_are_read_wherever_they_stand(text: str) -> None:
    result = read(text)
    assert calls_of(result) == [("look", {"at": "x"}), ("look", {"at": "y"})]
    assert (result.finish_reason, result.message["content"]) == ("tool_calls", None)


def test_one_call_that_stands_alone_and_arguments_that_are_text_are_taken() -> None:
    assert calls_of(read('{"tool_calls": {"name": "look", "arguments": "{\\"at\\": 1}"}}')) == [("look", {"at": 1})]


def test_the_same_call_has_the_same_ids_and_another_one_others() -> None:
    def ids(**params: Any) -> list[str]:
        return [call["id"] for call in read(json.dumps(CALL), **params).message["tool_calls"]]

    assert ids() == ids()
    assert len({*ids(), *ids(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])}) == 4


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"reply": "It is red."}', "It is red."),
        ("It is red.", "It is red."),
        ('{"other": 1}', '{"other": 1}'),
        ('{"tool_calls": [], "reply": "none needed"}', "none needed"),
        ('{"tool_calls": [{"arguments": {}}], "reply": "x"}', "x"),
    ],
)
def test_a_reply_is_its_text_and_what_is_none_in_the_agreed_way_stays(text: str, content: str) -> None:
    result = read(text)
    assert result.message == {"role": "assistant", "content": content}
    assert result.finish_reason == "stop"


def test_a_structured_reply_beside_tools_is_its_json() -> None:
    result = read('Here: {"reply": {"mood": "happy"}}', output_schema=MOOD)
    assert result.message["content"] == '{"mood":"happy"}'
    text = read('{"reply": "happy"}', output_schema={"type": "string"})
    assert text.message["content"] == '"happy"'


def test_a_call_for_no_tool_reads_none() -> None:
    assert calls_of(read(json.dumps(CALL), tool_choice="none")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"mood": "happy"}', '{"mood": "happy"}'),
        ('Sure!\n```json\n{"mood": "happy"}\n```\nAnything else?', '{"mood": "happy"}'),
        ('He writes {"text": 1}, so {"mood": "angry"} it is.', '{"mood": "angry"}'),
        ('It is {"mood": "sad"} for sure', '{"mood": "sad"}'),
        ("[1, 2] {mood}", "[1, 2]"),
        ("no {json} here", None),
        ("[" * 10_000, None),
        # with a pattern that tries blanks over and over this would take hours
        ("```json\n{" + " " * 2_000_000, None),
    ],
)
def test_the_json_in_a_text_is_found_and_the_one_that_fits_taken(text: str, found: str | None) -> None:
    assert json_in(text, MOOD) == found


def test_a_structured_reply_is_cut_out_of_the_words_around_it_whoever_says_it() -> None:
    params = chat_params(output_schema=MOOD)
    for known in (Capabilities(), POOR):
        result = Wording(params, known).read(replied('Sure: {"mood": "happy"}'))
        assert result.message["content"] == '{"mood": "happy"}'
    assert Wording(params, POOR).read(replied("no idea")).message["content"] == "no idea"


# --- with a server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openai", "responses", "anthropic", "gemini", "ollama"])
async def test_readers_see_the_reply_and_never_the_json_around_it(kind: str) -> None:
    rules = (
        {"match": "tool", "json": CALL, "stream": {"chunk_chars": 3}},
        {"json": {"reply": "It is red."}, "stream": {"chunk_chars": 3}},
    )
    used = [("tool_call", text) for text in ("look", '{"at":"x"}', "look", '{"at":"y"}')]
    async with scripted(kind, *rules) as (backend, app):
        for text, seen in (("use a tool", used), ("answer", [("content", "It is red.")])):
            told: list[tuple[str, str]] = []
            wording = Wording(chat_params(text, tools=[LOOK]), PLAIN)
            tell = wording.tell(lambda what, piece, call, member, told=told: told.append((what, piece)))  # type: ignore[misc]
            wording.read(await backend.chat(wording.sent, tell))
            assert [item for item in told if item[1]] == seen
        assert all("tools" not in call["body"] for call in app.calls)
