"""What the reference says of words that the language has, and that this version plans and does not run."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example

LATER: Final = (
    Entry(
        "agent",
        Group.KIND,
        "Lets a model use tools, round after round, until it answers without asking for one.",
        (
            example(
                """
                tools:
                  - name: find_flights
                    type: api_call
                    api_call: {method: GET, url: "https://flights.example/find"}
                  - name: book_flight
                    type: api_call
                    idempotent: true
                    api_call: {method: POST, url: "https://flights.example/book"}
                main:
                  - agent: "Find a flight to {{ _.city }} and book it."
                    tools: [find_flights, book_flight]
                    rules:
                      find_flights: {first: true}
                      book_flight: {at_most: 1, approve: true}
                    max_rounds: 10
                    unwrap: true
                """,
                is_later=True,
            ),
        ),
        output="The last reply: its text or object with `unwrap`, else the whole of it, as of a prompt.",
        see=("prompt", "tool"),
        is_later=True,
    ),
    Entry(
        "embed",
        Group.KIND,
        "Turns texts into vectors.",
        (example("main: [{embed: $ _.texts}]", is_later=True),),
        output="`{vectors}`, one for each text.",
        see=("search",),
        is_later=True,
    ),
    Entry(
        "search",
        Group.KIND,
        "Searches documents by words, by meaning, or both.",
        (example("main: [{search: {text: $ _.question, limit: 5}}]", is_later=True),),
        output="`{docs}`, the best first.",
        see=("embed",),
        is_later=True,
    ),
    Entry(
        "cache",
        Group.MODIFIER,
        "Takes an output that is known already instead of running the step again.",
        (
            example(
                """
                main:
                  - prompt: "What is {{ _ }}?"
                    unwrap: true
                    cache: {ttl: 1h, key: $ _.lower()}
                """,
                is_later=True,
            ),
        ),
        notes=("It is looked at after `when` and before all other modifiers.",),
        see=("retry",),
        is_later=True,
    ),
)
