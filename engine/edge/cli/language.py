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
from engine.edge.cli.values import read_file

if TYPE_CHECKING:
    from engine.core.plan.ir import Plan, ToolContract

_WIDTH = 100


class GraphMode(StrEnum):
    """How a graph is printed."""

    MERMAID = "mermaid"
    JSON = "json"


def explain(
    code: Annotated[
        str, typer.Argument(metavar="[CODE]", help="A code such as E104 or tool.failed; without one all are listed.")
    ] = "",
    output: Output = Mode.TEXT,
) -> None:
    """Explain a code: what it means, why it is an error, a wrong and a right example."""
    from engine.core.spec.codes import CODES

    wanted = code.strip()
    if not wanted:
        _list_codes(output)
    elif wanted.upper() in CODES:
        facts = _facts_of(wanted.upper())
        write(_as_text(facts) if output is Mode.TEXT else as_json(facts, pretty=output is Mode.JSON))
    else:
        run_facts = _run_facts(wanted.lower())
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


def _run_facts(code: str) -> dict[str, Any]:
    """Return what is known of a code that a step or execution ends with; its first word says which family it is of.

    Raises:
        NotFound: Nothing starts with that word.
    """
    from engine.core.diagnostics import did_you_mean
    from engine.core.spec.codes import CODES

    error = run_error_from_json({"code": code})
    if type(error) is RunError:
        raise NotFound(
            f"there is no code '{code}'",
            code="code.not_found",
            hint=did_you_mean(code.upper(), CODES) or "`everstep explain` lists all codes of task files",
        )
    return {
        "code": code,
        "family": code.partition(".")[0],
        "meaning": (type(error).__doc__ or "").strip().partition("\n")[0],
        "catchable": error.catchable,
    }


def _run_text(facts: Mapping[str, Any]) -> str:
    caught = (
        "A task can catch it with `on_error`, where `error.code` is this code, and `retry` can be told to repeat it."
        if facts["catchable"]
        else "A task cannot catch it."
    )
    page = "docs/errors.md lists the codes of this family with their texts."
    return f"{facts['code']} ends a step, of the family `{facts['family']}`: {facts['meaning']}\n\n{caught}\n{page}"


# --- graph ---------------------------------------------------------------------------------------------------------


def _plan_of_file(file: Path, project: Path | None) -> Plan:
    from engine.core.errors import DefinitionError
    from engine.edge.cli.definitions import compile_file
    from engine.edge.cli.tasks import with_source

    text = read_file(file)
    try:
        return compile_file(file, text, project).plan
    except DefinitionError as error:
        raise with_source(error, error.file or str(file), error.source or text) from error


def _plan_of_server(name: str, address: str, api_key: str | None) -> Plan:
    """Return the plan of a task that the server has already accepted, whatever tools are known here."""
    from engine.control.compiling import compile_text
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import find_task

    task = find_task(Api(address, api_key), name)
    spec = {key: value for key, value in task.items() if _is_authors(key, value)}
    return compile_text(as_json(spec), file=name, contracts=_stand_ins(spec)).plan


def _is_authors(key: str, value: Any) -> bool:
    """Whether a member of a task as the API shows it is the author's: a setting or a sub-workflow."""
    from engine.core.spec.vocabulary import TASK_KEYS

    if key in TASK_KEYS:
        return value is not None
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _stand_ins(spec: Any) -> dict[str, ToolContract]:
    """Return a contract for every name in a task that might be that of a tool; a drawing needs no more of them."""
    from engine.core.plan.ir import ToolContract

    return {name: ToolContract(name, "python", idempotent=True) for name in _tool_names(spec)}


def _tool_names(value: Any) -> set[str]:
    names: set[str] = set()
    if isinstance(value, dict):
        tool, offered = value.get("tool"), value.get("tools")
        names.update([tool] if isinstance(tool, str) else [])
        for item in offered if isinstance(offered, list) else []:
            name = item.get("name") if isinstance(item, dict) else item
            names.update([name] if isinstance(name, str) else [])
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        names |= _tool_names(item)
    return names
