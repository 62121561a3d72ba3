"""Modules that run inside workflows hold nothing whose behaviour differs from process to process, and layers hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.arch.scanning import (
    CONCURRENCY,
    ROOT,
    Finding,
    dynamic_imports,
    global_state,
    identity_calls,
    imported_names,
    imports_of,
    is_marked,
    modules_named,
    modules_under,
    parse,
    set_iterations,
)
from tests.support.patience import START_S

SAFE = modules_under("engine/core", "workflows")
CORE = modules_under("engine/core")
ENGINE = modules_under("engine")
IMPORTS_BY_NAME = (
    "engine/control/tools.py",  # the operator's tool modules, which no contract can know
    "engine/edge/supervisor/temporal.py",  # a slow import moved off the start
    "engine/source/python_reader.py",  # the operator's task files
)
COMPARES_OBJECTS = ("engine/core/plan/schema_check.py",)
"""Use id() to recognise an object they met before, inside one call, when a task is compiled."""

Check = Callable[[ast.Module], Iterable[Finding]]


def findings(check: Check, paths: Iterable[Path]) -> list[str]:
    """Run a check over files; one line a finding."""
    return [f"{path.relative_to(ROOT)}:{found.line}: {found.what}" for path in paths for found in check(parse(path))]


def no_concurrency(tree: ast.Module) -> Iterable[Finding]:
    """Threads and their like."""
    return imports_of(tree, CONCURRENCY)


def no_asyncio(tree: ast.Module) -> Iterable[Finding]:
    """The core never waits."""
    return imports_of(tree, frozenset({"asyncio"}))


def test_exactly_the_modules_of_core_and_workflows_are_marked_workflow_safe():
    everywhere = modules_under("engine", "workflows", "activities", "worker.py")
    marked = {str(path.relative_to(ROOT)) for path in everywhere if is_marked(parse(path))}
    assert marked == {str(path.relative_to(ROOT)) for path in SAFE}


def test_no_workflow_safe_module_depends_on_the_order_of_a_set():
    assert findings(set_iterations, SAFE) == []


def test_no_workflow_safe_module_uses_hash_or_id():
    assert (
        findings(identity_calls, [path for path in SAFE if str(path.relative_to(ROOT)) not in COMPARES_OBJECTS]) == []
    )


def test_no_workflow_safe_module_changes_state_at_module_level():
    assert findings(global_state, SAFE) == []


def test_core_never_imports_asyncio():
    assert findings(no_asyncio, CORE) == []


def test_no_workflow_safe_module_starts_threads():
    assert findings(no_concurrency, SAFE) == []


def test_no_workflow_safe_module_imports_by_name():
    assert findings(dynamic_imports, SAFE) == []


def test_the_engine_imports_neither_workflows_nor_activities_nor_the_worker():
    above = frozenset({"workflows", "activities", "worker"})
    assert findings(lambda tree: imports_of(tree, above), ENGINE) == []
    by_name = [ROOT / name for name in IMPORTS_BY_NAME]
    assert findings(dynamic_imports, [path for path in ENGINE if path not in by_name]) == []
    for path in by_name:
        assert not above & {name.split(".")[0] for name in modules_named(parse(path))}


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (set_iterations, "for x in {1, 2}: pass"),
        (set_iterations, "names = set(given)\nfor x in names: pass"),
        (set_iterations, "names: set[str] = make()\nout = [x for x in names]"),
        (set_iterations, "def f(names: frozenset[str]):\n    return list(names)"),
        (set_iterations, "out = ', '.join({'a', 'b'})"),
        (set_iterations, "out = [x for x in a.keys() - b]"),
        (set_iterations, "known = {1} | other\nfirst = next(iter(known))"),
        (set_iterations, "self.seen = set()\nfor x in self.seen: pass"),
        (set_iterations, "left = {1, 2}\none = left.pop()"),
        (set_iterations, "left = {1, 2}\nout = [*left]"),
        (set_iterations, "def names() -> set[str]: ...\nfor x in names(): pass"),
        (set_iterations, "out = {x: 1 for x in {y for y in z}}"),
        (identity_calls, "key = hash('a')"),
        (identity_calls, "seen = [id(node)]"),
        (global_state, "CACHE = {}\ndef f(k):\n    CACHE[k] = 1"),
        (global_state, "CACHE: dict[str, int] = dict()\ndef f(k):\n    CACHE.setdefault(k, 1)"),
        (global_state, "NAMES = []\ndef f(k):\n    NAMES.append(k)"),
        (global_state, "from collections import defaultdict\nHITS = defaultdict(int)\ndef f():\n    HITS['a'] += 1"),
        (global_state, "from engine.core.kinds import TABLE\nTABLE['a'] = 1"),
        (global_state, "count = 0\ndef f():\n    global count\n    count += 1"),
        (no_asyncio, "import asyncio"),
        (no_asyncio, "def f():\n    from asyncio import sleep"),
        (no_concurrency, "import threading"),
        (no_concurrency, "from concurrent.futures import ThreadPoolExecutor"),
        (dynamic_imports, "import importlib\nimportlib.import_module('workflows.execution')"),
        (dynamic_imports, "from importlib import import_module"),
        (dynamic_imports, "__import__('worker')"),
        (dynamic_imports, "exec('import worker')"),
        (dynamic_imports, "import sys\nsys.modules['worker']"),
    ],
)
def test_every_check_catches_what_it_is_for(check: Check, bad: str):
    assert list(check(ast.parse(bad)))


@pytest.mark.parametrize(
    "good",
    [
        "names = {1, 2}\nfor x in sorted(names): pass",
        "names = {1, 2}\nassert 1 in names and len(names) == 2",
        "ok = any(x > 1 for x in {1, 2})",
        "more = {*{1, 2}, 3}",
        "table = {'a': 1}\nfor key in table: pass",
        "def f():\n    seen = []\n    seen.append(1)",
        "NAMES = ('a', 'b')\nfor name in NAMES: pass",
        "class A:\n    def id(self): ...\nA().id()",
        "total = a - b\nfor x in range(total): pass",
    ],
)
def test_the_checks_leave_good_code_alone(good: str):
    tree = ast.parse(good)
    for check in (set_iterations, identity_calls, global_state, no_asyncio, no_concurrency, dynamic_imports):
        assert list(check(tree)) == []


def test_the_mark_counts_only_at_the_end_of_the_first_paragraph():
    assert is_marked(ast.parse('"""Does things. Workflow-safe.\n\nMore."""'))
    assert not is_marked(ast.parse('"""Does things.\n\nWorkflow-safe."""'))
    assert not is_marked(ast.parse('"""Workflow-safe. Or not"""'))
    assert not is_marked(ast.parse("x = 1"))


def test_names_of_modules_that_are_imported_by_name_are_seen():
    tree = ast.parse("importlib.import_module('worker')\nto_thread(importlib.import_module, 'activities.llm')")
    assert list(modules_named(tree)) == ["worker", "activities.llm"]


def test_imports_are_seen_wherever_they_stand():
    tree = ast.parse("import a.b\ndef f():\n    from worker import x\n")
    assert list(imported_names(tree)) == [(1, "a.b"), (3, "worker")]


# --- import contracts ----------------------------------------------------------------------------------------------


def lint_imports(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in a folder."""
    program = "from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", program, "--config", str(config), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=START_S)


def test_all_import_contracts_are_kept():
    done = lint_imports(ROOT, ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_a_broken_import_contract_is_seen(tmp_path: Path):
    package = tmp_path / "layered"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "low.py").write_text("from layered import high\n")
    (package / "high.py").write_text("")
    config = tmp_path / "contracts.toml"
    contract = (
        '[[tool.importlinter.contracts]]\nname = "layers"\ntype = "layers"\nlayers = ["layered.high", "layered.low"]\n'
    )
    config.write_text(f'[tool.importlinter]\nroot_package = "layered"\n{contract}')
    done = lint_imports(tmp_path, config)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 broken" in done.stdout
