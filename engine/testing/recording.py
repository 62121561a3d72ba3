"""Real replies for tests: a process that makes the calls, the cassette that keeps them, and its replay."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from engine.core.contracts.activities import ChatParams, ToolParams
from engine.core.contracts.children import ChildParams
from engine.core.contracts.failures import failure_body, run_error_of
from engine.core.contracts.lookups import EmbedParams, SearchParams
from engine.core.errors import InvalidInput, RunError, Unavailable
from engine.core.run.effects import Call, Failed, Ok
from engine.core.values import Json, canonical_json
from engine.dryrun.effects import Answered
from engine.testing.replies import chat_request, lookup_request

FORMAT: Final = 1
END_TIMEOUT_S = 5.0
STALE: Final = "test.stale"
"""Code of a call that is not that of the recording."""
KINDS: Final = {"chat": ChatParams, "embed": EmbedParams, "search": SearchParams}
"""What the process calls the calls; all others are of tools."""
SET_UP: Final = ("backend.none_configured", "tool.unknown")
"""What says something of this machine, not of the task: not kept, or the recording would say it for ever."""


class CallProcess:
    """Makes calls for real, in a worker process without Temporal (`python -m worker calls`); one call at a time.

    Args:
        project_file: The operator's everstep.toml, with the backends and tools; None = the one in this folder.
    """

    def __init__(self, project_file: Path | None = None) -> None:
        environment = dict(os.environ)
        if project_file is not None:
            environment["EVERSTEP_PROJECT_FILE"] = str(project_file.absolute())
        environment.setdefault("EVERSTEP_LOG_LEVEL", "error")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker", "calls"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __call__(self, call: Call) -> Answered:
        """Make a call; the virtual clock moves by the time it took.

        Raises:
            Unavailable: `test.no_worker` if the process has ended; it has said why on standard error.
        """
        kind = next((name for name, made in KINDS.items() if isinstance(call.params, made)), "tool")
        if not self._is_ready:
            # its start is no time of the call
            self._read()
            self._is_ready = True
        began = time.monotonic()
        answer = self._ask({"kind": kind, "params": dataclasses.asdict(call.params)})
        after_s = max(0.001, round(time.monotonic() - began, 3))
        if "error" in answer:
            return Answered(Failed(run_error_of(answer["error"])), after_s)
        return Answered(Ok(answer["value"]), after_s)

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        # a process that has ended shows when its answer is read
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{json.dumps(question)}\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(
                "the process that makes the real calls has ended",
                code="test.no_worker",
                hint="it says why above; `everstep doctor` checks backends and tools",
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


# --- the cassette --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Cassette:
    """Recorded calls of a test file.

    Attributes:
        path: The file.
        cases: Calls by case and run: [{id, path, request, value | error, seconds}].
    """

    path: Path
    cases: dict[str, dict[str, list[dict[str, Json]]]] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file, its members in one order, so that its changes can be read."""
        body = {"format": FORMAT, "cases": self.cases}
        self.path.write_text(f"{json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True)}\n", encoding="utf-8")


def load_cassette(path: Path) -> Cassette:
    """Read a cassette; a missing one is empty.

    Raises:
        InvalidInput: `test.cassette` if the file is none.
    """
    if not path.is_file():
        return Cassette(path)
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise ValueError(f"its format is {body['format']}, not {FORMAT}")
        cases = {
            str(name): {str(run): list(calls) for run, calls in runs.items()} for name, runs in body["cases"].items()
        }
        return Cassette(path, cases)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(
            f"{path} is no recording: {error}", code="test.cassette", hint="make it again with `everstep test --record`"
        ) from error


def _request_of(call: Call) -> dict[str, Json]:
    if isinstance(call.params, ChatParams):
        return chat_request(call.params)
    if isinstance(call.params, EmbedParams | SearchParams):
        return lookup_request(call.params)
    assert isinstance(call.params, ToolParams)
    return {"tool": call.params.tool.name, "arguments": call.params.arguments}


class Recorder:
    """Makes calls for real and keeps what came back.

    Args:
        process: Makes the calls.
    """

    def __init__(self, process: CallProcess) -> None:
        self._process = process
        self.calls: list[dict[str, Json]] = []

    def __call__(self, call: Call) -> Answered | None:
        """Make a call; another task is not run, it needs a scripted reply."""
        if isinstance(call.params, ChildParams):
            return None
        answered = self._process(call)
        kept: dict[str, Json] = {
            "id": call.id,
            "path": call.params.context.path,
            "request": _request_of(call),
            "seconds": answered.after_s,
        }
        if isinstance(answered.outcome, Ok):
            kept["value"] = answered.outcome.value
        elif isinstance(answered.outcome, Failed):
            if answered.outcome.error.code in SET_UP:
                return answered
            kept["error"] = failure_body(answered.outcome.error)
        self.calls.append(kept)
        return answered


class Player:
    """Answers calls from a recording; a call whose request has changed since is not answered with an old reply.

    Args:
        calls: The recorded calls of the run.
    """

    def __init__(self, calls: list[dict[str, Json]]) -> None:
        self._calls = {str(call["id"]): call for call in calls}
        self.problems: list[str] = []

    def __call__(self, call: Call) -> Answered | None:
        """Answer a call."""
        if isinstance(call.params, ChildParams):
            return None
        kept = self._calls.get(call.id)
        if kept is None:
            return self._stale(call, "is not in the recording")
        request = _request_of(call)
        if canonical_json(request) != canonical_json(kept["request"]):
            names = [key for key in request if request[key] != kept["request"].get(key)]
            return self._stale(call, f"has changed since it was recorded ({', '.join(names) or 'other members'})")
        after_s = float(kept.get("seconds", 0.001))
        if "error" in kept:
            return Answered(Failed(run_error_of(kept["error"])), after_s)
        return Answered(Ok(kept["value"]), after_s)

    def _stale(self, call: Call, why: str) -> Answered:
        message = f"the call '{call.summary}' at {call.params.context.path} {why}; record again with --record"
        self.problems.append(message)
        return Answered(Failed(RunError(message, code="test.stale")))
