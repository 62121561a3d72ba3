"""Reads the text of a task file, and shows where one that is not UTF-8 stops being text."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.core.diagnostics import Position
from engine.core.errors import InvalidInput, SourceError
from engine.core.spec import codes
from engine.source.limits import source_error
from engine.source.python_paths import split_name

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_task_text(path: Path) -> str:
    """Read a task file; `-` is standard input, and of `task.py:name` the file counts.

    Args:
        path: The file.

    Returns:
        Its text, lines ended as on Unix.

    Raises:
        SourceError: E101 with the place of the first byte that is not UTF-8.
        InvalidInput: `file.unreadable` with the reason.
    """
    if str(path) == "-":
        return decode_source(sys.stdin.buffer.read(), "-")
    file = split_name(path)[0]
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", code="file.unreadable") from error
    return decode_source(data, str(file))


def decode_source(data: bytes, file: str) -> str:
    """Return the text of a source.

    Args:
        data: Its bytes.
        file: Its name for messages.

    Raises:
        SourceError: E101 with the place of the first byte that is not UTF-8; its source has `�` for what is no text.
    """
    try:
        return _with_plain_ends(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = _with_plain_ends(data[: error.start].decode("utf-8"))
        at = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        is_utf_16 = data.startswith(_UTF_16)
        hint = "it looks like UTF-16; save it as UTF-8" if is_utf_16 else "save the file as UTF-8"
        found = source_error(codes.NOT_TEXT, f"the byte 0x{data[error.start]:02x} is not UTF-8 text", at, hint=hint)
        source = _with_plain_ends(data.decode("utf-8", errors="replace"))
        raise SourceError(
            f"{file}: {found.message}", hint=hint, diagnostics=found.diagnostics, file=file, source=source
        ) from error


def _with_plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
