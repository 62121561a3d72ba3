"""The program `everstep`: its commands, and what happens when one of them fails."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

# typer has its own copy of click and does not export the root of its usage errors
from typer._click.exceptions import ClickException

from engine import __version__
from engine.core.errors import EngineError
from engine.edge.cli import (
    apply,
    backends,
    backup,
    budgets,
    bulk,
    casetests,
    catalog,
    definitions,
    docs,
    doctor,
    executions,
    history,
    hooks,
    import_julep,
    init,
    keys,
    language,
    listing,
    messages,
    models,
    purging,
    reindex,
    resources,
    run,
    schedules,
    secrets,
    services,
    sessions,
    steering,
    steps,
    tools,
    top,
    validate,
    watch,
    webhooks,
)
from engine.edge.cli.exits import Exit, exit_of
from engine.edge.cli.output import note, report_error, wants_json

app = typer.Typer(
    name="everstep",
    help="Run multi-step LLM tasks as durable executions.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init", short_help="Make a project with a task, a tool and a test of its own.")(init.init)
app.command("validate", short_help="Check task files; findings as text, JSON, SARIF or for GitHub.")(validate.validate)
app.command("explain", short_help="Explain a code such as E104, with a wrong and a right example.")(language.explain)
app.command("graph", short_help="Draw a task as a Mermaid flowchart.")(language.graph)
app.command("schema", short_help="Print the JSON Schema of task files, for editors.")(language.schema)
app.command("dry-run", short_help="Run a task in memory; replies are scripted or made up.")(definitions.dry_run)
app.command("test", short_help="Run the tests of tasks in memory (NAME.test.yaml).")(casetests.run_tests)
app.command("apply", short_help="Make the server's tasks those of files and folders.")(apply.apply)
app.add_typer(catalog.tasks)
app.add_typer(tools.tools)
app.command("run", short_help="Run a task and wait for its result.")(run.run)
app.command("dev")(services.dev)
app.command("worker", short_help="Run a worker.")(services.worker)
app.command("serve", short_help="Serve the API.")(services.serve)
app.command("doctor", short_help="Check the installation and what runs.")(doctor.doctor)
app.command("ls", short_help="List or count executions.")(listing.list_executions)
app.command("usage")(listing.usage)
app.command("describe", short_help="Show one execution.")(executions.describe)
app.command("logs", short_help="Print what happened, one line an event; -f follows.")(executions.logs)
app.command("history", short_help="Tell the whole story of an execution.")(history.history)
app.command("steps", short_help="List the steps that ran, or show one whole.")(steps.steps)
app.command("watch", short_help="Watch an execution until it ends.")(watch.watch)
app.command("budgets", short_help="Show budgets of model calls and what is used of them.")(budgets.budgets)
app.command("top", short_help="Show what the whole server does now.")(top.top)
app.command("result", short_help="Print the result of an execution that has ended.")(executions.result)
app.command("answer")(executions.answer)
app.command("event", short_help="Send an event to an execution that waits for it.")(executions.send_event)
app.command("message", short_help="Send a message to an execution that listens.")(messages.send_message)
app.command("link", short_help="Print a link by which somebody answers a wait in a browser.")(steering.link)
app.command("cancel")(executions.cancel)
app.command("terminate", short_help="End an execution at once, without cleaning up.")(steering.terminate)
app.command("pause", short_help="Let nothing new start in an execution until it is continued.")(steering.pause)
app.command("continue", short_help="Let a paused execution go on.")(steering.go_on)
app.command("break", short_help="Set the steps before which an execution pauses.")(steering.set_breaks)
app.command("deadline", short_help="Change when a wait gives up.")(steering.set_deadline)
app.command("retry", short_help="Go on where an execution failed.")(steering.retry)
app.command("fork", short_help="Take another way from any step of an execution.")(steering.fork)
app.command("reindex", short_help="Make the stored rows anew from Temporal's histories.")(reindex.reindex)
app.command("backup", short_help="Copy all state of `everstep dev` into a folder.")(backup.backup)
app.command("restore", short_help="Put a backup into an empty data folder.")(backup.restore)
app.command("purge", short_help="Remove ended executions for good, here and in Temporal.")(purging.purge)
app.add_typer(schedules.schedule)
app.add_typer(webhooks.webhook)
app.add_typer(hooks.hook)
app.command("emit", short_help="Send an event to all who wait for it.")(hooks.emit)
app.add_typer(bulk.bulk)
app.add_typer(keys.keys)
app.add_typer(secrets.secrets)
app.add_typer(backends.backends)
app.add_typer(models.models)
app.add_typer(models.groups)
app.add_typer(docs.docs)
app.add_typer(resources.agents)
app.add_typer(resources.users)
app.add_typer(resources.projects)
app.add_typer(sessions.sessions)
app.add_typer(import_julep.imports)
keys.keys.command("encryption", short_help="Make a key that encrypts what Temporal is given.")(purging.encryption_key)
app.command("mock-llm", short_help="Serve a scripted OpenAI-compatible model for tests.")(services.mock_llm)


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
        report_error(error, as_json_text=wants_json(arguments), pretty="jsonl" not in arguments)
        return exit_of(error)
    except ClickException as error:
        failure = EngineError(error.format_message(), code="usage", hint="see `everstep --help`")
        report_error(failure, as_json_text=wants_json(arguments), pretty="jsonl" not in arguments)
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
