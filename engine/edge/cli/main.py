"""The program `everstep`: its commands, and what happens when one of them fails."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

# typer has its own copy of click and does not export the root of its usage errors
from typer._click.exceptions import ClickException

from engine import __version__
from engine.core.errors import EngineError
from engine.edge.cli import definitions, doctor, executions, run, services
from engine.edge.cli.exits import Exit, exit_of
from engine.edge.cli.output import note, report_error, wants_json

app = typer.Typer(
    name="everstep",
    help="Run multi-step LLM tasks as durable executions.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("validate")(definitions.validate)
app.command("dry-run")(definitions.dry_run)
app.command("dev")(services.dev)
app.command("worker")(services.worker)
app.command("serve")(services.serve)
app.command("doctor")(doctor.doctor)
app.command("ls")(executions.list_executions)
app.command("describe")(executions.describe)
app.command("logs")(executions.logs)
app.command("result")(executions.result)
app.command("answer")(executions.answer)
app.command("cancel")(executions.cancel)
app.command("mock-llm")(services.mock_llm)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"everstep {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_print_version, is_eager=True),
) -> None:
    del version


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: Words after the program's name.

    Returns:
        The exit code (engine.edge.cli.exits.Exit).
    """
    try:
        code = app(list(arguments) or ["--help"], prog_name="everstep", standalone_mode=False)
    except EngineError as error:
        report_error(error, as_json_text=wants_json(arguments))
        return exit_of(error)
    except ClickException as error:
        failure = EngineError(error.format_message(), code="usage", hint="see `everstep --help`")
        report_error(failure, as_json_text=wants_json(arguments))
        return Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return Exit.OK
    return code if isinstance(code, int) else Exit.OK


def main() -> None:
    """Entry of the program."""
    try:
        sys.exit(int(run_command(sys.argv[1:])))
    except KeyboardInterrupt:
        note("")
        sys.exit(int(Exit.INTERRUPTED))
