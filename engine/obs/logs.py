"""Sets up structlog: one line an event on stderr, as text for people or JSON for programs.

Lines about an execution have its id as `execution`; those of a call also `step`, `attempt`, `trace_id` and `span_id`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, TextIO, cast

import structlog

from engine.obs.redaction import Redactor, hide_carriers

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Patient:
    """A stream that loses what cannot be written: a full disk must not end whoever only wants to tell of it.

    Args:
        stream: Where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Send on what is kept back, or lose it."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logging(level: str = "info", json: bool = False) -> Redactor:
    """Send structlog's events, and warnings of the standard library's loggers, to stderr.

    Args:
        level: debug, info, warning or error; an unknown word means info.
        json: Lines as JSON instead of text.

    Returns:
        What takes secrets out of all lines, as far as it is told of them.
    """
    number = LEVELS.get(level.lower(), logging.INFO)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # tracebacks without local variables: those hold keys and people's data, and megabytes of both
    as_json = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    as_text = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    renderer: list[structlog.types.Processor] = [as_json, structlog.processors.JSONRenderer()] if json else [as_text]
    redactor = Redactor()
    renderer = [hide_carriers, *renderer, redactor]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Patient(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_Patient(sys.stderr))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, _add_temporal_fields],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # libraries are quieter than we are: their info lines are about every request
    root.setLevel(max(number, logging.WARNING))
    return redactor


def redactor_in_use() -> Redactor:
    """Return what takes secrets out of this process's lines; before logging is configured, one that nothing uses."""
    found = (one for one in structlog.get_config()["processors"] if isinstance(one, Redactor))
    return next(found, Redactor())


def _add_temporal_fields(logger: Any, method: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    """Give lines of Temporal's SDK the names under which ours tell the same; its own stand in the text at best."""
    del logger, method
    record = line.get("_record")
    for name in ("temporal_activity", "temporal_workflow"):
        about = getattr(record, name, None)
        if isinstance(about, dict) and about.get("workflow_id"):
            line.setdefault("execution", about["workflow_id"])
            line.setdefault("run", about.get("workflow_run_id") or about.get("run_id"))
    return line


def lines_to_stderr() -> None:
    """Let lines go to stderr in a process that has not set up logging, such as a command that only looks at something.

    Unconfigured, structlog writes them to standard output, which belongs to programs.
    """
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            # looked up for each line: tests and callers put another stream there
            logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        )
