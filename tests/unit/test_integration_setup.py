"""What a task's own definition of an integration changes of the operator's settings, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from activities.tools.integrations.setup import set_up, with_julep_members
from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract
from engine.settings import IntegrationConfig

OPERATORS = IntegrationConfig(host="mail.example", tls="starttls", user="robot", password_env="PASSWORD")


def tool(**setup: Any) -> ToolContract:
    return ToolContract("it", "provider", spec={"setup": setup})


def test_without_a_setup_all_is_as_the_operator_says() -> None:
    found = set_up(tool(), OPERATORS, "email")
    assert (found.config, found.secrets) == (OPERATORS, {})


@pytest.mark.parametrize(
    ("host", "port", "tls"), [("a.example", 587, "starttls"), ("a.example", 465, "implicit"), ("127.0.0.1", 25, "none")]
)
def test_another_mail_server_gets_none_of_the_operator_s_words(host: str, port: int, tls: str) -> None:
    found = set_up(tool(host=host, port=port), OPERATORS, "email").config
    assert (found.host, found.port, found.tls, found.user, found.password_env) == (host, port, tls, "", "")


def test_a_key_of_the_task_stands_in_place_of_the_operator_s() -> None:
    found = set_up(tool(brave_api_key="theirs"), IntegrationConfig(api_key_env="OURS"), "brave")
    assert found.config.api_key_env != "OURS"
    assert found.secrets == {found.config.api_key_env: "theirs"}


@pytest.mark.parametrize(
    ("provider", "setup"),
    [("brave", {"base_url": "https://other.example"}), ("wikipedia", {"x": "y"}), ("email", {"host": ["a"]})],
)
def test_nothing_else_can_be_set(provider: str, setup: dict[str, Any]) -> None:
    with pytest.raises(ToolError) as caught:
        set_up(tool(**setup), OPERATORS, provider)
    assert caught.value.code == "tool.bad_definition"


def test_results_have_what_tasks_of_julep_read_beside_ours() -> None:
    item = {"title": "Tea", "url": "https://a.example", "text": "leaves"}
    found: Any = with_julep_members("wikipedia", {"results": [item]})
    assert found["results"] == [item]
    assert found["documents"][0]["page_content"] == "leaves"
    assert with_julep_members("web", {"text": "a"}) == {"text": "a"}
