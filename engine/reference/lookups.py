"""What the reference says of vectors and of documents that are searched."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

_FOUND: Final = {
    "id": "d1",
    "owner": None,
    "title": "Opening hours",
    "metadata": {"v": 2},
    "snippet": {"index": 0, "content": "We open at nine."},
    "score": 0.99,
    "similarity": 0.51,
}

LOOKUPS: Final = (
    Entry(
        "embed",
        Group.KIND,
        "Turns texts into vectors.",
        (
            example(
                """
                main:
                  - embed: $ _.texts
                    label: vectors
                  - evaluate: $ len(_.vectors)
                """,
                {"texts": ["We open at nine.", "Cats sleep."]},
                replies={"vectors": {"vectors": [[0.6, 0.8], [1.0, 0.0]]}},
                output=2,
                seen=(("calls[0].request.texts", ["We open at nine.", "Cats sleep."]),),
            ),
            example(
                """
                main:
                  - embed:
                      text: $ _.question
                      embed_instruction: A question about a shop.
                      model: minilm
                    label: vector
                  - search: {vector: "$ _.vectors[0]", limit: 3}
                    label: found
                """,
                {"question": "When do you open?"},
                replies={"vector": {"vectors": [[0.6, 0.8]]}, "found": {"docs": [_FOUND]}},
                output={"docs": [_FOUND]},
                seen=(("calls[1].request", {"vector": [0.6, 0.8], "options": {"limit": 3}}),),
                text="A vector can be searched with, if it is of the model that made those of the documents.",
            ),
        ),
        output="`{vectors}`, one for each text.",
        notes=(
            "`model` names a model or a group of [everstep.toml](../backends.md), and is written out: vectors of two"
            " models cannot be compared. Without it the default for [embeddings](../search.md#which-model) is asked;"
            " `minilm` is the bundled model, which needs no network.",
            "The instruction stands in front of each text, on a line of its own.",
            "Without `retry` it makes up to four attempts on errors that may pass.",
        ),
        failures=(
            failure(
                "input.rejected",
                "there is no text, or something that is none, or there are more than 1,000",
                "give a text or a list of texts",
                "main: [{embed: $ _}]",
                [1],
            ),
            failure(
                "backend.no_embeddings",
                "the provider of the backend makes no vectors, as Anthropic",
                "name a model of another backend, or set `[routing] embed`",
            ),
            failure(
                "backend.not_installed",
                "the bundled model was asked, and its weights are not installed",
                "name a model of a backend in `model` or in `[routing] embed`",
            ),
        ),
        see=("search", "prompt"),
    ),
    Entry(
        "search",
        Group.KIND,
        "Searches documents by words, by meaning, or both.",
        (
            example(
                """
                main:
                  - search: {text: $ _.question, limit: 5}
                    label: found
                  - evaluate: $ [doc.snippet.content for doc in _.docs]
                """,
                {"question": "When do you open?"},
                replies={"found": {"docs": [_FOUND]}},
                output=["We open at nine."],
            ),
            example(
                """
                main:
                  - search:
                      text: $ _.question
                      user: $ _.user
                      metadata_filter: {v: 2}
                      alpha: 0.7
                      confidence: 0.3
                      mmr_strength: 0.5
                    label: found
                """,
                {"question": "When do you open?", "user": "ana"},
                replies={"found": {"docs": []}},
                output={"docs": []},
                seen=(("calls[0].request.metadata_filter", {"v": 2}),),
                text="Meaning counts more than words here, but only if it is near enough; and what says the same twice"
                " gives way to something else.",
            ),
        ),
        output="`{docs}`, the best first: `{id, owner, title, metadata, snippet: {index, content}, score, similarity}`"
        " of each document, with the piece that fits best.",
        notes=(
            "Without `agent` and `user` the documents of the task's agent are searched; those of nobody if the task has"
            " none. How documents get there, and what each option does, says [Documents and search](../search.md).",
            "The meaning of `text` comes from the model that made the vectors of the documents. With `alpha: 0` no"
            " model is asked.",
        ),
        failures=(
            failure(
                "input.rejected",
                "there is nothing to look for, or an option is out of bounds",
                "look at the message",
                "main: [{search: $ _}]",
                " ",
            ),
            failure(
                "search.dimensions",
                "the vector is not as long as those of the documents",
                "make it with the model of the documents",
            ),
            failure("search.unavailable", "the store does not answer; tried again", "`everstep doctor`"),
        ),
        see=("embed",),
    ),
)
