"""What the book of codes says about names and references: E4. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec import codes
from engine.core.spec.codebook.entry import entry

ENTRIES: Final = MappingProxyType(
    {
        codes.UNKNOWN_NAME: entry(
            """No value has that name at this place, so the step would fail whatever the data. Members of the input
            are reached through `_`; `error` exists only in `on_error`, `results` only in `reduce`.""",
            """
            main:
              - evaluate: $ customer.name
            """,
            """
            main:
              - evaluate: $ _.customer.name
            """,
        ),
        codes.UNKNOWN_TOOL: entry(
            """Neither `tools` of the task nor the modules in everstep.toml define that tool, so the call could never be
            made.""",
            """
            main:
              - tool: weather
            """,
            """
            tools:
              - name: weather
                api_call: {url: "https://weather.example"}
            main:
              - tool: weather
            """,
        ),
        codes.UNKNOWN_WORKFLOW: entry(
            """A sub-workflow is a list of steps of the same task, beside `main`. There is none of that name.""",
            """
            main:
              - workflow: summarise
            summarize:
              - prompt: "Summarize {{ _ }}"
            """,
            """
            main:
              - workflow: summarize
            summarize:
              - prompt: "Summarize {{ _ }}"
            """,
        ),
        codes.DUPLICATE_LABEL: entry(
            """`steps['…']` finds a step by its label, and so do scripted replies and the history. With two of that
            name nobody could say which is meant.""",
            """
            main:
              - label: count
                evaluate: $ len(_.items)
              - label: count
                evaluate: $ _ + 1
            """,
            """
            main:
              - label: count
                evaluate: $ len(_.items)
              - label: count one more
                evaluate: $ _ + 1
            """,
        ),
        codes.UNKNOWN_STEP: entry(
            """The step does not exist in this named list, or comes later, so that it has no output yet. Sub-workflows
            do not see the steps of their callers.""",
            """
            main:
              - label: count
                evaluate: $ len(_.items)
              - evaluate: $ steps['cuont'].output + 1
            """,
            """
            main:
              - label: count
                evaluate: $ len(_.items)
              - evaluate: $ steps['count'].output + 1
            """,
        ),
        codes.BAD_NAME: entry(
            """Models, URLs and expressions take names of letters, digits and `_` only. Blanks and other characters
            would be refused later, by somebody who explains it worse.""",
            """
            tools:
              - name: get weather
                api_call: {url: "https://weather.example"}
            main:
              - tool: get weather
            """,
            """
            tools:
              - name: get_weather
                api_call: {url: "https://weather.example"}
            main:
              - tool: get_weather
            """,
        ),
        codes.BAD_LABEL: entry(
            """A label of digits only could not be told from the number of a step; one of more than 120 characters does
            not fit into the places where labels are shown.""",
            """
            main:
              - label: "1"
                evaluate: hello
            """,
            """
            main:
              - label: first
                evaluate: hello
            """,
        ),
        codes.DUPLICATE_TOOL: entry(
            """A step names a tool by its name alone. The second of two would never be called.""",
            """
            tools:
              - {name: weather, api_call: {url: "https://weather.example/now"}}
              - {name: weather, api_call: {url: "https://weather.example/later"}}
            main:
              - tool: weather
            """,
            """
            tools:
              - {name: weather_now, api_call: {url: "https://weather.example/now"}}
              - {name: weather_later, api_call: {url: "https://weather.example/later"}}
            main:
              - tool: weather_now
              - tool: weather_later
            """,
        ),
        codes.ENDLESS_CYCLE: entry(
            """Whichever branch is taken, the sub-workflows call each other again, so that no execution could ever end
            but by its limits.""",
            """
            main:
              - workflow: countdown
            countdown:
              - evaluate: {n: $ _.n - 1}
              - workflow: countdown
            """,
            """
            main:
              - workflow: countdown
            countdown:
              - evaluate: {n: $ _.n - 1}
              - workflow: countdown
                when: _.n > 0
            """,
        ),
        codes.BEYOND_ALLOW: entry(
            """`allow` says what the task may touch at most, so that whoever reads it need not read the steps. A step
            that names something else would be refused when it runs.""",
            """
            allow: {hosts: [api.example.com]}
            tools:
              - {name: report, api_call: {method: POST, url: "https://collector.example.org/"}}
            main:
              - tool: report
                arguments: {json: $ _}
            """,
            """
            allow: {hosts: [api.example.com, collector.example.org]}
            tools:
              - {name: report, api_call: {method: POST, url: "https://collector.example.org/"}}
            main:
              - tool: report
                arguments: {json: $ _}
            """,
        ),
        codes.SECRET_PLACE: entry(
            """Secrets are looked up by the worker right before a tool is called, so that none gets into the history of
            an execution, to a client or to a model. So only the `arguments` of a tool step and the definition of a
            tool may name one.""",
            """
            main:
              - evaluate: {auth: '$ f"Bearer {secrets.crm}"'}
              - tool: fetch
                arguments: {headers: {Authorization: $ _.auth}}
            tools:
              - {name: fetch, api_call: {method: GET, url: "https://api.example.com/"}}
            """,
            """
            main:
              - tool: fetch
                arguments: {headers: {Authorization: '$ f"Bearer {secrets.crm}"'}}
            tools:
              - {name: fetch, api_call: {method: GET, url: "https://api.example.com/"}}
            """,
        ),
        codes.UNKNOWN_TARGET: entry(
            """A branch of a contenox chain jumps to a task by its id. The chain would fail when it gets there.""",
            """
            dialect: contenox
            id: greeting
            tasks:
              - id: greet
                handler: raw_string
                transition:
                  branches: [{operator: default, goto: farewell}]
            """,
            """
            dialect: contenox
            id: greeting
            tasks:
              - id: greet
                handler: raw_string
                transition:
                  branches: [{operator: default, goto: end}]
            """,
        ),
    }
)
"""Entries of the codes E4…."""
