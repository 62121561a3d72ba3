"""What a plan may touch is read off the plan, and what is computed when a step runs counts as anything."""

from __future__ import annotations

import pytest

from engine.core.plan.grant import ANY, DEFAULT_MODEL, Reach
from engine.core.plan.ir import AgentSnapshot
from engine.core.plan.reach import reach_of
from engine.tooling import tool
from tests.support.lab import plan_of


@tool(effect="read")
def lookup(name: str) -> str:
    """Read something."""
    return name


def reach(text: str, **options: object) -> Reach:
    agent = options.get("agent")
    assert agent is None or isinstance(agent, AgentSnapshot)
    return reach_of(plan_of(text, [lookup], agent))


def call(url: str = "", more: str = "", arguments: str = "") -> str:
    return f"""
name: t
tools:
  - {{name: fetch, type: api_call{more}, api_call: {{method: GET, url: "https://API.example.com:8443/x"}}}}
main:
  - tool: fetch
    {arguments or ("arguments: {" + (f"url: {url}" if url else "") + "}")}
"""


def test_tools_are_found_in_every_block() -> None:
    text = """
name: t
main:
  - if: true
    then: {over: "$ [1]", map: [{workflow: sub}]}
  - evaluate: 1
    on_error: {evaluate: 2}
sub:
  - tool: lookup
    arguments: {name: x}
"""
    assert reach(text).tools == ("lookup",)


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("", ("api.example.com:8443",)),
        ("https://other.example.com/a", ("other.example.com",)),
        ("'https://me:pw@other.example.com/{{ _.id }}'", ("other.example.com",)),
        ("'https://{{ _.host }}/a'", (ANY,)),
        ("'https://other.example.com{{ _.rest }}'", (ANY,)),
        ("$ _.url", (ANY,)),
    ],
)
def test_the_host_of_a_call_is_known_unless_it_is_computed(given: str, hosts: tuple[str, ...]) -> None:
    assert reach(call(given)).hosts == hosts


def test_computed_arguments_may_name_any_host_unless_the_schema_forbids_it() -> None:
    computed = "arguments: $ _"
    assert reach(call(arguments=computed)).hosts == (ANY,)
    closed = ", parameters: {type: object, properties: {params: {}}, additionalProperties: false}"
    assert reach(call(arguments=computed, more=closed)).hosts == ("api.example.com:8443",)


@pytest.mark.parametrize("follow", ["true", "$ _.follow"])
def test_a_call_that_may_follow_redirects_may_reach_any_host(follow: str) -> None:
    assert reach(call(arguments=f"arguments: {{follow_redirects: {follow}}}")).hosts == (ANY, "api.example.com:8443")


def test_a_null_argument_leaves_the_address_of_the_definition() -> None:
    assert reach(call("null")).hosts == ("api.example.com:8443",)


@pytest.mark.parametrize("url", ["https://a.example/", "http://A.Example.:80/", "https://me@a.example:443/x"])
def test_a_standard_port_counts_as_none(url: str) -> None:
    assert reach(call(url)).hosts == ("a.example",)


def test_an_agent_reaches_its_tools_and_any_host_of_its_http_tools() -> None:
    text = """
name: t
tools:
  - {name: fetch, api_call: {method: GET, url: "https://a.example/"}}
main:
  - {agent: go, model: big, tools: [fetch, lookup]}
  - {embed: words}
"""
    assert reach(text) == Reach(tools=("fetch", "lookup"), models=(DEFAULT_MODEL, "big"), hosts=(ANY,))


@pytest.mark.parametrize(
    ("step", "model"),
    [
        ("prompt: hi", DEFAULT_MODEL),
        ("{prompt: hi, model: big}", "big"),
        ("{prompt: hi, settings: {model: small, temperature: 0}}", "small"),
        ("{prompt: hi, settings: {model: small, temperature: $ _.t}}", "small"),
        ("{prompt: hi, settings: {model: $ _.m}}", ANY),
        ("{prompt: hi, model: [big]}", "big"),
    ],
)
def test_the_model_of_a_prompt_is_known_unless_it_is_computed(step: str, model: str) -> None:
    assert reach(f"name: t\nmain:\n  - {step}\n").models == (model,)


def test_every_model_of_a_list_may_be_asked() -> None:
    text = """
name: t
main:
  - {prompt: hi, model: [small, big]}
  - {prompt: hi, model: [small, "$ _.m"]}
  - {prompt: hi, settings: {model: [a, b], temperature: $ _.t}}
  - {agent: go, model: [c, d]}
"""
    assert reach(text).models == (ANY, "a", "b", "big", "c", "d", "small")
    agent = AgentSnapshot(model="theirs", settings={"model": ["x", "y"]})
    assert reach("name: t\nmain: [{prompt: hi}]", agent=agent).models == ("x", "y")


def test_the_agents_model_is_the_one_of_a_prompt_that_names_none() -> None:
    assert reach("name: t\nmain: [{prompt: hi}]", agent=AgentSnapshot(model="theirs")).models == ("theirs",)


def test_what_is_beyond_another_reach_is_what_the_other_has_not() -> None:
    one = Reach(tools=("a", "b"), hosts=("h",), models=(ANY,))
    two = Reach(tools=("b",), hosts=(ANY,), models=("m",))
    assert one.beyond(two) == Reach(tools=("a",), models=(ANY,))
    assert one.beyond(one) == Reach()
