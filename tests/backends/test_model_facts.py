"""What lists of models tell of each model, in the shapes of several providers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.backends.facts import facts_in, facts_of_ollama
from activities.backends.ollama_models import ModelFacts
from engine.settings import Capabilities

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "models", "id", "name", "meta", "capabilities", "context_length"]), inner
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("item", "known"),
    [
        ({"id": "m", "max_model_len": 4096}, {"context": 4096}),
        ({"id": "m", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}, {"context": 2048}),
        ({"id": "m", "meta": {"n_ctx_train": 8192}}, {"context": 8192}),
        (
            {
                "id": "m",
                "context_length": 131072,
                "architecture": {"input_modalities": ["text", "image"]},
                "supported_parameters": ["tools", "temperature"],
            },
            {"context": 131072, "tools": True, "json_schema": False, "vision": True},
        ),
        ({"id": "m", "context_window": 8192}, {"context": 8192}),
        (
            {
                "id": "m",
                "max_context_length": 32768,
                "capabilities": {"completion_chat": True, "function_calling": False},
            },
            {"context": 32768, "chat": True, "tools": False},
        ),
        (
            {"name": "models/m", "inputTokenLimit": 1048576, "supportedGenerationMethods": ["generateContent"]},
            {"context": 1048576, "chat": True, "embed": False},
        ),
    ],
)
def test_a_list_tells_what_models_can_do(item: dict[str, Any], known: dict[str, Any]) -> None:
    place = "models" if "name" in item else "data"
    told = facts_in({place: [item]})
    assert told == {"m": {"capabilities": known}}
    Capabilities.model_validate(told["m"]["capabilities"])


def test_a_plain_list_tells_nothing() -> None:
    assert facts_in({"data": [{"id": "m", "object": "model", "owned_by": "x"}]}) == {}


@given(JSON)
def test_no_list_is_too_strange(body: Any) -> None:
    for told in facts_in(body).values():
        Capabilities.model_validate(told["capabilities"])


def test_an_ollama_server_tells_more() -> None:
    told = facts_of_ollama(ModelFacts(frozenset({"completion", "vision"}), 8192, "8.0B", "Q4_K_M"))
    assert told["capabilities"] == {"chat": True, "tools": False, "vision": True, "embed": False, "context": 8192}
    assert (told["parameter_size"], told["quantization"]) == ("8.0B", "Q4_K_M")


def test_an_old_ollama_server_leaves_open_what_it_does_not_tell() -> None:
    assert facts_of_ollama(ModelFacts(frozenset(), None, "", "")) == {"capabilities": {}}
