"""The command `import julep`: what it finds in a folder of Julep's files, and what it makes of them at the API."""

from __future__ import annotations

import json
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.support.servers import free_port

AGENT = """\
name: Quiz Master
about: Asks questions
instructions: [Be fair.]
model: mock
"""
OF_2025 = """\
name: ask
main:
  - evaluate: {topic: $ _.topic}
  - prompt: [{role: user, content: "$ f'A question about {_.topic}'"}]
    unwrap: true
  - if: $ len(_) > 10
    then: {evaluate: {long: $ True}}
"""
OF_2024 = """\
name: recap
input_schema: {type: object, properties: {name: {type: string}}}
main:
  - kind_: evaluate
    evaluate: {greeting: "'hello ' + name"}
  - prompt: "Say {{_.greeting}}"
  - get: greeting
"""
BROKEN = """\
name: broken
main:
  - evaluate: {x: $ 1 +}
  - tool: nowhere
"""
LOOKUP = """\
name: lookup
type: function
function: {parameters: {type: object}}
"""
USES_LOOKUP = """\
name: finds
inherit_tools: true
main:
  - tool: lookup
    arguments: {q: $ _.q}
"""


def write(folder: Path, **texts: str) -> Path:
    """Write files; `__` in a name stands for a folder."""
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API without Temporal: nothing here runs."""
    (tmp_path / "data").mkdir()
    async with api_server(settings_for(tmp_path / "data"), temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


async def found(cli: Cli, folder: Path, *words: str) -> dict[str, dict[str, Any]]:
    """Return what the command tells of each file, by its name."""
    _, out, err = await cli("import", "julep", str(folder), "-o", "json", *words)
    assert out, err
    return {Path(row["file"]).stem: row for row in json.loads(out)["files"]}


async def stored(api: ApiServer) -> dict[str, list[str]]:
    """Return the names of what the API has."""
    agents = (await api.http.get("/agents")).json()["items"]
    tasks = (await api.http.get("/tasks")).json()["items"]
    return {"agents": [agent["name"] for agent in agents], "tasks": sorted(task["name"] for task in tasks)}


async def test_it_tells_what_each_file_is_and_stores_nothing(api: ApiServer, cli: Cli, folder: Path) -> None:
    write(folder, agents__quiz=AGENT, tasks__ask=OF_2025, tasks__recap=OF_2024, notes="just: data\n")
    code, out, err = await cli("import", "julep", str(folder))
    assert code == Exit.OK, err
    assert "agent 'Quiz Master' can be taken over" in out
    assert "task 'ask' can be taken over (julep-2025: `$ ` at main[0].evaluate.topic)" in out
    assert "task 'recap' can be taken over (julep-2024: `kind_` at main[0])" in out
    assert "skipped" in err
    assert "1 agent, 2 tasks; all can be taken over" in err
    assert "--apply" in err
    assert await stored(api) == {"agents": [], "tasks": []}


async def test_steps_that_do_something_else_here_are_named(cli: Cli, folder: Path) -> None:
    switch = "main:\n  - switch:\n      - {case: $ _.a, then: {evaluate: {x: $ 1}}}\n"
    whole = "main:\n  - switch:\n      - {case: _, then: {parallel: [{evaluate: {x: $ 1}}]}}\n"
    rows = await found(cli, write(folder, ask=OF_2025, recap=OF_2024, switch=switch, whole=whole))
    told = {name: [(item["path"], item["text"]) for item in row["differences"]] for name, row in rows.items()}
    assert told["ask"] == [("main[2]", "without `else`, the input goes on as it is; there it came in {output: …}")]
    assert told["recap"] == [("main[2]", "it reads what `set` has written; there it found nothing")]
    assert told["switch"] == [("main[0]", "without a case that holds, the input goes on; there it failed")]
    assert told["whole"] == [("main[0].switch[0].then", "it runs; there it was refused")]


@pytest.mark.parametrize(
    ("text", "dialect", "why"),
    [
        ("main: [{evaluate: {x: $ _.a}}]", "julep-2025", "`$ `"),
        ("main: [{prompt: 'Say {{_.a}}'}]", "julep-2024", "`{{ }}`"),
        ("main: [{evaluate: {x: 'inputs[0].a'}}]", "julep-2024", "a bare expression"),
        ("main: [{evaluate: {x: '_.a + 1'}}]", "julep-2024", "a bare expression"),
        ("main: [{kind_: prompt, prompt: hello}]", "julep-2024", "`kind_`"),
        ("main: [{kind_: evaluate, evaluate: {x: $ _.a}}]", "julep-2025", "`$ `"),
        ("main: [{prompt: 'Say {_.a}'}]", "julep-2025", "no sign"),
        ("main: [{prompt: '_.a was said'}]", "julep-2025", "no sign"),
        ("metadata: {x: 'a {{b}}'}\nmain: [{prompt: hello}]", "julep-2025", "no sign"),
        ("dialect: everstep\nmain: [{prompt: 'Say {{_.a}}'}]", "everstep", "the key `dialect`"),
    ],
)
async def test_the_dialect_of_a_task_is_seen_by_its_texts(
    cli: Cli, folder: Path, text: str, dialect: str, why: str
) -> None:
    row = (await found(cli, write(folder, t=text)))["t"]
    assert (row["dialect"], why in row["why"], row["ok"]) == (dialect, True, True), row
    assert (await found(cli, folder, "--dialect", "julep-2024"))["t"]["dialect"] == "julep-2024"


async def test_what_is_wrong_is_told_with_place_reason_and_remedy_and_nothing_is_stored(
    api: ApiServer, cli: Cli, folder: Path
) -> None:
    write(folder, quiz=AGENT, ask=OF_2025, broken=BROKEN, typo="name: A\nabout: 7\nmodel: mock\n", ugly="main: [}")
    code, out, err = await cli("import", "julep", str(folder), "--apply")
    assert code == Exit.USAGE
    assert "broken.yaml:3:24: error[E301]" in out
    assert "broken.yaml:4:11: error[E402]" in out
    assert "hint:" in out
    assert "typo.yaml:2:8: error[E203]: about:" in out
    assert "ugly.yaml: it cannot be read" in out
    assert "3 cannot be taken over" in err
    assert await stored(api) == {"agents": [], "tasks": []}


async def test_a_member_too_much_of_an_agent_is_told_at_its_own_place_and_files_are_counted_in_words(
    cli: Cli, folder: Path
) -> None:
    write(folder, quiz=f"{AGENT}modle: mock\n", ugly="main: [}", worse="main: [{")
    _, out, err = await cli("import", "julep", str(folder))
    assert "quiz.yaml:5:1: error[E201]: there is no member 'modle' here; did you mean 'model'?" in out
    assert "1 agent, 2 unreadable files; 3 cannot be taken over" in err


LIMITED = """
[backends.desk]
base_url = "http://127.0.0.1:1/v1"
models = ["mock", "o3"]
[groups.fast]
models = ["o3"]
"""
ASKS_OTHERS = """\
name: asks
main:
  - prompt: [{role: user, content: hi}]
    settings: {model: o3-mini}
  - if: $ True
    then: {prompt: [{role: user, content: hi}], settings: {model: fast}}
  - prompt: [{role: user, content: hi}]
    settings: {model: $ _.model}
  - evaluate: {model: nobody's}
"""


async def test_models_that_no_backend_of_the_server_has_are_warned_of_and_no_error(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "everstep.toml").write_text(LIMITED)
    write(folder, asks=ASKS_OTHERS, quiz=AGENT.replace("mock", "claude-4-opus"))
    async with api_server(settings_for(tmp_path), temporal=f"127.0.0.1:{free_port()}") as server:
        cli = Cli(server.url, capsys)
        code, out, err = await cli("import", "julep", str(folder))
        rows = await found(cli, folder, "--apply")
    told = [line for line in out.splitlines() if "warning[backend.unknown_model]" in line]
    assert (code, len(told)) == (Exit.OK, 2), err
    assert "asks.yaml:4:23: " in told[0]
    assert told[0].endswith("no backend of the server has the model 'o3-mini'")
    assert "quiz.yaml:4:8: " in told[1]
    assert "all can be taken over" in err
    assert {name: row["change"] for name, row in rows.items()} == {"asks": "created", "quiz": "created"}
    assert [item["path"] for item in rows["asks"]["diagnostics"]] == ["main[0].settings.model"]


async def test_a_folder_is_checked_without_a_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, quiz=AGENT, ask=OF_2025)
    code, _, err = await Cli(f"http://127.0.0.1:{free_port()}", capsys)("import", "julep", str(folder))
    assert (code, "1 agent, 1 task; all can be taken over" in err) == (Exit.OK, True)


async def test_two_tasks_of_one_name_are_not_taken_for_the_same(api: ApiServer, cli: Cli, folder: Path) -> None:
    write(folder, quiz=AGENT, ask=OF_2025, b__ask=OF_2025)
    code, out, _ = await cli("import", "julep", str(folder), "--apply")
    assert (code, "error[E509]: this task is called 'ask'" in out) == (Exit.USAGE, True)
    assert await stored(api) == {"agents": [], "tasks": []}


async def test_a_broken_project_file_is_told_as_such(cli: Cli, folder: Path) -> None:
    write(folder, quiz=AGENT, julep="agents: [}")
    code, _, err = await cli("import", "julep", str(folder))
    assert (code, "julep.yaml" in err) == (Exit.USAGE, True)


async def test_apply_stores_everything_and_can_be_repeated(api: ApiServer, cli: Cli, folder: Path) -> None:
    write(folder, agents__quiz=AGENT, tasks__ask=OF_2025, tasks__recap=OF_2024, lookup=LOOKUP, finds=USES_LOOKUP)
    first = await found(cli, folder, "--apply")
    assert {row["change"] for row in first.values()} == {"created"}
    assert await stored(api) == {"agents": ["Quiz Master"], "tasks": ["ask", "finds", "recap"]}
    agent = (await api.http.get("/agents/quiz_master")).json()
    assert (agent["id"], agent["instructions"]) == (first["quiz"]["id"], ["Be fair."])
    tasks = (await api.http.get(f"/agents/{agent['id']}/tasks")).json()["items"]
    assert {task["name"]: task["dialect"] for task in tasks} == {
        "ask": "julep-2025",
        "recap": "julep-2024",
        "finds": "julep-2025",
    }
    again = await found(cli, folder, "--apply")
    assert {row["change"] for row in again.values()} == {"unchanged"}
    assert {row["id"] for row in again.values()} == {row["id"] for row in first.values()}
    write(folder, tasks__ask=OF_2025.replace("> 10", "> 20"), agents__quiz=AGENT.replace("questions", "riddles"))
    changed = await found(cli, folder, "--apply")
    assert [name for name, row in changed.items() if row["change"] == "updated"] == ["quiz", "ask"]
    assert changed["ask"]["id"] == first["ask"]["id"]
    assert (await api.http.get("/agents/quiz_master")).json()["about"] == "Asks riddles"


async def test_a_project_of_julep_s_command_line_keeps_its_ids_and_its_agents(
    api: ApiServer, cli: Cli, folder: Path
) -> None:
    ids = {name: f"018f0000-0000-7000-8000-00000000000{n}" for n, name in enumerate(["one", "two", "ask", "recap"])}
    write(
        folder,
        julep="""\
        agents: [{definition: src/one.yaml}, {definition: src/two.yaml}]
        tasks:
          - {agent_id: "{agents[1].id}", definition: src/ask.yaml}
          - {agent_id: "{agents[0].id}", definition: src/recap.yaml}
        """,
        src__one=AGENT,
        src__two="name: Second\n",
        src__ask=OF_2025,
        src__recap=OF_2024,
    )
    lock = {
        "agents": [{"path": f"src/{name}.yaml", "id": ids[name]} for name in ("one", "two")],
        "tasks": [{"path": f"src/{name}.yaml", "id": ids[name]} for name in ("ask", "recap")],
    }
    (folder / "julep-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    for change in ("created", "unchanged"):
        rows = await found(cli, folder, "--apply")
        assert {name: (row["change"], row["id"]) for name, row in rows.items()} == {
            name: (change, id_) for name, id_ in ids.items()
        }
    assert (await api.http.get(f"/tasks/{ids['ask']}")).json()["agent_id"] == ids["two"]
    assert (await api.http.get(f"/tasks/{ids['recap']}")).json()["agent_id"] == ids["one"]


async def test_a_file_that_the_project_names_and_that_is_not_there_stops_it(cli: Cli, folder: Path) -> None:
    write(folder, quiz=AGENT, julep="agents: [{definition: quiz.yaml}, {definition: gone.yaml}]\n")
    code, out, _ = await cli("import", "julep", str(folder), "--apply")
    assert (code, "gone.yaml" in out) == (Exit.USAGE, True)


async def test_whose_a_task_is_must_be_known(api: ApiServer, cli: Cli, folder: Path) -> None:
    write(folder, ask=OF_2025)
    code, _, err = await cli("import", "julep", str(folder), "--apply")
    assert (code, "import.no_agent" in err, "--agent" in err) == (Exit.USAGE, True, True)
    assert await stored(api) == {"agents": [], "tasks": []}
    made = (await api.http.post("/agents", json={"name": "Ada", "canonical_name": "ada"})).json()
    rows = await found(cli, folder, "--apply", "--agent", "ada")
    assert (await api.http.get(f"/tasks/{rows['ask']['id']}")).json()["agent_id"] == made["id"]


async def test_a_folder_without_anything_of_julep_s_says_what_it_looked_for(cli: Cli, folder: Path) -> None:
    write(folder, notes="just: data\n")
    code, _, err = await cli("import", "julep", str(folder))
    assert (code, "import.nothing" in err, "main:" in err) == (Exit.USAGE, True, True)
