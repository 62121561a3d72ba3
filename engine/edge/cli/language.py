"""Commands about the language itself: explain a code, draw a task, give editors the schema of task files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import NotFound, RunError, run_error_from_json
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output, ProjectFile
from engine.edge.cli.output import Mode, as_json, write, write_rows
from engine.source.task_text import read_task_text

if TYPE_CHECKING:
    from engine.core.plan.ir import Plan

_WIDTH = 100


class GraphMode(StrEnum):
    """How a graph is printed."""

    MERMAID = "mermaid"
    JSON = "json"


def explain(
    context: typer.Context,
    code: Annotated[
        str,
        typer.Argument(
            metavar="[CODE|WORD|TASK]",
            help="A code such as E104 or tool.failed, or a word such as while, retry, state or len; without one all"
            " codes are listed.",
        ),
    ] = "",
    authority: Annotated[
        bool, typer.Option("--authority", help="Show what TASK (a file, or a task of the server) can reach.")
    ] = False,
    output: Output = Mode.TEXT,
    project: ProjectFile = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
) -> None:
    """Explain a code or a word of the language, with examples; with --authority, what a task can reach.

    Words are kinds of steps, modifiers, keys of a task, their members, types of tools, functions, the names that
    expressions see, commands, and everstep.toml.
    """
    from engine.core.spec.codes import CODES
    from engine.edge.cli.words import word_facts, word_text

    wanted = code.strip()
    commands = _commands_of(context)
    if authority:
        _explain_authority(wanted, output, project, address, api_key)
    elif not wanted:
        _list_codes(output)
    elif wanted.upper() in CODES:
        facts = _facts_of(wanted.upper())
        write(_as_text(facts) if output is Mode.TEXT else as_json(facts, pretty=output is Mode.JSON))
    elif text := word_text(wanted, _WIDTH, commands):
        told = {"word": wanted, "entries": word_facts(wanted, commands)}
        write(text if output is Mode.TEXT else as_json(told, pretty=output is Mode.JSON))
    else:
        run_facts = _run_facts(wanted.lower(), commands)
        write(_run_text(run_facts) if output is Mode.TEXT else as_json(run_facts, pretty=output is Mode.JSON))


def graph(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task file, or the id or name of a task.")],
    output: Annotated[
        GraphMode, typer.Option("--output", "-o", help="How to print: mermaid (a flowchart) or json.")
    ] = GraphMode.MERMAID,
    project: ProjectFile = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
) -> None:
    """Draw a task as a flowchart: steps, branches, loops, and its sub-workflows beside them."""
    from engine.core.plan.graph import plan_graph
    from engine.core.plan.mermaid import render_mermaid
    from engine.edge.cli.tasks import looks_like_file

    plan = _plan_of_file(Path(task), project) if looks_like_file(task) else _plan_of_server(task, address, api_key)
    drawn = plan_graph(plan)
    write(as_json(drawn.to_json()) if output is GraphMode.JSON else render_mermaid(drawn))


def schema() -> None:
    """Print the JSON Schema of task files, with which editors complete, explain and check them.

    Save it, and name it in the first line of a task: # yaml-language-server: $schema=FILE
    """
    from engine.source.editor_schema import task_schema

    write(as_json(task_schema()))


# --- explain -------------------------------------------------------------------------------------------------------


def _explain_authority(task: str, output: Mode, project: Path | None, address: str, api_key: str | None) -> None:
    from engine.core.errors import InvalidInput
    from engine.edge.cli.authority import show_authority, stored_plan
    from engine.edge.cli.tasks import looks_like_file

    if not task:
        raise InvalidInput("--authority needs a task", hint="name a task file, or a task of the server")
    if looks_like_file(task):
        show_authority(_plan_of_file(Path(task), project), output)
    else:
        show_authority(stored_plan(task, address, api_key), output)


def _commands_of(context: typer.Context) -> dict[str, str]:
    """Return the commands of the program with what they do."""
    root = context.find_root().command
    commands: Mapping[str, Any] = getattr(root, "commands", {})
    return {name: command.get_short_help_str(200) for name, command in commands.items()}


def _list_codes(output: Mode) -> None:
    from engine.core.spec.codebook.book import GROUPS
    from engine.core.spec.codes import CODES

    if output is not Mode.TEXT:
        write_rows([_facts_of(code) for code in CODES], output)
        return
    for prefix, title in GROUPS.items():
        write(f"{title}:")
        for code, meaning in CODES.items():
            if code.startswith(prefix):
                write(f"  {code}  {meaning}")
        write("")
    write("`everstep explain CODE` tells why, with a wrong and a right example.")
    write("`everstep explain WORD` tells of a kind of step, a modifier, a key of a task or a function: while, len.")


def _facts_of(code: str) -> dict[str, Any]:
    from engine.core.spec.codebook.book import BOOK
    from engine.core.spec.codes import CODES

    facts: dict[str, Any] = {
        "code": code,
        "severity": "error" if code.startswith("E") else "warning",
        "meaning": CODES[code],
    }
    entry = BOOK.get(code)
    return facts if entry is None else {**facts, "why": entry.why, "bad": entry.shown_bad, "good": entry.good}


def _as_text(facts: Mapping[str, Any]) -> str:
    parts = [f"{facts['severity']} {facts['code']}: {facts['meaning']}"]
    if "why" in facts:
        parts.append(textwrap.fill(facts["why"], _WIDTH))
        for title, key in (("Wrong:", "bad"), ("Right:", "good")):
            parts.append(f"{title}\n\n{textwrap.indent(facts[key], '    ').rstrip()}")
    return "\n\n".join(parts)


def _run_facts(code: str, commands: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of a code that a step or execution ends with; its first word says which family it is of.

    Raises:
        NotFound: Nothing starts with that word.
    """
    from engine.core.diagnostics import did_you_mean
    from engine.core.spec.codes import CODES
    from engine.edge.cli.glossary import remedies_of, run_codes
    from engine.edge.cli.words import known_words

    error = run_error_from_json({"code": code})
    if type(error) is RunError:
        raise NotFound(
            f"there is no code and no word '{code}'",
            code="code.not_found",
            hint=did_you_mean(code.upper(), CODES)
            or did_you_mean(code, known_words(commands))
            or "`everstep explain` lists all codes of task files, docs/language.md all words",
        )
    remedies = remedies_of(code)
    return {
        "code": code,
        "family": code.partition(".")[0],
        "meaning": (type(error).__doc__ or "").strip().partition("\n")[0],
        "catchable": error.catchable,
        "remedies": remedies,
        "hint": "" if remedies else did_you_mean(code, run_codes()),
    }


def _run_text(facts: Mapping[str, Any]) -> str:
    from engine.edge.cli.glossary import remedies_text

    caught = (
        "A task can catch it with `on_error`, where `error.code` is this code, and `retry` can be told to repeat it."
        if facts["catchable"]
        else "A task cannot catch it."
    )
    page = "docs/errors.md lists the codes of this family with their texts."
    is_family = facts["code"] == facts["family"]
    head = (
        f"{facts['code']} is the family of the codes `{facts['code']}.…` with which a step ends: {facts['meaning']}"
        if is_family
        else f"{facts['code']} ends a step, of the family `{facts['family']}`: {facts['meaning']}"
    )
    told = remedies_text(facts["code"], facts["remedies"], _WIDTH) or facts["hint"]
    return "\n\n".join(part for part in (head, told, f"{caught}\n{page}") if part)


# --- graph ---------------------------------------------------------------------------------------------------------


def _plan_of_file(file: Path, project: Path | None) -> Plan:
    from engine.core.errors import DefinitionError
    from engine.edge.cli.definitions import compile_file
    from engine.edge.cli.tasks import with_source

    text = read_task_text(file)
    try:
        return compile_file(file, text, project).plan
    except DefinitionError as error:
        raise with_source(error, error.file or str(file), error.source or text) from error


def _plan_of_server(name: str, address: str, api_key: str | None) -> Plan:
    """Return the plan that the server keeps of a task."""
    from engine.core.plan.codec import plan_from_json
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import find_task

    api = Api(address, api_key)
    task = find_task(api, name)
    return plan_from_json(api.get(f"/tasks/{task['id']}/versions/{task['version']}")["plan"])
