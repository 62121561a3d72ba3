"""What the book of codes says about schemas, values and doubtful places: E5 and W6. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec import codes
from engine.core.spec.codebook.entry import entry

ENTRIES: Final = MappingProxyType(
    {
        codes.BAD_SCHEMA: entry(
            """With a broken schema nothing can be checked: neither the input nor a model's reply. Regular expressions
            in it must run in linear time, so they have no look-ahead and no back-references.""",
            """
            input_schema: {type: objekt}
            main:
              - evaluate: 1
            """,
            """
            input_schema: {type: object}
            main:
              - evaluate: 1
            """,
        ),
        codes.REMOTE_REFERENCE: entry(
            """A schema on another server may change or vanish, and reading it would give every execution a call that
            nobody asked for. Put the part under `$defs` of the same schema.""",
            """
            input_schema: {$ref: "https://example.com/person.json"}
            main:
              - evaluate: 1
            """,
            """
            input_schema:
              $ref: "#/$defs/person"
              $defs: {person: {type: object}}
            main:
              - evaluate: 1
            """,
        ),
        codes.OUT_OF_RANGE: entry(
            """The value has the right type, but lies outside of what makes sense or of what the engine can do. The
            message names the bounds.""",
            """
            main:
              - over: _.items
                map: {evaluate: $ _ + 1}
                parallelism: 0
            """,
            """
            main:
              - over: _.items
                map: {evaluate: $ _ + 1}
                parallelism: 1
            """,
        ),
        codes.BAD_DURATION: entry(
            """A duration is a number of seconds, or a number with its unit: `500ms`, `30s`, `5m`, `2h`, `1d`, and
            several of them such as `1h30m`.""",
            """
            main:
              - evaluate: 1
                timeout: 5 minutes
            """,
            """
            main:
              - evaluate: 1
                timeout: 5m
            """,
        ),
        codes.BAD_ARGUMENTS: entry(
            """The arguments are written out, so that one can see now that the tool would refuse them: one is missing,
            unknown or of the wrong type.""",
            """
            tools:
              - name: weather
                api_call: {url: "https://weather.example"}
                parameters:
                  type: object
                  required: [params]
                  properties: {params: {type: object}}
            main:
              - tool: weather
                arguments: {parms: {place: Kyiv}}
            """,
            """
            tools:
              - name: weather
                api_call: {url: "https://weather.example"}
                parameters:
                  type: object
                  required: [params]
                  properties: {params: {type: object}}
            main:
              - tool: weather
                arguments: {params: {place: Kyiv}}
            """,
        ),
        codes.NOT_ONE_OF: entry(
            """Only some words are allowed here; the message lists them.""",
            """
            main:
              - over: _.items
                map: {evaluate: $ _ + 1}
                on_item_error: ignore
            """,
            """
            main:
              - over: _.items
                map: {evaluate: $ _ + 1}
                on_item_error: skip
            """,
        ),
        codes.PLAN_TOO_LARGE: entry(
            """The plan travels in the input of every execution. Steps that repeat belong into a loop or a
            sub-workflow; what remains may be split into several tasks.""",
            """
            main:
              - evaluate: 1
            """,
            """
            main:
              - foreach: {in: range(20001), do: {evaluate: 1}}
            """,
            grown=("  - evaluate: 1\n", 20_001),
        ),
        codes.NOT_LITERAL: entry(
            """Tools and sub-workflows are looked up when the task is made, so that what it may do is known before it
            runs. A name that is computed could not be checked.""",
            """
            main:
              - workflow: $ _.language
            english:
              - evaluate: hello
            german:
              - evaluate: hallo
            """,
            """
            main:
              - if: _.language == 'german'
                then: {workflow: german}
                else: {workflow: english}
            english:
              - evaluate: hello
            german:
              - evaluate: hallo
            """,
        ),
        codes.CONFLICT: entry(
            """Each of the two is fine alone, but both cannot hold. One of them would have to be ignored, and only the
            author knows which.""",
            """
            main:
              - prompt: hello
                retry: {attempts: 3, initial: 60, max: 5}
            """,
            """
            main:
              - prompt: hello
                retry: {attempts: 3, initial: 1, max: 5}
            """,
        ),
        codes.UNSAFE_RACE: entry(
            """The branches of a race that lose are stopped in the middle. A tool that writes may have done its work by
            then, so that the world is changed by a branch that does not count.""",
            """
            tools:
              - {name: order, api_call: {method: POST, url: "https://shop.example/orders"}}
              - {name: look, api_call: {method: GET, url: "https://shop.example/prices"}}
            main:
              - race:
                  - tool: order
                  - tool: look
            """,
            """
            tools:
              - {name: order, api_call: {method: POST, url: "https://shop.example/orders"}}
              - {name: look, api_call: {method: GET, url: "https://shop.example/prices"}}
            main:
              - race:
                  - tool: look
                  - evaluate: the price of yesterday
                stagger: 2s
              - tool: order
            """,
        ),
        codes.RETURN_IN_FINALLY: entry(
            """`finally` runs however the task ended, after its result is certain. A `return` there would replace the
            result, or hide an error.""",
            """
            main:
              - evaluate: 1
            finally:
              - return: 2
            """,
            """
            main:
              - evaluate: 1
            finally:
              - log: "the task ended with {{ output }}"
            """,
        ),
        codes.LOOKS_LIKE_EXPRESSION: entry(
            """Text stands for itself unless it starts with `$ ` or holds `{{ }}`. This one reads like an expression
            whose `$ ` was forgotten; if it is meant as text, nothing needs to be done.""",
            """
            main:
              - evaluate: {total: _.price * 2}
            """,
            """
            main:
              - evaluate: {total: $ _.price * 2}
            """,
        ),
        codes.UNREACHABLE: entry(
            """The step or case before always ends the list or is always chosen, so that these steps never run. Mostly a
            condition or a `when` is missing.""",
            """
            main:
              - return: {done: true}
              - evaluate: this never runs
            """,
            """
            main:
              - return: {done: true}
                when: _.done
              - evaluate: this runs otherwise
            """,
        ),
        codes.SINGLE_BRACES: entry(
            """Single braces are text like any other, so that JSON and code can be written into prompts. A template has
            two. Julep's tasks of 2025 have single ones; with `dialect: julep-2025` they are read as there.""",
            """
            main:
              - prompt: Say hello to {_.name}
            """,
            """
            main:
              - prompt: Say hello to {{ _.name }}
            """,
        ),
        codes.WAITING_CYCLE: entry(
            """The execution waits in between, so it does no harm at once; but each round goes one level deeper, and
            its state grows until a limit ends it.""",
            """
            main:
              - wait_for_input: {info: what next?}
              - workflow: main
            """,
            """
            main:
              - wait_for_input: {info: what next?}
              - workflow: main
                when: _ != 'stop'
            """,
        ),
        codes.UNUSED_WORKFLOW: entry(
            """No step names the list, so it never runs. Either its call was forgotten, or the list is a leftover, or
            the key is a misspelt setting.""",
            """
            main:
              - evaluate: 1
            cleanup:
              - evaluate: 2
            """,
            """
            main:
              - evaluate: 1
              - workflow: cleanup
            cleanup:
              - evaluate: 2
            """,
        ),
        codes.DIALECT_READING: entry(
            """The same text means different things to the clients of different years. The task is read as its dialect
            says; where another reading is as likely, you are told which one was taken.""",
            """
            dialect: julep-2025
            main:
              - evaluate: {total: _.price * 2}
            """,
            """
            dialect: julep-2025
            main:
              - evaluate: {total: $ _.price * 2}
            """,
        ),
        codes.NO_EFFECT: entry(
            """The key comes from another system, where it did something. Here it is taken, so that old documents still
            load, but the engine does not do what it asked for.""",
            """
            dialect: julep-2025
            id: 0b1c6a52-9b4e-4b7e-8d55-0d8a3c1f9f10
            main:
              - evaluate: {done: true}
            """,
            """
            dialect: julep-2025
            main:
              - evaluate: {done: true}
            """,
        ),
        codes.DEAD_BRANCH: entry(
            """The handler of the task never gives the result that the branch waits for, or gives one that no branch
            takes; the chain would fail there.""",
            """
            dialect: contenox
            id: check
            tasks:
              - id: ask
                handler: condition_key
                valid_conditions: {"yes": true, "no": false}
                transition:
                  branches: [{operator: equals, when: "true", goto: end}]
            """,
            """
            dialect: contenox
            id: check
            tasks:
              - id: ask
                handler: condition_key
                valid_conditions: {"yes": true, "no": false}
                transition:
                  branches:
                    - {operator: equals, when: "true", goto: end}
                    - {operator: default, goto: end}
            """,
        ),
        codes.PLANNED: entry(
            """The language has it, and the task can be stored, drawn and compared, so that it can be written now. A
            version of the engine that does it comes later; until then an execution is refused before anything is
            created.""",
            """
            dialect: contenox
            id: greet
            tasks:
              - {id: hello, handler: noop, transition: {branches: [{operator: default}]}}
            """,
            """
            name: greet
            main:
              - evaluate: hello
            """,
        ),
        codes.TASK_IN_RACE: entry(
            """The branches of a race that lose are stopped in the middle. An execution that is stopped takes back what
            its steps have an `undo` for, and leaves the rest; which tools it calls is not known here.""",
            """
            main:
              - race:
                  - task: ask-the-shop
                  - task: ask-the-warehouse
            """,
            """
            main:
              - parallel:
                  - task: ask-the-shop
                  - task: ask-the-warehouse
              - evaluate: $ _[0]
            """,
        ),
        codes.CUT_TEXT: entry(
            """YAML takes ` #` in a text without quotes for the start of a comment and leaves out all that follows. A
            comment that is meant as one has a blank after the `#`.""",
            """
            main:
              - approve: Pay invoice #5 to Ada?
            """,
            """
            main:
              - approve: "Pay invoice #5 to Ada?"  # nobody pays twice
            """,
        ),
        codes.MISSPELT: entry(
            """Other words may stand there as well, so it is no error: tools give error codes of their own, schemas may
            have keywords of others. But the word is so near to a known one that it was probably meant.""",
            """
            main:
              - prompt: Who wrote {{ _.title }}?
                retry: {attempts: 3, on: [backend.overloadd]}
            """,
            """
            main:
              - prompt: Who wrote {{ _.title }}?
                retry: {attempts: 3, on: [backend.overloaded]}
            """,
        ),
    }
)
"""Entries of the codes E5… and W6…."""
