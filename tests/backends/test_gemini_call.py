"""What the Gemini adapter sends: the address and the body of a call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.gemini_call import call_path
from activities.backends.gemini_contents import UNSIGNED, NoWord
from tests.backends.gemini_words import LOOK, SCHEMA, STOP, call_of, said, sent

# --- the conversation ------------------------------------------------------------------------------------------------


def test_a_plain_question_is_one_turn_and_nothing_else() -> None:
    assert sent() == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


def test_system_messages_become_the_system_instruction_wherever_they_stand() -> None:
    messages = [
        said("system", "Be brief."),
        said("user", "Hi"),
        said("developer", [{"type": "text", "text": "Rhyme."}]),
    ]
    assert sent(messages=messages) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Rhyme."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    }


def test_a_lone_system_message_is_what_is_to_be_answered() -> None:
    assert sent(messages=[said("system", "Tell a joke.")]) == {
        "contents": [{"role": "user", "parts": [{"text": "Tell a joke."}]}]
    }


def test_turns_of_one_role_are_joined_and_empty_ones_left_out() -> None:
    messages = [said("user", "a"), said("assistant", ""), said("user", "b"), said("assistant", None), said("user", "c")]
    assert sent(messages=messages)["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}, {"text": "c"}]}
    ]


def test_tool_calls_and_their_results_keep_names_ids_and_order() -> None:
    messages = [
        said("user", "What is it?"),
        said("assistant", "I look.", tool_calls=[call_of("c1"), call_of("c2", "stop", "")]),
        said("tool", '{"color": "red", "n": [1]}', tool_call_id="c1"),
        said("tool", [{"type": "text", "text": "[1, "}, {"type": "text", "text": "2]"}], tool_call_id="c2"),
        said("user", "So?"),
    ]
    assert sent(messages=messages)["contents"] == [
        {"role": "user", "parts": [{"text": "What is it?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {"functionCall": {"name": "look", "args": {"at": "a"}, "id": "c1"}},
                {"functionCall": {"name": "stop", "args": {}, "id": "c2"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "id": "c1", "response": {"color": "red", "n": [1]}}},
                {"functionResponse": {"name": "stop", "id": "c2", "response": {"output": "[1, 2]"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "So?"}]},
    ]


@pytest.mark.parametrize("text", ["red", "7", "", '{"n": NaN}', '{"half": '])
def test_a_result_that_is_no_object_is_given_word_for_word(text: str) -> None:
    messages = [said("assistant", None, tool_calls=[call_of("c1")]), said("tool", text, tool_call_id="c1")]
    part = sent(messages=messages)["contents"][1]["parts"][0]
    assert part["functionResponse"]["response"] == {"output": text}


def test_an_image_that_a_tool_returns_stands_inside_its_result() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    parts = [{"type": "text", "text": "here"}, image]
    messages = [said("assistant", None, tool_calls=[call_of("c1")]), said("tool", parts, tool_call_id="c1")]
    assert sent(messages=messages)["contents"][1]["parts"] == [
        {
            "functionResponse": {
                "name": "look",
                "id": "c1",
                "response": {"output": "here"},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "QUJD"}}],
            }
        }
    ]


def test_the_last_call_of_an_id_names_the_tool_of_its_result() -> None:
    messages = [
        said("assistant", None, tool_calls=[call_of("call_0", "look")]),
        said("tool", "a", tool_call_id="call_0"),
        said("assistant", None, tool_calls=[call_of("call_0", "stop")]),
        said("tool", "b", tool_call_id="call_0"),
    ]
    contents = sent(messages=messages)["contents"]
    assert [contents[number]["parts"][0]["functionResponse"]["name"] for number in (1, 3)] == ["look", "stop"]


def test_a_signature_goes_back_with_its_call() -> None:
    signed = call_of("c1", extra_content={"google": {"thought_signature": "c2ln"}})
    parts = sent(model="gemini-3-pro", messages=[said("assistant", None, tool_calls=[signed, call_of("c2")])])
    first, second = parts["contents"][0]["parts"]
    assert first["thoughtSignature"] == "c2ln"
    assert first["functionCall"]["id"] == "c1"
    assert "thoughtSignature" not in second


@pytest.mark.parametrize(
    ("model", "marked"),
    [("gemini-3-flash", True), ("gemini-flash-latest", True), ("gemini-2.5-pro", False), ("m", False)],
)
def test_calls_that_nobody_signed_are_marked_for_models_that_insist(model: str, marked: bool) -> None:
    messages = [said("assistant", None, tool_calls=[call_of("c1"), call_of("c2")])]
    first, second = sent(model=model, messages=messages)["contents"][0]["parts"]
    assert first.get("thoughtSignature") == (UNSIGNED if marked else None)
    assert "thoughtSignature" not in second


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("data:image/png;base64,QUJD", {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}),
        (
            "data:image/svg+xml;charset=utf-8,%3Cg/%3E",
            {"inlineData": {"mimeType": "image/svg+xml", "data": "PGcvPg=="}},
        ),
        ("data:,hi", {"inlineData": {"mimeType": "text/plain", "data": "aGk="}}),
        ("https://x.test/a.png?b=1", {"fileData": {"fileUri": "https://x.test/a.png?b=1", "mimeType": "image/png"}}),
        ("https://x.test/v1beta/files/abc", {"fileData": {"fileUri": "https://x.test/v1beta/files/abc"}}),
        ("gs://bucket/a.jpg", {"fileData": {"fileUri": "gs://bucket/a.jpg", "mimeType": "image/jpeg"}}),
    ],
)
def test_images_are_given_inline_or_by_address(url: str, part: Any) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]
    assert sent(messages=[said("user", parts)])["contents"][0]["parts"] == [part]


def test_sound_and_files_are_given_inline() -> None:
    parts = [
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
    ]
    assert sent(messages=[said("user", parts)])["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "audio/mp3", "data": "QUJD"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "QUJD"}},
    ]


# --- tools, settings, schema -----------------------------------------------------------------------------------------


def test_tools_are_declared_with_their_whole_schema() -> None:
    assert sent(tools=[LOOK, STOP])["tools"] == [
        {
            "functionDeclarations": [
                {"name": "look", "description": "Look it up.", "parametersJsonSchema": SCHEMA},
                {"name": "stop"},
            ]
        }
    ]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "look"}}, {"mode": "ANY", "allowedFunctionNames": ["look"]}),
    ],
)
def test_a_tool_choice_is_a_mode(choice: Any, config: Any) -> None:
    assert sent(tools=[LOOK], tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}


def test_without_tools_or_a_choice_nothing_is_said_of_calling() -> None:
    assert "toolConfig" not in sent(tool_choice="required")
    assert "toolConfig" not in sent(tools=[LOOK])


def test_settings_are_said_in_googles_words() -> None:
    settings = {
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 3,
        "max_tokens": 9,
        "stop": "END",
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "n": 1,
        "logprobs": True,
        "top_logprobs": 2,
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "generationConfig": {"enableEnhancedCivicAnswers": True},
        "safetySettings": [{"category": "c", "threshold": "OFF"}],
        "user": "somebody",
        "parallel_tool_calls": True,
        "seldom": None,
    }
    assert sent(settings=settings) == {
        "safetySettings": [{"category": "c", "threshold": "OFF"}],
        "generationConfig": {
            "temperature": 0,
            "topP": 0.9,
            "topK": 3,
            "maxOutputTokens": 9,
            "stopSequences": ["END"],
            "seed": 7,
            "presencePenalty": 0.1,
            "frequencyPenalty": 0.2,
            "candidateCount": 1,
            "responseLogprobs": True,
            "logprobs": 2,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "enableEnhancedCivicAnswers": True,
        },
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
    }


def test_no_setting_replaces_conversation_tools_choice_or_schema() -> None:
    settings = {
        "contents": [],
        "systemInstruction": {"parts": [{"text": "no"}]},
        "responseSchema": {"type": "STRING"},
        "responseMimeType": "text/plain",
        "generationConfig": {"responseJsonSchema": {"type": "string"}},
        "stream": False,
    }
    assert sent(settings=settings, output_schema=SCHEMA) == {
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
    }
    own = {
        "tools": [{"googleSearch": {}}],
        "toolConfig": {"functionCallingConfig": {"mode": "NONE"}, "retrievalConfig": {"languageCode": "de"}},
        "tool_choice": "none",
    }
    body = sent(settings=own, tools=[STOP], tool_choice="required")
    assert body["tools"] == [{"googleSearch": {}}, {"functionDeclarations": [{"name": "stop"}]}]
    assert body["toolConfig"] == {
        "retrievalConfig": {"languageCode": "de"},
        "functionCallingConfig": {"mode": "ANY"},
    }


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-3-flash", "minimal", {"thinkingLevel": "minimal"}),
        ("gemini-3.1-pro-preview", "high", {"thinkingLevel": "high"}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "medium", {"thinkingBudget": 8192}),
    ],
)
def test_an_effort_is_a_level_or_a_budget_by_the_age_of_the_model(model: str, effort: str, thinking: Any) -> None:
    settings = {"thinkingConfig": {"includeThoughts": True}, "reasoning_effort": effort}
    config = sent(model=model, settings=settings)["generationConfig"]
    assert config == {"thinkingConfig": {"includeThoughts": True, **thinking}}


def test_beside_tools_the_schema_of_the_reply_is_an_instruction() -> None:
    body = sent(tools=[LOOK], output_schema=SCHEMA, messages=[said("system", "Be brief."), said("user", "Hi")])
    brief, instruction = body["systemInstruction"]["parts"]
    assert brief == {"text": "Be brief."}
    assert json.dumps(SCHEMA, separators=(",", ":")) in instruction["text"]
    assert "generationConfig" not in body


@pytest.mark.parametrize(
    ("wanted", "config"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"responseMimeType": "application/json"}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
            {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
        ),
    ],
)
def test_a_response_format_is_understood(wanted: Any, config: Any) -> None:
    assert sent(settings={"response_format": wanted}).get("generationConfig") == config


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"messages": [said("function", "x")]}, "function"),
        ({"messages": [said("user", 7)]}, "message 0"),
        ({"messages": [said("user", [{"type": "video_url"}])]}, "video_url"),
        ({"messages": [said("user", [{"type": "image_url", "image_url": {"url": "http://x.test/a"}}])]}, "http://"),
        ({"messages": [said("user", [{"type": "image_url", "image_url": {"url": "data:x"}}])]}, "data:x"),
        ({"messages": [said("system", [{"type": "image_url", "image_url": {"url": "https://x"}}])]}, "system"),
        ({"messages": [said("tool", "x", tool_call_id="c9")]}, "c9"),
        ({"messages": [said("assistant", None, tool_calls=[call_of("c", arguments="[1]")])]}, "look"),
        ({"messages": [said("assistant", None, tool_calls=[call_of("c", arguments="{")])]}, "look"),
        ({"settings": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ({"settings": {"parallel_tool_calls": False}}, "parallel_tool_calls"),
        ({"settings": {"reasoning_effort": "extreme"}}, "extreme"),
        ({"settings": {"response_format": {"type": "grammar"}}}, "grammar"),
        ({"settings": {"responseModalities": ["TEXT", "IMAGE"]}}, "text"),
        ({"tools": [LOOK], "tool_choice": "perhaps"}, "perhaps"),
    ],
)
def test_what_gemini_has_no_word_for_is_named(params: Any, words: str) -> None:
    with pytest.raises(NoWord, match=r".") as caught:
        sent(**params)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "/models/gemini-2.5-flash"),
        ("tunedModels/mine-1", "/tunedModels/mine-1"),
        ("publishers/google/models/gemini-2.5-pro", "/publishers/google/models/gemini-2.5-pro"),
        ("odd?key#name", "/models/odd%3Fkey%23name"),
    ],
)
def test_the_model_stands_in_the_address(model: str, path: str) -> None:
    assert call_path(model) == f"{path}:streamGenerateContent?alt=sse"


@pytest.mark.parametrize("model", ["../files/x", "models/../../x", "tunedModels/", "a//b"])
def test_no_model_name_leads_elsewhere(model: str) -> None:
    with pytest.raises(NoWord, match="no model whose name"):
        call_path(model)
