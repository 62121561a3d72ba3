"""The bundled embedding model: its vectors are those that its makers publish, whatever stands beside a text."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator

import pytest

from activities.backends import minilm
from activities.backends.minilm import DIMENSIONS, MOST_TOKENS, MiniLM
from engine.core.errors import BackendError


@pytest.fixture(scope="module")
def model() -> Iterator[MiniLM]:
    made = MiniLM()
    yield made
    made.close()


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_likeness_is_what_the_makers_of_the_model_publish(model: MiniLM) -> None:
    # the example in the documentation of sentence-transformers, which gives these numbers for all-MiniLM-L6-v2
    made = await model.embed(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    a, b, c = made.vectors
    found = [round(cosine(*pair), 4) for pair in ((a, b), (a, c), (b, c))]
    assert found == [0.6660, 0.1046, 0.1411]
    assert [len(vector) for vector in made.vectors] == [DIMENSIONS] * 3
    assert [math.hypot(*vector) for vector in made.vectors] == pytest.approx([1.0] * 3, abs=1e-6)
    # words, signs, and a mark at each end
    assert made.prompt_tokens == 25


@pytest.mark.parametrize(
    ("text", "paraphrase", "other"),
    [
        ("How do I get my money back?", "I want a refund.", "The train leaves at noon."),
        ("A man is playing a guitar.", "Someone plays an instrument.", "Tax law was reformed in 1986."),
        ("Der Hund schläft.", "Ein Hund schläft gerade.", "The stock market fell."),
    ],
)
async def test_a_paraphrase_is_nearer_than_something_else(
    model: MiniLM, text: str, paraphrase: str, other: str
) -> None:
    one, near, far = (await model.embed([text, paraphrase, other])).vectors
    assert cosine(one, near) > cosine(one, far) + 0.2


async def test_a_vector_does_not_depend_on_the_texts_beside_it(model: MiniLM) -> None:
    texts = [f"text number {number} " + "and more words " * (number % 40) for number in range(40)]
    whole = (await model.embed(texts)).vectors
    for number in (0, 7, 39):
        [alone] = (await model.embed([texts[number]])).vectors
        assert alone == pytest.approx(whole[number], abs=1e-6)


async def test_what_stands_behind_the_longest_text_is_left_out(model: MiniLM) -> None:
    words = " ".join(["word"] * (MOST_TOKENS - 2))
    made = await model.embed([words, f"{words} and something else entirely", words.rsplit(" ", 1)[0]])
    full, cut, shorter = made.vectors
    assert cut == pytest.approx(full, abs=1e-6)
    assert shorter != pytest.approx(full, abs=1e-6)
    assert made.prompt_tokens == 3 * MOST_TOKENS - 1


@pytest.mark.parametrize("text", ["", " ", "\0", "🜁", "\ud800", "a" * 10_000])
async def test_any_text_has_a_vector(model: MiniLM, text: str) -> None:
    [vector] = (await model.embed([text])).vectors
    assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-6)


async def test_calls_side_by_side_get_their_own_vectors(model: MiniLM) -> None:
    texts = ["apples", "pears", "plums"]
    both = await asyncio.gather(*(model.embed([text]) for text in texts))
    assert [item.vectors[0] for item in both] == [
        pytest.approx(vector, abs=1e-6) for vector in (await model.embed(texts)).vectors
    ]


async def test_without_its_weights_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "WEIGHTS_PACKAGE", "no_such_package")
    model = MiniLM()
    with pytest.raises(BackendError) as caught:
        await model.embed(["a"])
    model.close()
    assert caught.value.code == "backend.not_installed"
    assert "[routing] embed" in caught.value.hint


def test_a_worker_that_embeds_nothing_loads_none_of_it() -> None:
    assert importlib.util.find_spec("numpy") is not None
    code = "import sys, worker; print([name for name in ('numpy', 'tokenizers', 'safetensors') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
