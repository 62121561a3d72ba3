"""Help texts and shell completion of the program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
import typer.main

from engine.edge.cli.main import app, run_command

ROOT: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = ROOT.commands


def test_the_list_of_commands_has_no_cut_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["--help"])
    listed = re.findall(r"^  ([a-z-]+)  +(.+)$", capsys.readouterr().out.partition("Commands:\n")[2], re.MULTILINE)
    assert {name for name, _ in listed} == set(COMMANDS)
    assert [text for _, text in listed if not text.endswith(".") or text.endswith("..")] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_of_a_command_is_explained(name: str) -> None:
    commands = getattr(COMMANDS[name], "commands", None) or {name: COMMANDS[name]}
    unexplained = [
        f"{command}: {parameter.name}"
        for command, found in commands.items()
        for parameter in found.params
        if not parameter.help
    ]
    assert unexplained == []


def test_the_shell_completes_names_of_commands() -> None:
    asked = {"_EVERSTEP_COMPLETE": "complete_bash", "COMP_WORDS": "everstep v", "COMP_CWORD": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "engine.edge.cli"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == ["validate"], ran.stderr
