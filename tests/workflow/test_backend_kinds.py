"""The same task on every kind of backend, chosen by configuration alone."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.run.events import body_of
from engine.edge.mockllm.script import MockScript
from engine.settings import BACKEND_URLS, load_project
from tests.backends.adapters import ADAPTERS
from tests.support.lab import Lab

TASK = """
name: report
main:
  - prompt:
      - {role: system, content: You write reports.}
      - {role: user, content: "Write of {{ _.topic }}."}
    settings: {temperature: 0, max_tokens: 50}
    unwrap: true
    label: text
  - prompt: "Rate it: {{ steps['text'].output }}"
    output_schema:
      type: object
      properties: {stars: {type: integer}}
      required: [stars]
      additionalProperties: false
    repair: 1
    unwrap: true
    label: rating
  - evaluate: $ [steps['text'].output, steps['rating'].output.stars]
"""
RULES: list[dict[str, Any]] = [
    {"match": "^Write", "times": 1, "status": 429, "retry_after_s": 0.05},
    {
        "match": "^Write",
        "reply": "Tea is hot.",
        "stream": {"chunk_chars": 3},
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    },
    {"match": "^Rate", "times": 1, "json": {"stars": "many"}},
    {"json": {"stars": 4}},
]


def test_every_kind_of_the_settings_is_tried() -> None:
    assert set(ADAPTERS) == {*BACKEND_URLS, "responses"}


@pytest.mark.parametrize("kind", ADAPTERS)
async def test_one_task_gives_the_same_on_every_kind_of_backend(lab: Lab, kind: str) -> None:
    lab.mock.use(MockScript.model_validate({"rules": RULES}))
    file = lab.folder / "everstep.toml"
    url = lab.llm_url.removesuffix("/v1") + ADAPTERS[kind][1]
    speaks = 'kind = "openai"\napi = "responses"' if kind == "responses" else f'kind = "{kind}"'
    file.write_text(f'[backends.mine]\n{speaks}\nbase_url = "{url}"\ndefault_model = "m"\n')
    lab.project = load_project(file)
    async with lab.worker():
        handle = await lab.start(TASK, {"topic": "tea"})
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
    assert ended.output == ["Tea is hot.", 4]
    assert [call["status"] for call in lab.mock.calls] == [429, 200, 200, 200]
    told = [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]
    used = [body["usage"] for body in told if body["path"] == "main.0" and body["outcome"] == "ok"]
    assert [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in used] == [(9, 4)]
