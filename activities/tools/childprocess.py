"""The process of one call of a Python tool: reads it on standard input, tells progress and result on its output."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import signal
import sys
import threading
from types import ModuleType
from typing import Any, TextIO

from pydantic import TypeAdapter

from engine.core.contracts.activities import ToolParams
from engine.core.errors import ToolError
from engine.core.values import Json, compact_json
from engine.tooling.calls import call_arguments, call_failure, call_result
from engine.tooling.definition import Tool

_PARAMS: TypeAdapter[ToolParams] = TypeAdapter(ToolParams)


def main() -> None:
    """Make the call."""
    out, given = _keep_output(), _keep_input()
    asked: dict[str, Any] = json.loads(given.readline())
    threading.Thread(target=_die_with_the_worker, args=(given,), daemon=True).start()
    sys.path[:] = asked["path"]
    # that was for this process alone, and not for what the tool starts
    os.environ.pop("PYTHONPATH", None)
    if asked["environment"] is not None:
        os.environ["PYTHONPATH"] = asked["environment"]
    writing = threading.Lock()

    def tell(said: dict[str, Json]) -> None:
        # a tool may tell its progress from many threads
        with writing:
            out.write(f"{compact_json(said)}\n")
            out.flush()

    try:
        tell({"result": _call(asked, tell)})
    except ToolError as error:
        details: Any = error.details
        told = {"code": error.code, "hint": error.hint, "retryable": error.retryable, "details": details}
        tell({"error": {"message": error.message, **told}})


def _keep_output() -> TextIO:
    """Return what was standard output, and let all that is printed, by whatever library, go to the worker's log."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8", errors="surrogatepass")


def _keep_input() -> TextIO:
    """Return what was standard input, and let the tool, and what it starts, find nothing there instead of waiting."""
    kept = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return os.fdopen(kept, encoding="utf-8")


def _die_with_the_worker(given: TextIO) -> None:
    # the input ends when the worker does, however that came
    given.read()
    os.killpg(0, signal.SIGKILL)


def _call(asked: dict[str, Any], tell: Any) -> Json:
    params = _PARAMS.validate_python(
        {"context": asked["context"], "tool": asked["contract"], "arguments": asked["arguments"], "timeout_s": 1.0}
    )
    tool = _find(asked)
    arguments = call_arguments(tool, params, lambda told: tell({"progress": told}))
    try:
        result = tool.function(**arguments)
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise call_failure(tool, error) from error
    return call_result(tool, result)


async def _awaited(result: Any) -> Any:
    return await result


def _find(asked: dict[str, Any]) -> Tool[..., Any]:
    try:
        module = _import(asked["module"], asked["file"])
    except (Exception, SystemExit) as error:
        raise ToolError(
            f"tool '{asked['tool']}': its module cannot be imported in a process of its own: {error}",
            code="tool.failed",
            details={"exception": type(error).__name__},
        ) from error
    for found in vars(module).values():
        if isinstance(found, Tool) and found.name == asked["tool"]:
            return found
    raise ToolError(
        f"tool '{asked['tool']}' does not stand at the level of its module {asked['module']}",
        code="tool.unknown",
        hint="a tool with process=True must be a member of its module when that is imported",
    )


def _import(name: str, file: str) -> ModuleType:
    known = name != "__main__" and importlib.util.find_spec(name) is not None
    if known:
        return importlib.import_module(name)
    # the worker gave it a name of its own, since another module has the usual one
    spec = importlib.util.spec_from_file_location(name if name != "__main__" else "_everstep_tool", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
