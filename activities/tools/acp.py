"""Calls remote agents over the Agent Connect Protocol as tools: creates a run, waits for its end, cancels it too."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from temporalio import activity

from activities.effects import keep_note, kept_note
from activities.tools.http import HttpAnswer, HttpTools
from activities.tools.http_request import HttpCall
from engine.control.credentials import Mask, carried, cookie_pair, secrets_of
from engine.core.contracts.activities import ToolParams
from engine.core.contracts.failures import clip
from engine.core.errors import ExpressionError, ToolError
from engine.core.values import Json, to_json_value
from engine.settings import AcpConfig

POLL_S: Final = 30.0
"""How long one request waits for the end of a run; a proxy may cut longer ones."""
PAUSE_S: Final = 1.0
"""Between two looks at a run whose server does not wait, or is not there for the moment."""
CANCEL_S: Final = 5.0
NOTE: Final = "acp_run"

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 524})


@dataclass(frozen=True, slots=True)
class _Remote:
    """One call: whose it is, where it goes, and what must not be seen of it."""

    params: ToolParams
    config: AcpConfig
    credentials: list[tuple[str, str, str]]
    mask: Mask

    @property
    def name(self) -> str:
        return self.params.tool.name


class AcpTools:
    """Calls remote agents; satisfies `ToolAdapter`."""

    def __init__(self, agents: Mapping[str, AcpConfig], http: HttpTools) -> None:
        """Bind the agents.

        Args:
            agents: How the operator registered them, by name.
            http: Sends the requests.
        """
        self._agents = agents
        self._http = http

    async def call(self, params: ToolParams) -> Json:
        """Create a run, or go on with the one that an earlier delivery of this call created, and wait for its end.

        Args:
            params: The call; its arguments are the agent's input.

        Returns:
            The `values` of the run's output, with its `messages` if there are any.

        Raises:
            ToolError: tool.unknown, .credentials or .service_moved before anything is sent; tool.failed with what the
                agent said; tool.interrupted if it asks back; tool.bad_reply; else as HTTP tools.
            AuthorityError: `authority.denied` if the server is beyond the bound of the call.
        """
        tool = params.tool
        config = self._registered(params)
        secrets = secrets_of(config.auth, f"tool '{tool.name}'")
        remote = _Remote(params, config, carried(config.auth, secrets), Mask(secrets.values()))
        try:
            return await self._run(remote)
        except ToolError as error:
            raise remote.mask.error(error) from None

    def _registered(self, params: ToolParams) -> AcpConfig:
        tool = params.tool
        name = str(tool.spec.get("agent"))
        config = self._agents.get(name)
        if config is None:
            known = ", ".join(sorted(self._agents)) or "none"
            raise ToolError(
                f"tool '{tool.name}': this worker has no remote agent '{name}'",
                code="tool.unknown",
                hint=f"register it under [tools.acp.{name}] in the worker's everstep.toml; it has {known}",
            )
        if tool.spec.get("base_url") != config.url:
            # the credentials are meant for where the agent is now, not for where it once was
            raise ToolError(
                f"tool '{tool.name}' was planned for the agent '{name}' at {tool.spec.get('base_url')}, which is no"
                " longer there",
                code="tool.service_moved",
                hint="start the task anew, or register the agent with that url until its executions have ended",
            )
        return config

    # --- a run ---

    async def _run(self, remote: _Remote) -> Json:
        noted = kept_note()
        run_id = noted.get(NOTE) if isinstance(noted, dict) else None
        if not isinstance(run_id, str):
            run_id = await self._created(remote)
        keep_note({NOTE: run_id})
        try:
            output = await self._awaited(remote, run_id)
        except asyncio.CancelledError:
            if not _worker_stops():
                await self._cancel(remote, run_id)
            raise
        if output.get("type") == "interrupt":
            # nobody would ever answer it
            await self._cancel(remote, run_id)
        return _result(remote, run_id, output)

    async def _created(self, remote: _Remote) -> str:
        asked: dict[str, Json] = {
            "input": remote.params.arguments,
            "metadata": {"execution_id": remote.params.context.execution_id, "path": remote.params.context.path},
            # this connection ends at once, and we say ourselves when the run is no longer wanted
            "on_disconnect": "continue",
        }
        if remote.config.agent_id:
            asked["agent_id"] = remote.config.agent_id
        if remote.config.config:
            asked["config"] = {"configurable": remote.config.config}
        creating = asyncio.create_task(self._sent(remote, "POST", "/runs", asked, marked=True))
        try:
            return _run_id(remote, await asyncio.shield(creating))
        except asyncio.CancelledError:
            # the run may be there already: whoever stops us stops it too
            with contextlib.suppress(ToolError, TimeoutError):
                answer = await asyncio.wait_for(creating, CANCEL_S)
                if not _worker_stops():
                    await self._cancel(remote, _run_id(remote, answer))
            raise

    async def _awaited(self, remote: _Remote, run_id: str) -> dict[str, Any]:
        path = f"/runs/{quote(run_id, safe='')}"
        while True:
            try:
                answer = await self._sent(remote, "GET", f"{path}/wait", timeout=POLL_S)
                output = _object(remote, answer).get("output") if answer.body else None
                if isinstance(output, dict):
                    return output
            except ToolError as error:
                if not _may_pass(error):
                    raise
            await asyncio.sleep(PAUSE_S)

    async def _cancel(self, remote: _Remote, run_id: str) -> None:
        """Ask for the end of a run; who does not hear it goes on for nobody, which harms nothing here."""
        path = f"/runs/{quote(run_id, safe='')}/cancel"
        try:
            # a cancel of ours must not stop it half-way
            await asyncio.shield(self._sent(remote, "POST", path, timeout=CANCEL_S))
        except ToolError as error:
            activity.logger.warning("a remote run was not cancelled", extra={"run": run_id, "code": error.code})

    async def _sent(
        self,
        remote: _Remote,
        method: str,
        path: str,
        body: Json = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the member of a request
        marked: bool = False,
    ) -> HttpAnswer:
        headers, query, cookies = {"Accept": "application/json"}, {}, []
        for place, name, value in remote.credentials:
            if place == "query":
                query[name] = value
            elif place == "cookie":
                cookies.append(cookie_pair(name, value))
            else:
                headers[name] = value
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        members: dict[str, Any] = {} if body is None else {"json": body}
        call = HttpCall(
            method=method,
            url=f"{remote.config.url.rstrip('/')}{path}",
            headers=headers,
            params=query,
            timeout=timeout,
            **members,
        )
        context = remote.params.context
        answer = await self._http.send(call, remote.params.tool, context, marked=marked, clean=remote.mask.bytes)
        if answer.status >= 300:
            raise ToolError(
                f"tool '{remote.name}': {remote.config.url} answered {answer.status}, and redirects are not followed",
                code="tool.http_status",
                hint="register the agent with the address that it redirects to as url",
                details={"status": answer.status},
            )
        return answer


def _worker_stops() -> bool:
    """Whether the call ends here because its worker does: another delivery goes on with the run."""
    details = activity.cancellation_details()
    return details is not None and details.worker_shutdown and not details.cancel_requested


def _may_pass(error: ToolError) -> bool:
    """Whether a look at a run may be repeated, since its server is busy or away, or just waits no longer."""
    if error.code == "tool.http_status":
        return error.details.get("status") in _AGAIN
    return error.code in ("tool.timeout", "tool.unreachable")


def _object(remote: _Remote, answer: HttpAnswer) -> dict[str, Any]:
    try:
        body = to_json_value(json.loads(answer.body), where=f"the reply to tool '{remote.name}'")
    except (ValueError, RecursionError, ExpressionError) as error:
        raise _bad_reply(remote, f"no JSON: {error}") from error
    if not isinstance(body, dict):
        raise _bad_reply(remote, "no object")
    return body


def _run_id(remote: _Remote, answer: HttpAnswer) -> str:
    run_id = _object(remote, answer).get("run_id")
    if not isinstance(run_id, str) or not run_id:
        raise _bad_reply(remote, "a run without run_id")
    return run_id


def _bad_reply(remote: _Remote, what: str) -> ToolError:
    return ToolError(
        f"tool '{remote.name}': {remote.config.url} answered with {clip(what, 200)}",
        code="tool.bad_reply",
        hint="is it the address of an Agent Connect Protocol server, up to and without /runs?",
    )


def _result(remote: _Remote, run_id: str, output: dict[str, Any]) -> Json:
    kind = output.get("type")
    if kind == "result":
        values = output.get("values")
        messages = output.get("messages")
        if messages is None:
            return values
        return {**(values if isinstance(values, dict) else {}), "messages": messages}
    if kind == "interrupt":
        asked = output.get("interrupt")
        which = next(iter(asked), "") if isinstance(asked, dict) else ""
        raise ToolError(
            f"tool '{remote.name}': the agent asks back ({which or 'interrupt'}) instead of giving a result",
            code="tool.interrupted",
            hint="give it all it needs as arguments, or handle the error and call it again with the answer",
            details={"interrupt": asked, "run_id": run_id},
        )
    if kind == "error":
        said = clip(str(output.get("description") or "it said nothing"), 500)
        raise ToolError(
            f"tool '{remote.name}': the agent failed: {said}",
            code="tool.failed",
            details={"errcode": output.get("errcode"), "run_id": run_id},
        )
    raise _bad_reply(remote, f"an output of the type {str(kind)[:40]!r}")
