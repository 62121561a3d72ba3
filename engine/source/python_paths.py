"""Tells Python task files from others, and splits `task.py:name`; loads nothing, so that every command can ask."""

from __future__ import annotations

import re
from pathlib import Path

_FILE_AND_NAME = re.compile(r"(.+?\.py)(?::(.*))?\Z", re.DOTALL)


def split_name(path: Path) -> tuple[Path, str]:
    """Split `task.py:name` into the file and the name of one task in it; the name is empty if there is none."""
    match = _FILE_AND_NAME.match(str(path))
    return (Path(match[1]), match[2] or "") if match else (path, "")


def is_python(path: Path) -> bool:
    """Whether a path names a Python file, or one task in it as `task.py:name`."""
    return split_name(path)[0].suffix == ".py"
