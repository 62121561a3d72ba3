"""[tools.integrations] of everstep.toml: what can be switched on, what is refused, and what tasks see of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from activities.tools.integrations.adapter import CALLS
from engine.control.compiling import compile_text
from engine.control.integrations import PROVIDERS
from engine.control.tools import load_catalog
from engine.core.errors import DefinitionError, InvalidInput
from engine.core.kinds import ToolEffect
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.grant import ANY
from engine.core.plan.ir import AgentSnapshot, Plan, ToolContract
from engine.core.plan.reach import reach_of
from engine.core.schemas import schema_problems
from engine.settings import load_project
from engine.testing.running import run_task

ALL = """
[tools.integrations.wikipedia]
[tools.integrations.arxiv]
[tools.integrations.web]
[tools.integrations.look_up]
provider = "brave"
api_key_env = "BRAVE_KEY"
[tools.integrations.weather]
api_key_env = "WEATHER_KEY"
timeout_s = 5
[tools.integrations.email]
host = "mail.example"
user = "robot"
password_env = "MAIL_PASSWORD"
sender = "robot@example.com"
"""


def contracts_of(folder: Path, text: str) -> dict[str, ToolContract]:
    file = folder / "everstep.toml"
    file.write_text(text)
    return load_catalog(load_project(file)).contracts()


def plan_of(text: str, contracts: dict[str, ToolContract]) -> Plan:
    return compile_text(text, contracts=contracts, agent=AgentSnapshot()).plan


def test_every_provider_is_called_by_an_adapter_and_has_a_sound_schema() -> None:
    assert set(CALLS) == set(PROVIDERS)
    assert [schema_problems(provider.parameters) for provider in PROVIDERS.values()] == [[]] * len(PROVIDERS)


def test_only_what_is_switched_on_can_be_named(tmp_path: Path) -> None:
    assert contracts_of(tmp_path, "") == {}
    contracts = contracts_of(tmp_path, "[tools.integrations.wikipedia]\n")
    assert (
        plan_of("main: [{tool: wikipedia, arguments: {query: tea}}]", contracts).tools["wikipedia"].type
        == "integration"
    )
    with pytest.raises(DefinitionError) as caught:
        plan_of("main: [{tool: arxiv, arguments: {query: tea}}]", contracts)
    assert "there is no tool 'arxiv'" in caught.value.render()


def test_the_contracts_say_what_a_plan_needs_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRAVE_KEY", "WEATHER_KEY", "MAIL_PASSWORD"):
        monkeypatch.setenv(name, f"secret-{name}")
    contracts = contracts_of(tmp_path, ALL)
    assert set(contracts) == {"wikipedia", "arxiv", "web", "look_up", "weather", "email"}
    assert {name for name, item in contracts.items() if not item.repeatable} == {"email"}
    assert contracts["email"].effect is ToolEffect.WRITE
    assert contracts["look_up"].spec == {"provider": "brave", "integration": "look_up"}
    assert contracts["weather"].timeout_s == 5
    written = json.dumps({name: dataclasses.asdict(item) for name, item in contracts.items()})
    for secret in ("secret-", "BRAVE_KEY", "MAIL_PASSWORD", "mail.example"):
        assert secret not in written


def test_contracts_survive_their_plan(tmp_path: Path) -> None:
    plan = plan_of("main: [{tool: web, arguments: {url: 'https://a.example/x'}}]", contracts_of(tmp_path, ALL))
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_arguments_are_checked_where_a_task_is_compiled(tmp_path: Path) -> None:
    contracts = contracts_of(tmp_path, ALL)
    for arguments in ("{query: tea, limit: 3}", "{load_max_docs: 2}", "{query: tea, load_max_docs: many}"):
        with pytest.raises(DefinitionError) as caught:
            plan_of(f"main: [{{tool: wikipedia, arguments: {arguments}}}]", contracts)
        assert "E505" in caught.value.render()


def test_a_task_may_give_a_tool_other_words_and_less_time(tmp_path: Path) -> None:
    text = (
        "tools: [{name: weather, description: Ask me, timeout: 2s}]\nmain: [{tool: weather, arguments: {location: X}}]"
    )
    contract = plan_of(text, contracts_of(tmp_path, ALL)).tools["weather"]
    assert (contract.type, contract.description, contract.timeout_s) == ("integration", "Ask me", 2)


def test_a_test_of_a_task_answers_for_an_integration(tmp_path: Path) -> None:
    contracts_of(tmp_path, ALL)
    text = "main: [{tool: wikipedia, arguments: {query: tea}}, {evaluate: $ _.results}]\n"
    run = run_task(text, replies={"wikipedia": {"results": []}}, project=tmp_path / "everstep.toml")
    assert run.result == []


def test_a_fetched_page_is_a_host_that_a_bound_speaks_of_and_a_search_is_the_operators_matter(tmp_path: Path) -> None:
    contracts = contracts_of(tmp_path, ALL)
    page = plan_of("main: [{tool: web, arguments: {url: 'https://a.example/x'}}]", contracts)
    # a redirect may lead anywhere
    assert reach_of(page).hosts == (ANY, "a.example")
    assert reach_of(plan_of("main: [{tool: web, arguments: {url: $ _}}]", contracts)).hosts == (ANY,)
    assert reach_of(plan_of("main: [{tool: wikipedia, arguments: {query: x}}]", contracts)).hosts == ()
    with pytest.raises(DefinitionError) as caught:
        plan_of(
            "allow: {hosts: [b.example], tools: [web]}\nmain: [{tool: web, arguments: {url: 'https://a.example/'}}]",
            contracts,
        )
    assert "E411" in caught.value.render()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("[tools.integrations.wikipeda]", "no provider 'wikipeda'"),
        ('[tools.integrations.x]\nprovider = "google"', "no provider 'google'"),
        ('[tools.integrations."a b"]\nprovider = "arxiv"', "models cannot call it"),
        ("[tools.integrations.brave]", "needs api_key_env"),
        ("[tools.integrations.weather]", "needs api_key_env"),
        ("[tools.integrations.email]", "needs host"),
        ('[tools.integrations.arxiv]\napi_key_env = "K"', "takes no api_key_env"),
        ('[tools.integrations.web]\nbase_url = "http://x"', "takes no base_url"),
        ('[tools.integrations.wikipedia]\nbase_url = "de.wikipedia.org"', "base_url is no plain http"),
        ('[tools.integrations.wikipedia]\nbase_url = "https://u:p@x/"', "base_url is no plain http"),
        ('[tools.integrations.wikipedia]\nbase_url = "https://x/?a=1"', "base_url is no plain http"),
        ('[tools.integrations.wikipedia]\nbase_url = "https://x:99999/"', "base_url is no plain http"),
        ('[tools.integrations.email]\nhost = "m"\nuser = "u"', "belong together"),
        ('[tools.integrations.email]\nhost = "m"\npassword_env = "P"', "belong together"),
        ('[tools.integrations.email]\nhost = "m"\ntls = "none"\nuser = "u"\npassword_env = "P"', "unencrypted"),
        ('[tools.integrations.email]\nhost = "m"\nsender = "me"', "no mail address"),
        ('[tools.integrations.email]\nhost = "smtp://m"', "no host name"),
    ],
)
def test_what_cannot_work_is_told_at_start(tmp_path: Path, settings: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        contracts_of(tmp_path, settings)
    assert caught.value.code == "config.integration"
    assert caught.value.message.startswith("[tools.integrations.")
    assert told in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('[tools.integrations.arxiv]\nbaseurl = "x"', "did you mean 'base_url'?"),
        ("[tools.integrations.arxiv]\ntimeout_s = 0", "tools.integrations.arxiv.timeout_s"),
        ("[tools.integrations.arxiv]\nmax_chars = 5", "tools.integrations.arxiv.max_chars"),
        ('[tools.integrations.email]\nhost = "m"\nport = 70000', "tools.integrations.email.port"),
        ('[tools.integrations.email]\nhost = "m"\ntls = "yes"', "tools.integrations.email.tls"),
    ],
)
def test_what_is_no_setting_is_told_with_its_place(tmp_path: Path, settings: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        contracts_of(tmp_path, settings)
    assert caught.value.code == "config.invalid"
    assert told in caught.value.message


def test_an_integration_and_a_python_tool_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "both_tools.py").write_text("from engine import tool\n\n\n@tool\ndef arxiv() -> None: ...\n")
    with pytest.raises(InvalidInput) as caught:
        contracts_of(tmp_path, '[tools]\nmodules = ["both_tools.py"]\n[tools.integrations.arxiv]\n')
    assert caught.value.code == "config.duplicate_tool"
    assert "both_tools.py" in caught.value.message
