"""The script of the mock LLM server: rules that say which call gets which reply or fault, read from YAML or JSON."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput
from engine.core.values import Json, to_json_value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class MockToolCall(_Part):
    """A tool call of a reply: {name, arguments, id}; without an id the server gives one."""

    name: str
    id: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)


class MockStream(_Part):
    """How a streamed reply is cut: {chunk_chars, delay_s}; the pause stands before each chunk."""

    chunk_chars: int = Field(default=16, ge=1)
    delay_s: float = Field(default=0.0, ge=0)


class MockUsage(_Part):
    """Token counts of a reply, and parts of them, which providers tell as far as they have words for them.

    Attributes:
        prompt_tokens: Tokens of the request.
        completion_tokens: Tokens of the reply.
        cached_tokens: Those of the request that came from the cache.
        cache_write_tokens: Those of the request that were written to the cache.
        reasoning_tokens: Those of the reply that the model thought with.
    """

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _are_parts(self) -> Self:
        if self.cached_tokens + self.cache_write_tokens > self.prompt_tokens:
            raise ValueError("cached_tokens and cache_write_tokens are parts of prompt_tokens, but they are more")
        if self.reasoning_tokens > self.completion_tokens:
            raise ValueError("reasoning_tokens are a part of completion_tokens, but they are more")
        return self


class MockRule(_Part):
    """One rule: when it applies, and what the server does then.

    Attributes:
        model: Name or glob of the model that was asked for.
        match: Regular expression that must be found in the last user message.
        turn: Number of assistant messages in the conversation so far.
        times: The rule applies to its first so many calls only.
        reply: Text; `{last}` is the last user message, `{n}` the number of the call.
        json_reply: JSON value as the reply (`json` in the file), with the same marks in its texts.
        tool_calls: Tool calls of the reply.
        reasoning: What the model thinks before it answers.
        logprob: How likely each piece of the text was, told by providers that have words for it.
        delay_s: Pause before anything is sent, in seconds.
        stream: How a streamed reply is cut; default: in one piece.
        status: HTTP status of a refusal, 400 to 599.
        retry_after_s: Retry-After of the refusal, in seconds.
        error: Body of the refusal; default: an OpenAI-shaped one.
        cut_after_chars: The connection is dropped after so many characters of the reply.
        bad_json: The body is broken JSON.
        usage: Token counts; default: words are counted.
        finish_reason: Default: `stop`, or `tool_calls`.
    """

    model: str = "*"
    match: str | None = None
    turn: int | None = Field(default=None, ge=0)
    times: int | None = Field(default=None, ge=1)

    reply: str | None = None
    json_reply: Json = Field(default=None, alias="json")
    tool_calls: list[MockToolCall] = Field(default_factory=list)
    reasoning: str = ""
    logprob: float | None = Field(default=None, le=0)
    delay_s: float = Field(default=0.0, ge=0)
    stream: MockStream | None = None
    status: int | None = Field(default=None, ge=400, le=599)
    retry_after_s: float | None = Field(default=None, ge=0)
    error: Json = None
    cut_after_chars: int | None = Field(default=None, ge=0)
    bad_json: bool = False
    usage: MockUsage | None = None
    finish_reason: str | None = None

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _is_one_action(self) -> Self:
        if self.reply is not None and "json_reply" in self.model_fields_set:
            raise ValueError("reply and json exclude each other")
        if self.status is None and (self.retry_after_s is not None or self.error is not None):
            raise ValueError("retry_after_s and error need a status")
        return self

    def applies(self, *, model: str, last: str, turn: int) -> bool:
        """Say whether the rule is meant for a call; `times` is counted by the server."""
        return (
            (self.model == "*" or model == self.model or fnmatch.fnmatchcase(model, self.model))
            and (self.turn is None or turn == self.turn)
            and (self.match is None or re.search(self.match, last) is not None)
        )


class MockScript(_Part):
    """A whole script: {rules, models}; the first rule that applies is taken, and without one the server echoes.

    Attributes:
        rules: In order.
        models: The models that there are; left out = any, and `GET /v1/models` lists those that rules name.
    """

    rules: list[MockRule] = Field(default_factory=list)
    models: list[str] = Field(default_factory=list)

    def listed(self) -> list[str]:
        """Return the models to list: at least one, which answers calls that name none."""
        named = [rule.model for rule in self.rules if not any(mark in rule.model for mark in "*?[")]
        return self.models or list(dict.fromkeys(named)) or ["mock"]


ECHO = MockRule(reply="{last}")


def load_script(path: Path) -> MockScript:
    """Read a script.

    Args:
        path: YAML or JSON file: an object with `rules` and `models`, or only the list of rules.

    Returns:
        The script.

    Raises:
        InvalidInput: `config.invalid` with the place, the reason and a remedy.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path}: {error}", code="config.invalid", hint="a script is a YAML or JSON file") from error
    try:
        return MockScript.model_validate({"rules": body} if isinstance(body, list) else body or {})
    except ValidationError as error:
        raise InvalidInput(
            _explain(path, error), code="config.invalid", hint="docs/mock-llm.md has every member of a script"
        ) from error


def fill(value: Json, *, last: str, n: int) -> Json:
    """Put the last user message and the call's number into a reply's texts."""
    if isinstance(value, str):
        return value.replace("{n}", str(n)).replace("{last}", last)
    if isinstance(value, list):
        return [fill(item, last=last, n=n) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, last=last, n=n) for key, item in value.items()}
    return to_json_value(value, where="json")


def _explain(path: Path, error: ValidationError) -> str:
    lines: list[str] = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"])
        told = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _members_at(item["loc"])
            meant = did_you_mean(str(item["loc"][-1]), known)
            told = f"there is no such member; {f'{meant} ' if meant else ''}there are {', '.join(known)}"
        lines.append(f"{path}: {f'{place}: ' if place else ''}{told}")
    return "\n".join(lines)


def _members_at(loc: tuple[int | str, ...]) -> list[str]:
    """Return the members that the object around a place may have, as the file calls them."""
    parts: dict[str, type[_Part]] = {"tool_calls": MockToolCall, "stream": MockStream, "usage": MockUsage}
    around = [parts[name] for name in loc[:-1] if isinstance(name, str) and name in parts]
    part = around[-1] if around else MockRule if len(loc) > 1 else MockScript
    return [field.alias or name for name, field in part.model_fields.items()]
