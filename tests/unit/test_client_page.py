"""docs/client.md is true: its tests run as they stand there, and it names every method of the client."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import engine.client
from engine.client import Client, EngineError

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "client.md").read_text(encoding="utf-8")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def test_the_tests_of_the_page_pass_with_the_task_of_the_page_on_tests(pytester: pytest.Pytester) -> None:
    tasks = blocks((DOCS / "testing.md").read_text(encoding="utf-8"), "yaml")
    (task,) = [text for text in tasks if text.startswith("# greet.yaml\n")]
    (pytester.path / "greet.yaml").write_text(task, encoding="utf-8")
    tests = [text for text in blocks(PAGE, "python") if "def test_" in text]
    pytester.makepyfile("\n\n".join(tests))
    pytester.runpytest_subprocess().assert_outcomes(passed=3)


@pytest.mark.parametrize("name", [name for name in vars(Client) if name[0] != "_" and name != "close"])
def test_every_method_of_the_client_is_on_the_page(name: str) -> None:
    assert f"`{name}(" in PAGE


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in engine.client.__all__
        if inspect.isclass(getattr(engine.client, name)) and issubclass(getattr(engine.client, name), EngineError)
    ],
)
def test_every_error_of_the_client_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE
