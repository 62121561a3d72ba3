"""What the reference says of the steps that call something: a model, a tool, a sub-workflow."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

CALLS: Final = (
    Entry(
        "prompt",
        Group.KIND,
        "Asks a language model.",
        (
            example(
                """
                main:
                  - label: greet
                    prompt: "Say hello to {{ _.name }} in one short sentence."
                    settings: {temperature: 0, max_tokens: 30}
                    unwrap: true
                """,
                {"name": "Ada"},
                replies={"greet": "Hello Ada!"},
                output="Hello Ada!",
                seen=(
                    (
                        "calls[0].request.messages",
                        [{"role": "user", "content": "Say hello to Ada in one short sentence."}],
                    ),
                ),
                text="A text is one message of the user.",
            ),
            example(
                """
                main:
                  - label: read
                    prompt:
                      - {role: system, content: Read the customer's mood.}
                      - {role: user, content: "{{ _ }}"}
                    output_schema:
                      type: object
                      required: [mood]
                      properties: {mood: {enum: [happy, angry]}}
                    unwrap: true
                  - evaluate: $ _.mood
                """,
                "Never again!",
                replies={"read": ["The customer is angry.", '{"mood": "angry"}']},
                output="angry",
                seen=(("[call.reply for call in calls]", ["The customer is angry.", '{"mood": "angry"}']),),
                text="With `output_schema` the reply becomes data; one that does not fit is sent back with what is"
                " wrong.",
            ),
            example(
                """
                main:
                  - label: greet
                    prompt: hello
                  - evaluate: {text: "$ _.choices[0].message.content", tokens: $ _.usage.total_tokens}
                """,
                replies={"greet": {"$reply": "Hi!", "$tokens": 3}},
                output={"text": "Hi!", "tokens": 3},
                text="Without `unwrap` the output is the whole reply.",
            ),
            example(
                """
                main:
                  - label: describe
                    prompt:
                      - role: user
                        content:
                          - {type: text, text: What is this?}
                          - {type: image_url, image_url: {url: $ _.picture}}
                    model: [fast, claude/claude-haiku-4-5, smollm2]
                    needs: {context: 16000, max_price: 5}
                    unwrap: true
                """,
                {"picture": "https://pictures.example/1.png"},
                replies={"describe": "A cat."},
                output="A cat.",
                seen=(("calls[0].request.models", ["fast", "claude/claude-haiku-4-5", "smollm2"]),),
                text="A list of models and groups is asked in order: the next one if the one before cannot answer now."
                " Those that do not meet the needs are passed over; here also those that read no images.",
            ),
        ),
        output=(
            "With `unwrap: true` the text of the reply, or the parsed object if there is an `output_schema`. Without"
            " it the whole reply in the shape of an OpenAI chat completion: text in `_.choices[0].message.content`,"
            " parsed object in `_.choices[0].message.parsed`, `_.usage`, `_.model`. Of `_.usage`, `cached_tokens`,"
            " `cache_write_tokens` and `reasoning_tokens` are there only if there are some."
        ),
        notes=(
            "Roles are system, user, assistant, tool and developer. If a message list has no system message and the"
            " task belongs to an agent, the agent's instructions come first.",
            "`tools` are offered to the model, and the calls it asks for stand in"
            " `_.choices[0].message.tool_calls`; the step does not run them. With `auto_run_tools: true` it does, and"
            " asks the model again until it calls none: it is an [`agent`](#agent) step then.",
            "`model` names a model, a group of [everstep.toml](../backends.md#several-backends-for-a-model), or several"
            " of both in order of preference; each name may be computed, and so may the list. Names that no backend has"
            " are passed over as long as another one is left.",
            "Needs hold for whoever answers: what is not known of a model counts as yes, but a price. Messages with"
            " images need a model that reads images by themselves. A step that names no model asks the default one, or"
            " any other that meets its needs if that does not.",
            "With `tool_mode: json` the tools are described in the system message, and JSON in the reply becomes"
            " `tool_calls` as those of other models; so it is with `auto` where a model is known to have none.",
            "Without `retry` it makes up to four attempts on errors that may pass; one attempt takes at most ten"
            " minutes, or `timeout`.",
        ),
        failures=(
            failure(
                "backend.bad_reply",
                "the reply does not fit `output_schema`, also after `repair` rounds",
                "raise `max_tokens` if the message says that the reply was cut off; else simplify the schema, or take a"
                " stronger model",
                "main: [{label: ask, prompt: x, output_schema: {type: object}, repair: 1}]",
                replies={"ask": "no"},
            ),
            failure(
                "backend.tool_calls",
                "`unwrap` meets a reply that only asks for tools",
                "leave `unwrap` out and look at `tool_calls`",
                "main: [{label: ask, prompt: x, unwrap: true, tools: [{name: look, description: Look}]}]",
                replies={
                    "ask": {
                        "$message": {
                            "content": None,
                            "tool_calls": [
                                {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
                            ],
                        }
                    }
                },
            ),
            failure(
                "input.rejected",
                "a computed prompt is no text and no list of messages",
                "give `{role, content}` objects",
                "main: [{prompt: $ _}]",
                {"text": "x"},
            ),
            failure(
                "backend.none_configured",
                "the operator has set up no model",
                "name one under `[backends]` in everstep.toml, or set `OPENAI_API_KEY`",
            ),
            failure("backend.unknown_model", "no backend has that model", "see `models` in everstep.toml"),
            failure(
                "backend.no_candidate",
                "none of the models meets the needs; the message says what each of them lacks",
                "name other models, ask for less in `needs`, or correct `capabilities` and `prices` in everstep.toml",
            ),
            failure("backend.timeout", "the model took too long; tried again", "raise `timeout`, lower `max_tokens`"),
            failure("backend.unreachable", "the backend cannot be reached; tried again", "`everstep doctor`"),
        ),
        see=("check", "retry", "timeout"),
    ),
    Entry(
        "tool",
        Group.KIND,
        "Calls a tool: a Python function of yours, or a service over HTTP.",
        (
            example(
                """
                main:
                  - label: count
                    tool: count_words
                    arguments: {text: $ _.text}
                  - evaluate: "{{ _ }} words"
                """,
                {"text": "Ada wrote the first program of all."},
                tools="""
                from engine import tool


                @tool(effect="none")
                def count_words(text: str) -> int:
                    \"\"\"Count the words of a text.\"\"\"
                    return len(text.split())
                """,
                output="7 words",
            ),
            example(
                """
                tools:
                  - name: get_weather
                    type: api_call
                    api_call: {method: GET, url: "https://weather.example/now"}
                main:
                  - tool: get_weather
                    arguments: {params: {city: $ _.city}}
                  - evaluate: $ _.json.temperature
                """,
                {"city": "Oslo"},
                replies={"get_weather": {"status_code": 200, "headers": {}, "json": {"temperature": -3}}},
                output=-3,
            ),
        ),
        output=(
            "What the tool gives: the value of a Python function; of an `api_call` `{status_code, headers, json,"
            " content}`, where `json` is null unless the body is JSON."
        ),
        notes=(
            "Without `arguments` the step's input `_` is passed on, which must be an object, or null for none.",
            "`secrets.NAME` in the arguments is a reference to a [secret](../secrets.md), which the worker looks up"
            " right before the call.",
            "The arguments are checked against the tool's schema before it is called; what is written out is checked"
            " before the task is accepted.",
            "How often a call may be repeated depends on the tool's `effect` and `idempotent`: see"
            " [tools](tools.md#effect-and-idempotent).",
        ),
        failures=(
            failure(
                "tool.bad_arguments",
                "the arguments do not fit the tool's schema",
                "compare them with the tool's parameters",
                "main: [{tool: count_words, arguments: {text: $ _}}]",
                5,
                tools="""
                from engine import tool


                @tool(effect="none")
                def count_words(text: str) -> int:
                    \"\"\"Count the words of a text.\"\"\"
                    return len(text.split())
                """,
            ),
            failure(
                "tool.failed",
                "a Python tool raised an exception; the message names it",
                "mend the tool; `retry` repeats it",
                "main: [{tool: crash, arguments: {}}]",
                tools="""
                from engine import tool


                @tool(effect="none")
                def crash() -> int:
                    \"\"\"Fail.\"\"\"
                    return 1 // 0
                """,
            ),
            failure(
                "tool.http_status",
                "an `api_call` was answered with a status of 400 or more, an operation of an OpenAPI service with one"
                " of 300 or more; `error.details` has `status` and `body`",
                "look at the body; 408, 429, 503, 504 and 524 count as passing",
            ),
            failure("tool.timeout", "a call took longer than `timeout`", "raise `timeout` of the step or the tool"),
            failure("tool.unreachable", "the service cannot be reached", "look at the address and the network"),
            failure(
                "tool.address_refused",
                "an `api_call` leads to a private address",
                'allow it in everstep.toml: `[http] allow = ["127.0.0.1:9000"]`',
            ),
            failure(
                "secret.missing",
                "the call names a secret that the tenant does not have; nothing was called",
                "set it: `everstep secrets set NAME`",
            ),
            failure(
                "tool.credentials",
                "the worker lacks the environment variable that holds the key of a service",
                "set it where the worker is started",
            ),
            failure(
                "tool.smtp_status",
                "a mail server refused a mail, its sender or a receiver; `error.details` has the `status`",
                "look at the message; 4xx count as passing",
            ),
            failure(
                "tool.not_text",
                "the page that `web` was to fetch is a picture, an archive or the like",
                "fetch it with an `api_call`, or leave it",
            ),
            failure(
                "tool.service_moved",
                "an OpenAPI service is no longer where it was when the execution began, and its key goes nowhere else",
                "start the task anew, or give the service its former `base_url` for as long as such executions run",
            ),
            failure(
                "effect.outcome_unknown",
                "the worker was lost during a call that must not be repeated",
                "find out in `on_error` what happened; declare the tool `idempotent` if a repetition does no harm",
            ),
        ),
        see=("python", "api_call", "retry", "check"),
    ),
    Entry(
        "workflow",
        Group.KIND,
        "Runs a sub-workflow: a named list of steps that stands beside `main`.",
        (
            example(
                """
                main:
                  - workflow: price
                    arguments: {item: $ _.item, count: 3}
                  - evaluate: "{{ _ }} in all"

                price:
                  - evaluate: "$ {'tea': 3, 'cup': 7}[_.item]"
                  - return: $ _ * input.count
                """,
                {"item": "cup"},
                output="21 in all",
                text="`input` is what the sub-workflow was given.",
            ),
        ),
        output="What the sub-workflow returns, or the output of its last step.",
        notes=(
            "Without `arguments` the step's input `_` is passed on.",
            "A sub-workflow has labels, `steps`, `input` and a state of its own, and sees nothing of its caller's.",
            "It may call itself or be called in a circle, if there is a way out; up to 1,000 levels.",
        ),
        failures=(
            failure(
                "limit.depth",
                "a sub-workflow calls itself deeper than 1,000 levels",
                "use a loop instead",
                """
                main: [{workflow: down}]
                down: [{if: 'true', then: {workflow: down}}]
                """,
            ),
        ),
        see=("return", "task"),
    ),
    Entry(
        "task",
        Group.KIND,
        "Runs another task as an execution of its own, and waits for its result.",
        (
            example(
                """
                main:
                  - label: price
                    task: price-of-order
                    arguments: {order: $ _.order}
                  - evaluate: "{{ input.order }} costs {{ _ }}"
                """,
                {"order": "A1"},
                replies={"price": 20},
                output="A1 costs 20",
                text="In a test, the reply stands for the other task's result.",
            ),
        ),
        output="The result of the other task.",
        notes=(
            "Without `arguments` the step's input `_` is passed on.",
            "The task is one of the server's, found by name or id when the step runs: `NAME@3` or"
            " `version: 3` is one version, `NAME@prod` an alias, without either the newest.",
            "Of several tasks of one name it is that of the agent whose task runs it; of a task without an agent, that"
            " without one.",
            "Its input is checked against its `input_schema` and `require` first. A `timeout` or cancel of the step"
            " cancels it, and it runs its own `finally`. It may touch no more than the task that runs it.",
            "If it fails, the step fails with the same code; `error.details` has its `execution_id`, and in `at` the"
            " step in it that failed.",
            "A `retry` runs it once more, as another execution that makes the same calls under the same idempotency"
            " keys; new ones if the failed execution took something back (`undo`, `finally`).",
            "Within a task, `workflow` is lighter. In `everstep dry-run` and tests no other task is run.",
        ),
        failures=(
            failure("task.not_found", "there is no such task, version or alias", "`everstep tasks ls` lists them"),
            failure("task.ambiguous", "several other agents have a task of that name", "name the task by its id"),
            failure("task.cancelled", "somebody else cancelled it", "catch it with `on_error`"),
            failure(
                "limit.depth",
                "tasks run each other through too many levels",
                "use a loop instead of a task that runs itself",
            ),
        ),
        see=("workflow", "check"),
    ),
)
