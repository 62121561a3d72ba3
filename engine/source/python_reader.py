"""Reads tasks from the operator's own Python files: runs the file and collects the `Task` objects at its top level.

Only commands that the operator types do this. What comes through the API is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
import linecache
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from engine.author.places import characters
from engine.author.task import Task
from engine.author.yaml_writer import write_yaml
from engine.core.diagnostics import NOWHERE, Diagnostic, Position, did_you_mean
from engine.core.errors import DefinitionError, EngineError, InvalidInput, SourceError
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapNode, Node, node_to_json
from engine.source.python_paths import is_python, split_name
from engine.source.task_text import read_task_text

_PART_OF_PATH = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_OUR_PACKAGES = frozenset({"engine", "workflows", "activities", "worker"})


@dataclass(frozen=True, slots=True)
class PythonTask:
    """A task of a Python file.

    Attributes:
        name: Its own name, or that of its variable.
        variable: The variable.
        root: Its tree; places lie in the Python file.
        file: The file, as the user gave it.
        source: Text of the file.
    """

    name: str
    variable: str
    root: MapNode
    file: str
    source: str

    def to_yaml(self) -> str:
        """Return the text of a YAML file with the same task."""
        return write_yaml(node_to_json(self.root))

    def place_of(self, path: str) -> Position:
        """Return where in the Python file a part of the task was made.

        Args:
            path: Place in the structure, such as `main[2].then.tool`; as far as it exists.
        """
        node: Node = self.root
        for key, index in _PART_OF_PATH.findall(path):
            inner: Node | None = None
            if isinstance(node, MapNode):
                inner = node.get(key)
            elif isinstance(node, ListNode) and index and int(index) < len(node.items):
                inner = node.items[int(index)]
            if inner is None:
                break
            node = inner
        return node.position

    def placed(self, findings: Sequence[Diagnostic]) -> list[Diagnostic]:
        """Return findings about `to_yaml()` with the places of the Python file."""
        return [replace(item, position=self.place_of(item.path)) for item in findings]


def read_python_task(path: Path) -> PythonTask:
    """Read one task of a Python file.

    Args:
        path: The file if it holds one task, else `file.py:name`.

    Raises:
        SourceError: The file cannot be read, fails, or holds no task.
        InvalidInput: `task.ambiguous` if it holds several and none is named, `task.not_found` if none has that name.
    """
    file, wanted = split_name(path)
    tasks = read_python(file)
    known = ", ".join(f"{file}:{task.name}" for task in tasks)
    if not wanted:
        if len(tasks) == 1:
            return tasks[0]
        raise InvalidInput(f"{file} holds {len(tasks)} tasks", code="task.ambiguous", hint=f"name one: {known}")
    for task in tasks:
        if wanted in (task.name, task.variable):
            return task
    near = did_you_mean(wanted, [task.name for task in tasks])
    raise InvalidInput(f"{file} holds no task '{wanted}'", code="task.not_found", hint=near or f"it has {known}")


def one_by_one(path: Path) -> list[Path]:
    """Return `file.py:name` for each task of a Python file that holds several; any other path as it is.

    A file that cannot be read stays as it is too, since whoever reads it next says what is wrong.
    """
    file, wanted = split_name(path)
    if wanted or not is_python(path):
        return [path]
    try:
        tasks = read_python(file)
    except EngineError:
        return [path]
    return [path] if len(tasks) == 1 else [Path(f"{file}:{task.name}") for task in tasks]


def read_python(file: Path) -> tuple[PythonTask, ...]:
    """Read all tasks of a Python file.

    The file's folder goes to the end of sys.path, so that it can import its neighbours, but none of them can hide a
    module of the engine. Variables that start with `_` are passed over.

    Args:
        file: The file.

    Returns:
        The tasks in the order of the file, at least one.

    Raises:
        SourceError: The file cannot be read, fails when it is run, or holds no task; with the line.
    """
    shown = str(file)
    source = read_task_text(file)
    path = file.resolve()
    tasks: dict[int, PythonTask] = {}
    for variable, value in _run(path, shown, source).items():
        if isinstance(value, Task) and not variable.startswith("_") and id(value) not in tasks:
            name = value.name or variable
            tasks[id(value)] = PythonTask(name, variable, value.to_node(name, str(path)), shown, source)
    if not tasks:
        hint = "write it at the top level: `my_task = Task(main=[…])`"
        raise _refused(shown, source, codes.NOT_A_TASK, "the file holds no task", hint=hint)
    _check_names(tuple(tasks.values()))
    return tuple(tasks.values())


def _check_names(tasks: Sequence[PythonTask]) -> None:
    seen: dict[str, PythonTask] = {}
    for task in tasks:
        first = seen.setdefault(task.name, task)
        if first is not task:
            message = f"two tasks are called '{task.name}': {first.variable} and {task.variable}"
            hint = "give one of them another name: Task(name=…)"
            raise _refused(task.file, task.source, codes.CONFLICT, message, task.root.position, hint)


def _run(path: Path, shown: str, source: str) -> dict[str, object]:
    """Run a file as a module of its own and return its variables."""
    try:
        # not by the import system: its cache of compiled files tells changes apart by the second only
        code = compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        at = Position(error.lineno or 1, error.offset or 1)
        raise _refused(shown, source, codes.SYNTAX, f"this is not Python: {error.msg}", at) from error
    except ValueError as error:
        raise _refused(shown, source, codes.NOT_TEXT, "the file holds a null character") from error
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = ModuleType(f"_everstep_task_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}")
    module.__file__ = str(path)
    linecache.checkcache(str(path))
    known = set(sys.modules)
    sys.modules[module.__name__] = module  # dataclasses and pydantic look their module up while it runs
    try:
        # what the file prints must not get into the output of a command
        with contextlib.redirect_stdout(sys.stderr):
            exec(code, module.__dict__)  # noqa: S102 - the operator's own file, named by the operator
    except (Exception, SystemExit) as error:  # the operator's code may raise anything, and all of it means one thing
        raise _failed(error, path, shown, source) from error
    finally:
        _forget(set(sys.modules) - known, path.parent)
    return dict(vars(module))


def _forget(names: set[str], folder: Path) -> None:
    """Drop the author's own modules beside the file, so that the next run of it reads them again as they are then."""
    for name in names - {name for name in names if name.split(".")[0] in _OUR_PACKAGES}:
        origin = getattr(sys.modules.get(name), "__file__", None)
        path = Path(origin).resolve() if origin else None
        if path is None or not path.is_relative_to(folder):
            continue
        # an environment of installed packages may lie in the folder, and those do not bear being read twice
        inside = path.relative_to(folder).parts
        if "site-packages" not in inside and not any(part.startswith(".") for part in inside):
            sys.modules.pop(name, None)


def _failed(error: BaseException, path: Path, shown: str, source: str) -> SourceError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    at = NOWHERE
    if frames:
        line = frames[-1].lineno or 1
        at = Position(line, characters(str(path), line, frames[-1].colno or 0) + 1)
    if isinstance(error, DefinitionError) and error.diagnostics:
        found = list(error.diagnostics)
        if error.file != str(path):
            found = [replace(item, message=f"{item.message} ({_at(error)})", position=at) for item in found]
        return SourceError(
            f"{shown}: {found[0].message}", hint=found[0].hint, diagnostics=found, file=shown, source=source
        )
    message = f"the file fails when it is run: {type(error).__name__}: {error}"
    deepest = traceback.extract_tb(error.__traceback__)[-1]
    if deepest.filename != str(path):
        message += f" ({deepest.filename}, line {deepest.lineno})"
    return _refused(shown, source, codes.NOT_A_TASK, message[:2000], at)


def _at(error: DefinitionError) -> str:
    return f"{error.file}, line {error.diagnostics[0].position.line}"


def _refused(shown: str, source: str, code: str, message: str, at: Position = NOWHERE, hint: str = "") -> SourceError:
    found = Diagnostic(code, message, at, hint)
    return SourceError(f"{shown}: {message}", hint=hint, diagnostics=[found], file=shown, source=source)
