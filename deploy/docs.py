"""Writes the pages that are made from the code: diagnostics, errors, the table of metrics, the language reference."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from language_pages import PAGES as LANGUAGE_PAGES

from engine.control.remedies import REMEDIES
from engine.core.spec.codebook.book import BOOK, GROUPS
from engine.core.spec.codes import CODES
from engine.obs.metrics import INSTRUMENTS

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("engine", "workflows", "activities")


@dataclass(frozen=True, order=True)
class Raised:
    """An error code and the text that goes with it, as they stand in the code."""

    code: str
    kind: str
    text: str


def _text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "…"


def _codes_in(path: Path) -> Iterator[Raised]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        kind = node.func.id if isinstance(node.func, ast.Name) else ""
        for keyword in node.keywords:
            code = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg == "code" and isinstance(code, str):
                yield Raised(code, kind, _text_of(node.args[0]))


def raised_codes() -> list[Raised]:
    """Return every code that the code names, with its class and text, sorted."""
    files = [ROOT / "worker.py", *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]
    return sorted({found for path in files for found in _codes_in(path) if found.code.islower()})


def render_errors() -> str:
    """Return docs/errors.md."""
    lines = [
        "# Error codes",
        "",
        "Codes are stable: programs may depend on them, never on the texts. The first word says who speaks:",
        "`input`, `config`, `definition` — caller or author must act; `expression`, `step`, `task`, `wait`, `limit`,",
        "`tool`, `effect`, `backend` — a step ended; all but `limit` can be caught with `on_error`.",
        "Diagnostics of task files have codes of their own: [diagnostics](diagnostics.md).",
        "`make docs` makes this page from the code.",
        "",
        "| code | class | text |",
        "| --- | --- | --- |",
    ]
    for found in raised_codes():
        text = " ".join(found.text.split()).replace("|", "\\|")
        lines.append(f"| `{found.code}` | {found.kind or '–'} | {text} |")
    return "\n".join([*lines, *_remedies()]) + "\n"


def _remedies() -> Iterator[str]:
    yield from ("", "## What operators find on executions", "")
    yield "`stuck` and `error` are members of an execution, `reindex` lists its failures: [operations](operations.md)."
    yield from ("", "| code | in | meaning | remedy |", "| --- | --- | --- | --- |")
    for code, one in REMEDIES.items():
        yield f"| `{code}` | {one.where} | {one.means} | {one.remedy} |"


def render_diagnostics() -> str:
    """Return docs/diagnostics.md."""
    lines = [
        "# Diagnostics",
        "",
        "What `everstep validate` and the API say about a task, by code. Errors (`E…`) stop a task from being created,",
        "warnings (`W…`) do not. Codes never change their meaning. `everstep explain CODE` shows the same text.",
        "`make docs` makes this page from the code; a test runs every example.",
        "",
    ]
    for prefix, title in GROUPS.items():
        lines += [f"## {title}", "", "| code | meaning |", "| --- | --- |"]
        found = [code for code in CODES if code.startswith(prefix)]
        lines += [f"| [{code}](#{code.lower()}) | {CODES[code]} |" for code in found]
        lines.append("")
        for code in found:
            lines += _explained(code)
    return "\n".join(lines)


def _explained(code: str) -> list[str]:
    entry = BOOK[code]
    bad, good = entry.shown_bad.splitlines(), entry.good.splitlines()
    wrong, right = ["Wrong:", "", "```yaml", *bad, "```", ""], ["Right:", "", "```yaml", *good, "```", ""]
    return [f"### {code}", "", CODES[code], "", entry.why, "", *wrong, *right]


def render_telemetry() -> str:
    """Return docs/telemetry.md, which is written by hand but for the table of metrics."""
    lines = ["| name | kind | unit | says | attributes | in |", "| --- | --- | --- | --- | --- | --- |"]
    for name, one in INSTRUMENTS.items():
        attributes = ", ".join(f"`{attribute}`" for attribute in one.attributes) or "–"
        lines.append(f"| `{name}` | {one.kind} | `{one.unit}` | {one.says} | {attributes} | {one.process} |")
    text = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    before, mark, rest = text.partition("<!-- metrics: made from the code by `make docs` -->\n")
    _, end, after = rest.partition("<!-- end of metrics -->")
    return f"{before}{mark}\n{chr(10).join(lines)}\n\n{end}{after}"


PAGES = {
    "docs/diagnostics.md": render_diagnostics,
    "docs/errors.md": render_errors,
    "docs/telemetry.md": render_telemetry,
    **LANGUAGE_PAGES,
}


def main() -> None:
    """Write the pages; with `--check` only say which are out of date."""
    stale = []
    for name, render in PAGES.items():
        path = ROOT / name
        text = render()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        raise SystemExit(f"out of date: {', '.join(stale)}; run `make docs`")


if __name__ == "__main__":
    main()
