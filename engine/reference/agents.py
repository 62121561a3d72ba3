"""What the reference says of agents: a model that uses tools, turn after turn."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

_FLIGHTS: Final = """
    tools:
      - name: find_flights
        type: api_call
        api_call: {method: GET, url: "https://flights.example/find"}
      - name: book_flight
        type: api_call
        idempotent: true
        api_call: {method: POST, url: "https://flights.example/book"}
    main:
      - label: travel
        agent: "Find a flight to {{ _.city }} and book it."
        tools: [find_flights, book_flight]
        rules:
          find_flights: {first: true}
          book_flight: {at_most: 1, approve: true}
        max_rounds: 10
        unwrap: true
    """
_LONG: Final = """
    main:
      - label: look
        agent: Look it up.
        tools: [{name: look_up, description: Look something up., parameters: {type: object}}]
    """

AGENTS: Final = (
    Entry(
        "agent",
        Group.KIND,
        "Lets a model use tools, round after round, until it answers without asking for one.",
        (
            example(
                _FLIGHTS,
                {"city": "Oslo"},
                replies={
                    "travel": [
                        {"$calls": [{"find_flights": {"params": {"to": "Oslo"}}}]},
                        {"$calls": [{"book_flight": {"json": {"flight": "XY 1"}}}]},
                        "You fly with XY 1.",
                    ],
                    "find_flights": {"status_code": 200, "json": ["XY 1"]},
                    "book_flight": {"status_code": 201, "json": {"seat": "7A"}},
                },
                answers=[{"approved": True}],
                output="You fly with XY 1.",
                seen=(
                    ("[call.name for call in calls if call.kind == 'tool']", ["find_flights", "book_flight"]),
                    ("[len(call.request.tools) for call in calls if call.kind == 'prompt']", [1, 2, 1]),
                ),
                text="`book_flight` waits for a person, and is offered no more once it was called.",
            ),
            example(
                """
                main:
                  - label: plan
                    agent: "What does {{ _.guest }} eat?"
                    instructions: You plan dinners. Ask the guest where you are not sure.
                    tools:
                      - name: ask_guest
                        description: Ask the guest.
                        parameters: {type: object, properties: {question: {type: string}}, required: [question]}
                    output_schema: {type: object, properties: {dish: {type: string}}, required: [dish]}
                    on_overflow: summarise
                    unwrap: true
                """,
                {"guest": "Ada"},
                replies={
                    "plan": [
                        {"$calls": [{"ask_guest": {}}]},
                        {"$calls": [{"ask_guest": {"question": "Fish?"}}]},
                        '{"dish": "soup"}',
                    ]
                },
                answers=["no fish"],
                output={"dish": "soup"},
                seen=(("len(waits)", 0),),
                text="A function is run by the client: the execution waits, and the answer is the result. Arguments"
                " that do not fit reach nobody: the model is told what is wrong with them.",
            ),
        ),
        output=(
            "With `unwrap` the text of the last reply, or the parsed object if there is an `output_schema`, or the"
            " result of the tool that ended the loop (`ends`). Without it the last reply as of a prompt, and beside it"
            " `turns`, `total_usage` of all replies together, `messages` that came after those it began with, and"
            " `ended_by` (`tool`, `output`) if a tool ended the loop."
        ),
        notes=(
            "Each turn is a block `turn[0]`, `turn[1]`, … of steps: `.0` asks the model, `.1` makes the tool calls of"
            " its reply at the same time, at most `parallelism` at once. A crash repeats none that has ended, and a"
            " call that is made again carries the same idempotency key.",
            "A tool that fails, whose arguments do not fit, that is not offered, that the rules forbid or a person"
            " denies, ends nothing: the model is told so (`{error: {code, message}}`) and goes on. Tools that may be"
            " repeated are tried again first, as in a `tool` step; others are not.",
            "`retry` and `timeout` are those of each question to the model, `total_timeout` and `on_error` those of the"
            " whole step. In the last of `max_rounds` no tools are called but one that ends the loop.",
            "Where a rule says what must come next, only that is offered and the model has to call it; `_` in a"
            " condition of `next` is the result of the call before (`{error}` if it failed). If the model wants to end"
            " without what is `required`, it is told so; a call that a person denied counts as made there.",
            "Who approves a call answers `{approved, arguments?, reason?, remember?}`: other arguments take the place"
            " of the model's, the reason is told to the model, and `remember` decides all later calls of the tool in"
            " the execution.",
            "When the conversation outgrows the model, `truncate` leaves the oldest turns out and `summarise` lets the"
            " model sum them up in a step of its own; instructions, the first message and the last turn stay.",
            "With tools on offer, `output_schema` is asked for in words; a reply that does not fit is asked for again"
            " without tools, by the backend's own means.",
        ),
        failures=(
            failure(
                "agent.max_rounds",
                "the model still asks for tools, or leaves out what is `required`, after `max_rounds`",
                "raise `max_rounds`, or say in the instructions when to stop",
                _LONG.replace("agent: Look it up.", "agent: Look it up.\n        max_rounds: 1"),
                replies={"look": {"$calls": [{"look_up": {}}]}},
            ),
            failure(
                "backend.context_too_long",
                "the conversation has outgrown the model, or nothing more can be left out",
                "set `on_overflow`, or take a model that reads more",
                _LONG,
                replies={"look": {"$error": "backend.context_too_long"}},
            ),
        ),
        see=("prompt", "tool"),
    ),
)
