"""A small server of the Agent Connect Protocol for tests: runs of agents that echo, wait, ask back or fail."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

KEY = "k3y-of-the-remote-agents-92741"
WAIT_S = 0.3
"""How long one request waits here before it is answered with 204."""

DESCRIPTOR: dict[str, Any] = {
    "metadata": {"ref": {"name": "org.example.echo", "version": "1.0.0"}, "description": "Says what it is told."},
    "specs": {
        "capabilities": {"threads": False, "interrupts": True, "callbacks": False},
        "input": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        },
        "output": {"type": "object"},
        "config": {},
    },
}


@dataclass
class Run:
    """A run as the server keeps it."""

    run_id: str
    agent_id: str
    creation: dict[str, Any]
    at: str
    status: str = "pending"
    output: dict[str, Any] | None = None
    cancelled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def to_json(self) -> dict[str, Any]:
        """Return it as the protocol has it."""
        told = {"run_id": self.run_id, "agent_id": self.agent_id, "status": self.status, "creation": self.creation}
        return {**told, "created_at": self.at, "updated_at": self.at, "thread_id": None}

    def end(self, status: str, output: dict[str, Any]) -> None:
        """Let it end."""
        self.status, self.output = status, output
        self.ended.set()


@dataclass
class AcpServer:
    """The server and what happened to it.

    Attributes:
        runs: All runs by id.
        keys: Run ids by idempotency key.
        creations: How often a run was asked for.
        unavailable: How many of the next requests that wait are answered with 503.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    creations: int = 0
    waits: int = 0
    unavailable: int = 0

    @property
    def only(self) -> Run:
        """The one run that there is."""
        (run,) = self.runs.values()
        return run

    def app(self) -> FastAPI:
        """Return the application."""
        app = FastAPI()

        @app.middleware("http")
        async def check_key(request: Request, proceed: Any) -> Any:
            if request.headers.get("x-api-key") != KEY:
                return JSONResponse(f"the key {request.headers.get('x-api-key')} is wrong", status_code=401)
            return await proceed(request)

        @app.get("/agents/{agent_id}/descriptor")
        async def descriptor(agent_id: str) -> Any:
            return DESCRIPTOR if agent_id == "echo" else JSONResponse("no such agent", status_code=404)

        @app.post("/runs")
        async def create(request: Request) -> Any:
            self.creations += 1
            body = await request.json()
            key = request.headers.get("idempotency-key", "")
            if key not in self.keys:
                run = Run(str(uuid.uuid4()), body.get("agent_id", "echo"), body, dt.datetime.now(dt.UTC).isoformat())
                self.runs[run.run_id] = run
                self.keys[key] = run.run_id
                _act(run, body.get("input"))
            return self.runs[self.keys[key]].to_json()

        @app.get("/runs/{run_id}")
        async def get(run_id: str) -> Any:
            run = self.runs.get(run_id)
            return JSONResponse("no such run", status_code=404) if run is None else run.to_json()

        @app.get("/runs/{run_id}/wait")
        async def wait(run_id: str) -> Any:
            self.waits += 1
            if self.unavailable:
                self.unavailable -= 1
                return JSONResponse("later", status_code=503)
            run = self.runs.get(run_id)
            if run is None:
                return JSONResponse("no such run", status_code=404)
            try:
                await asyncio.wait_for(run.ended.wait(), WAIT_S)
            except TimeoutError:
                return Response(status_code=204)
            return {"run": run.to_json(), "output": run.output}

        @app.post("/runs/{run_id}/cancel")
        async def cancel(run_id: str) -> Any:
            run = self.runs[run_id]
            run.cancelled = True
            if not run.ended.is_set():
                run.end("error", {"type": "error", "run_id": run_id, "errcode": 499, "description": "cancelled"})
            return Response(status_code=204)

        return app


def _act(run: Run, given: Any) -> None:
    if run.agent_id == "echo":
        run.end("success", {"type": "result", "values": {"said": given}})
    elif run.agent_id == "talks":
        messages = [{"role": "assistant", "content": "hello"}]
        run.end("success", {"type": "result", "values": {"n": 1}, "messages": messages})
    elif run.agent_id == "asks":
        run.end("interrupted", {"type": "interrupt", "interrupt": {"approval": {"question": "sure?"}}})
    elif run.agent_id == "fails":
        told = f"it broke with the key {KEY}"
        run.end("error", {"type": "error", "run_id": run.run_id, "errcode": 7, "description": told})
