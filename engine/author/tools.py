"""Tools that a task in Python defines itself: HTTP calls, and functions that are only offered to models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from engine.author.places import author_error
from engine.author.schemas import Schema, schema_of
from engine.author.values import Duration, Value, given, plain, seconds
from engine.core.spec import codes
from engine.core.values import Json
from engine.tooling.definition import Effect, Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTool:
    """A tool that makes one HTTP request; arguments of a call may override the members of the request.

    Attributes:
        name: The name by which steps and models call it.
        url: Address, with http:// or https://.
        method: GET, POST, …
        headers: Headers of the request.
        params: Query of the address.
        json: Body as JSON.
        data: Body as a form, or as text.
        cookies: Cookies of the request.
        timeout: Longest time of one call.
        follow_redirects: Whether redirects are followed.
        include_response_content: Whether the raw content stands in the output.
        description: For models and people.
        parameters: The arguments: a JSON Schema or a type.
        effect: What it does to the world; default: by its method.
        idempotent: Whether a repeated call does no harm.
        approve: Which calls wait for a person: True, a condition on the arguments (`_`), or {if, info, deadline, …}.
        files: Files of a form by field, in base64.
        answer: What the answer's JSON must fit: a JSON Schema or a type.
    """

    name: str
    url: str
    method: str = "GET"
    headers: Mapping[str, Value] | None = None
    params: Mapping[str, Value] | None = None
    json: Value = None
    data: str | Mapping[str, Value] | None = None
    cookies: Mapping[str, Value] | None = None
    timeout: Duration | None = None
    follow_redirects: bool | None = None
    include_response_content: bool | None = None
    description: str | None = None
    parameters: Schema | None = None
    effect: Effect | None = None
    idempotent: bool | None = None
    approve: Value = None
    files: Mapping[str, Value] | None = None
    answer: Schema | None = None

    def plain(self) -> dict[str, Json]:
        """Return the tool as a task file has it."""
        request = {
            "method": plain(self.method, "method"),
            "url": plain(self.url, "url"),
            **given(
                headers=plain(self.headers, "headers"),
                params=plain(self.params, "params"),
                json=plain(self.json, "json"),
                data=plain(self.data, "data"),
                cookies=plain(self.cookies, "cookies"),
                files=plain(self.files, "files"),
                schema=None if self.answer is None else schema_of(self.answer, "answer"),
                follow_redirects=plain(self.follow_redirects, "follow_redirects"),
                include_response_content=plain(self.include_response_content, "include_response_content"),
            ),
        }
        return {
            "name": plain(self.name, "name"),
            "type": "api_call",
            **given(
                description=plain(self.description, "description"),
                parameters=None if self.parameters is None else schema_of(self.parameters, "parameters"),
                effect=plain(self.effect, "effect"),
                idempotent=plain(self.idempotent, "idempotent"),
                timeout=None if self.timeout is None else seconds(self.timeout, "timeout"),
                approve=plain(self.approve, "approve"),
            ),
            "api_call": request,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTool:
    """A function that steps call and models may ask for; its caller runs it.

    Attributes:
        name: The name by which steps and models call it.
        description: For models.
        parameters: The arguments: a JSON Schema or a type.
        timeout: How long its caller is waited for.
        approve: As for `HttpTool`.
    """

    name: str
    description: str | None = None
    parameters: Schema | None = None
    timeout: Duration | None = None
    approve: Value = None

    def plain(self) -> dict[str, Json]:
        """Return the tool as a task file has it."""
        return {
            "name": plain(self.name, "name"),
            "type": "function",
            **given(
                description=plain(self.description, "description"),
                parameters=None if self.parameters is None else schema_of(self.parameters, "parameters"),
                timeout=None if self.timeout is None else seconds(self.timeout, "timeout"),
                approve=plain(self.approve, "approve"),
            ),
        }


AnyTool: TypeAlias = "Tool[..., Any] | HttpTool | FunctionTool"


def name_of(tool: str | AnyTool, where: str) -> str:
    """Return the name of a tool that is given by name or as itself.

    Args:
        tool: The tool.
        where: What it is for, in messages: `call_tool`, `tools`.

    Raises:
        DefinitionError: E203 if it is anything else, with the place of the author's call.
    """
    found: object = tool
    if isinstance(found, str):
        return str(plain(found, where))
    if isinstance(found, (Tool, HttpTool, FunctionTool)):
        return found.name
    hint = "put @tool on the function" if callable(found) else "give a name, or what @tool or HttpTool(…) made"
    raise author_error(codes.WRONG_TYPE, f"'{where}' must be a tool, not {type(found).__name__}", hint)


def tool_entry(tool: AnyTool | Mapping[str, Value]) -> dict[str, Json]:
    """Return a tool as it stands under a task's `tools`.

    Raises:
        DefinitionError: E203 if it is no tool, with the place of the author's call.
    """
    if isinstance(tool, (HttpTool, FunctionTool)):
        return tool.plain()
    if isinstance(tool, Mapping):
        entry: dict[str, Json] = plain(tool, "tools")
        return entry
    return {"name": name_of(tool, "tools"), "type": "python"}
