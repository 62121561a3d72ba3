"""Resolves deploy/*.in into requirements.lock: exact versions with hashes for every platform, no index address."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = (
    "# Exact versions with hashes, made by `make lock` from deploy/*.in. Install with --no-deps --require-hashes.\n"
)


def compile_file(uv: Path, source: Path, *extra: str) -> str:
    """Resolve one input file and return the lock text."""
    command = [str(uv), "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += [
        "--no-annotate",
        "--no-header",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--quiet",
        *extra,
        str(source),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Write requirements.lock."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "uv"], check=True)
        uv = Path(folder) / "bin" / "uv"
        body = compile_file(uv, ROOT / "deploy" / "requirements.in")
        weights = compile_file(uv, ROOT / "deploy" / "requirements-alone.in", "--no-deps")
    text = HEADER + body + weights
    if "://" in text:
        raise SystemExit("the lock names an address; nothing was written")
    (ROOT / "requirements.lock").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
