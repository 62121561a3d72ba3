"""Steps that use tools and documents: agents with the rules for their tools, embeddings, searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypedDict, Unpack

from engine.author.calls import Message, Model, Needs, Settings, messages_json, model_json, offered_json
from engine.author.places import author_error
from engine.author.schemas import Schema, schema_of
from engine.author.step import Modifiers, Step, make_step, part
from engine.author.tools import AnyTool, name_of
from engine.author.values import UNSET, Condition, Duration, Expr, Unset, Value, given, plain, seconds
from engine.core.spec import codes
from engine.core.values import Json

_AGENT_KEYS = (
    "instructions",
    "model",
    "needs",
    "settings",
    "extra_settings",
    "tools",
    "tool_mode",
    "rules",
    "max_rounds",
    "parallelism",
    "on_overflow",
    "output",
    "repair",
    "unwrap",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Which calls of a tool wait for a person, and how long.

    Attributes:
        if_: A condition on the arguments `_`; none = all calls.
        info: What the person gets to see beside tool and arguments.
        deadline: Longest wait; then the default is the decision, or without one the call is denied.
        default: The decision when nobody answered, such as `{"approved": False}`.
    """

    if_: Condition | None = None
    info: Value = None
    deadline: Duration | Expr | None = None
    default: Value | Unset = UNSET

    def plain(self) -> dict[str, Json]:
        """Return the approval as a task file has it."""
        members = given(
            **{"if": plain(self.if_, "if_")},
            info=plain(self.info, "info"),
            deadline=None if self.deadline is None else seconds(self.deadline, "deadline"),
        )
        if not isinstance(self.default, Unset):
            members["default"] = plain(self.default, "default")
        return members


@dataclass(frozen=True, slots=True)
class Next:
    """A tool that may follow another one if a condition on that one's result `_` holds.

    Attributes:
        tool: The tool.
        if_: The condition.
    """

    tool: str | AnyTool
    if_: Condition


@dataclass(frozen=True, slots=True)
class ToolRule:
    """What an agent must observe about one of its tools.

    Attributes:
        tool: The tool.
        first: It must be called before any other.
        next: What alone may be called right after it.
        only_after: The tools right after which alone it may be called.
        at_most: Most calls of it.
        ends: The loop ends with its result.
        required: The loop cannot end before it was called.
        approve: Which calls wait for a person: all, those for which a condition on the arguments `_` holds, or an
            `Approval`.
    """

    tool: str | AnyTool
    _: KW_ONLY
    first: bool = False
    next: Sequence[str | AnyTool | Next] | None = None
    only_after: Sequence[str | AnyTool] = ()
    at_most: int | None = None
    ends: bool = False
    required: bool = False
    approve: bool | str | Expr | Approval = False

    def plain(self) -> dict[str, Json]:
        """Return the rule as a task file has it, without the tool's name."""
        return {
            **({"first": plain(self.first, "first")} if self.first else {}),
            **({} if self.next is None else {"next": [_next(item) for item in self.next]}),
            **({"only_after": [name_of(item, "only_after") for item in self.only_after]} if self.only_after else {}),
            **given(at_most=plain(self.at_most, "at_most")),
            **({"ends": plain(self.ends, "ends")} if self.ends else {}),
            **({"required": plain(self.required, "required")} if self.required else {}),
            **({} if self.approve is False else {"approve": _approve(self.approve)}),
        }


def _next(item: str | AnyTool | Next) -> Json:
    if isinstance(item, Next):
        return {"if": plain(item.if_, "if_"), "tool": name_of(item.tool, "next")}
    return name_of(item, "next")


def _approve(approve: bool | str | Expr | Approval) -> Json:
    return approve.plain() if isinstance(approve, Approval) else plain(approve, "approve")


def agent(
    messages: str | Expr | Message | Sequence[Message | Mapping[str, Value]],
    /,
    *,
    instructions: str | Expr | None = None,
    model: Model | None = None,
    needs: Needs | None = None,
    settings: Settings | None = None,
    extra_settings: Mapping[str, Value] | None = None,
    tools: Literal["all"] | Sequence[str | AnyTool] | None = None,
    tool_mode: Literal["auto", "native", "json"] | None = None,
    rules: Sequence[ToolRule] = (),
    max_rounds: int | None = None,
    parallelism: int | None = None,
    on_overflow: Literal["error", "truncate", "summarise"] | None = None,
    output: Schema | None = None,
    repair: int | None = None,
    unwrap: bool | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Let a model use tools, round after round, until it answers.

    Args:
        messages: One message of the user (text or template), or messages made by `system`, `user` and `assistant`.
        instructions: The system message.
        model: A model or a group, or several in order of preference; default: the agent's or the backend's.
        needs: What whoever answers must be able to do.
        settings: Sampling settings.
        extra_settings: Settings that only some backends know.
        tools: What it may use: `"all"` tools of the task, or some by name or as themselves.
        tool_mode: How they are offered; see `prompt`.
        rules: What it must observe about its tools.
        max_rounds: Most calls of the model.
        parallelism: Most tool calls at one time.
        on_overflow: What is done when the conversation outgrows the model.
        output: What the last reply must be: a pydantic model, another type, or a JSON Schema.
        repair: Rounds in which a reply that does not fit is sent back.
        unwrap: Whether only the last reply's text or object is the output.
        **modifiers: See `Modifiers`.
    """
    merged = {**(settings or {}), **(extra_settings or {})}
    body = {
        "agent": messages_json(messages, "agent"),
        **given(
            instructions=plain(instructions, "instructions"),
            model=model_json(model),
            needs=plain(needs, "needs"),
            settings=plain(merged, "settings") or None,
            tools=offered_json(tools),
            tool_mode=plain(tool_mode, "tool_mode"),
            rules=_rules(rules),
            max_rounds=plain(max_rounds, "max_rounds"),
            parallelism=plain(parallelism, "parallelism"),
            on_overflow=plain(on_overflow, "on_overflow"),
            output_schema=None if output is None else schema_of(output, "output"),
            repair=plain(repair, "repair"),
            unwrap=plain(unwrap, "unwrap"),
        ),
    }
    return make_step(body, modifiers, _AGENT_KEYS)


def _rules(rules: Sequence[ToolRule]) -> Json:
    found: dict[str, Json] = {}
    for rule in rules:
        members = part(rule, ToolRule, "rules")
        name = name_of(rule.tool, "rules")
        if name in found:
            raise author_error(codes.CONFLICT, f"the tool '{name}' has two rules", "put them into one ToolRule")
        found[name] = members
    return found or None


def embed(
    text: str | Expr | Sequence[str | Expr],
    /,
    *,
    embed_instruction: str | None = None,
    model: str | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Turn a text or a list of texts into vectors.

    Args:
        text: The text or texts; the output is `{vectors}`, one for each.
        embed_instruction: What the vectors are for, as some models want to be told.
        model: Model name; default: the backend's.
        **modifiers: See `Modifiers`.
    """
    members = given(
        text=plain(text, "embed"),
        embed_instruction=plain(embed_instruction, "embed_instruction"),
        model=plain(model, "model"),
    )
    return make_step({"embed": members}, modifiers, ("embed_instruction", "model"))


class SearchOptions(TypedDict, total=False):
    """How documents are searched.

    Attributes:
        limit: Most documents.
        lang: Language of the words, such as `en-US`.
        confidence: Least likeness in meaning, −1 to 1.
        alpha: Weight of the meaning when text and vector are given: 0 words only, 1 meaning only.
        mmr_strength: How much variety counts, 0 to 1.
        k_multiplier: How many more candidates than documents are looked at.
        trigram_similarity_threshold: Least likeness in spelling, 0 to 1.
        include_embeddings: Whether the vectors of the documents are told.
    """

    limit: int | Expr
    lang: str | Expr
    confidence: float | Expr
    alpha: float | Expr
    mmr_strength: float | Expr
    k_multiplier: int | Expr
    trigram_similarity_threshold: float | Expr
    include_embeddings: bool | Expr


def search(
    text: str | Expr | None = None,
    /,
    *,
    vector: Sequence[float | Expr] | Expr | None = None,
    metadata_filter: Mapping[str, Value] | Expr | None = None,
    agent: str | Expr | None = None,
    user: str | Expr | None = None,
    options: SearchOptions | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Search documents by words, by meaning, or by both.

    Args:
        text: The words to look for; the output is `{docs}`, the best first.
        vector: A vector to look for; beside `text` both count.
        metadata_filter: What the metadata of a document must be.
        agent: Id of the agent whose documents are searched; default: the agent of the task.
        user: Id of the user whose documents are searched.
        options: How it is searched.
        **modifiers: See `Modifiers`.
    """
    members: dict[str, Any] = {
        **given(
            text=plain(text, "search"),
            vector=plain(vector, "vector"),
            metadata_filter=plain(metadata_filter, "metadata_filter"),
            agent=plain(agent, "agent"),
            user=plain(user, "user"),
        ),
        **{key: plain(value, key) for key, value in (options or {}).items()},
    }
    return make_step({"search": members}, modifiers, ("vector", "metadata_filter", "agent", "user", "options"))
