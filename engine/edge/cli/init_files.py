"""The files of a new project, as `everstep init` writes them."""

from __future__ import annotations

from textwrap import dedent

TASK_FILE = "digest.yaml"
TEST_FILE = "digest.test.yaml"
SCHEMA_FILE = ".everstep/task.schema.json"
IGNORE_FILE = ".gitignore"
SAMPLE_INPUT = '{"text": "Ada wrote the first program of all."}'

_TASK = f"""
# yaml-language-server: $schema={SCHEMA_FILE}
name: digest
description: Says in one sentence what a text is about, and how long the text is.

input_schema:
  type: object
  required: [text]
  properties:
    text: {{type: string, description: What to digest}}

main:
  # a tool of your own, from tools.py
  - label: count
    tool: count_words
    arguments: {{text: $ _.text}}

  # a text that is short enough needs no model
  - if: len(input.text) <= 20
    then:
      return: {{summary: $ input.text, words: $ _}}

  - label: summarize
    prompt:
      - {{role: system, content: Say in one short sentence what the text is about.}}
      - {{role: user, content: "{{{{ input.text }}}}"}}
    settings: {{temperature: 0, max_tokens: 60}}
    unwrap: true

  - return: {{summary: $ _, words: "$ steps['count'].output"}}
"""

_TEST = f"""
# The tests of {TASK_FILE}, run by `everstep test`: tools without effect run, what the model says stands here.
cases:
  - name: a short text is left alone
    input: {{text: Hello Ada!}}
    expect:
      output: {{summary: Hello Ada!, words: 2}}
      calls: [count]

  - name: a long text is summarized by the model
    input: {SAMPLE_INPUT}
    replies: {{summarize: It is about Ada.}}
    expect:
      output: {{summary: It is about Ada., words: 7}}
      assert: "'first program' in calls[1].request.messages[-1].content"
"""

_TOOLS = '''
"""The tools of this project: Python functions that tasks call by name."""

from __future__ import annotations

from engine import tool


@tool(effect="none")
def count_words(text: str) -> int:
    """Count the words of a text.

    Args:
        text: The text.
    """
    return len(text.split())
'''

_PROJECT = """
# What you, the operator, provide for tasks and allow them.

[tools]
modules = ["tools.py"]

# Prompts go to the bundled model, or to the one of OPENAI_BASE_URL and OPENAI_API_KEY, or to this one:
# [backends.local]
# base_url = "http://127.0.0.1:8080/v1"

# HTTP tools reach public addresses only, and these:
# [http]
# allow = ["127.0.0.1:9000"]
"""

_IGNORED = """
# what `everstep dev` keeps here; the schema for editors is worth sharing
.everstep/*
!.everstep/task.schema.json
__pycache__/
"""


def project_files() -> dict[str, str]:
    """Return the texts of a new project's files by name, in the order in which one would read them."""
    from engine.edge.cli.output import as_json
    from engine.source.editor_schema import task_schema

    texts = {TASK_FILE: _TASK, TEST_FILE: _TEST, "tools.py": _TOOLS, "everstep.toml": _PROJECT, IGNORE_FILE: _IGNORED}
    files = {name: dedent(text).lstrip("\n") for name, text in texts.items()}
    return {**files, SCHEMA_FILE: f"{as_json(task_schema())}\n"}
