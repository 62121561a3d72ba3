"""Reads the steps agent, embed and search, the rules of an agent's tools, and the modifier `cache`. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import Fields
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode
from engine.core.spec.parts import ApprovalSpec, CacheSpec, NameSpec, NextSpec, OnOverflow, ToolRuleSpec
from engine.core.spec.read_prompt import read_messages, read_models, read_needs, read_offered, read_tool_mode
from engine.core.spec.steps import AgentStep, EmbedStep, SearchStep

RULE_KEYS = ("first", "next", "only_after", "at_most", "ends", "required", "approve")
EMBED_KEYS = ("text", "embed_instruction", "model")
SEARCH_OPTIONS = (
    "limit",
    "lang",
    "confidence",
    "alpha",
    "mmr_strength",
    "k_multiplier",
    "trigram_similarity_threshold",
    "include_embeddings",
)
SEARCH_KEYS = ("text", "vector", "metadata_filter", "agent", "user", *SEARCH_OPTIONS)
MOST_CALLS = 1_000_000

_RULES = "write `rules: {TOOL: {at_most: 3, approve: true}}`"
_CACHE = "write `cache: 1h`, or `cache: {ttl: 1h, key: VALUE}`"
_EMBED = "write `embed: TEXT`, or `embed: {text: TEXT, model: NAME}`"
_SEARCH = "write `search: TEXT`, or `search: {text: TEXT, limit: 5}`"


def read_agent(fields: Fields, common: dict[str, Any]) -> AgentStep:
    """Read the members of an agent step.

    Args:
        fields: The step's members.
        common: Position, path, label and modifiers, read already.
    """
    messages = read_messages(fields, "agent")
    settings = fields.mapping("settings")
    rounds = fields.whole("max_rounds", 1, vocabulary.MAX_ROUNDS)
    parallelism = fields.whole("parallelism", 1, vocabulary.MAX_PARALLELISM)
    repair = fields.whole("repair", 0, vocabulary.MAX_REPAIR_ROUNDS)
    names = read_models(fields, settings)
    return AgentStep(
        messages=messages,
        instructions=fields.take("instructions"),
        model=names[0] if names else None,
        models=names[1:],
        needs=read_needs(fields),
        settings=settings,
        tools=read_offered(fields),
        tool_mode=read_tool_mode(fields),
        rules=tuple(_rules(fields)),
        max_rounds=vocabulary.DEFAULT_AGENT_ROUNDS if rounds is None else rounds,
        parallelism=vocabulary.DEFAULT_AGENT_PARALLELISM if parallelism is None else parallelism,
        on_overflow=cast("OnOverflow", fields.choice("on_overflow", vocabulary.ON_OVERFLOW) or "error"),
        output_schema=fields.schema("output_schema"),
        repair=2 if repair is None else repair,
        unwrap=fields.flag("unwrap") or False,
        **common,
    )


def _rules(fields: Fields) -> Iterator[ToolRuleSpec]:
    node = fields.take("rules")
    if node is None:
        return
    if not isinstance(node, MapNode):
        fields.wrong_type("rules", node, "an object of tools and their rules", _RULES)
        return
    for entry in node.entries:
        path = f"{fields.at('rules')}.{entry.key[:60]}"
        if not isinstance(entry.value, MapNode):
            fields.wrong_type("rules", entry.value, "an object of tools and their rules", _RULES)
            continue
        inner = Fields(entry.value, fields.findings, path, f"the rule for '{entry.key[:60]}'")
        yield ToolRuleSpec(
            tool=NameSpec(entry.key, entry.key_position),
            first=inner.flag("first") or False,
            next=_next(inner),
            only_after=tuple(_names(inner, "only_after")),
            at_most=inner.whole("at_most", 1, MOST_CALLS),
            ends=inner.flag("ends") or False,
            required=inner.flag("required") or False,
            approve=read_approval(inner),
            path=path,
        )
        inner.refuse_left(RULE_KEYS)


def _next(inner: Fields) -> tuple[NextSpec, ...] | None:
    node = inner.take("next")
    if node is None:
        return None
    wanted = "the name of a tool, {if, tool}, or a list of them"
    found: list[NextSpec] = []
    for index, item in enumerate(node.items if isinstance(node, ListNode) else (node,)):
        if isinstance(item, ScalarNode) and isinstance(item.value, str):
            found.append(NextSpec(NameSpec(item.value, item.position)))
        elif isinstance(item, MapNode):
            choice = Fields(item, inner.findings, f"{inner.at('next')}[{index}]", "the next tool")
            condition = choice.need("if", hint="say when this tool may follow; `_` is the result before it")
            tool = choice.text("tool") if choice.node.get("tool") is not None else None
            if tool is None and choice.node.get("tool") is None:
                choice.need("tool")
            if tool is not None and condition is not None:
                found.append(NextSpec(tool, condition))
            choice.refuse_left(("if", "tool"))
        else:
            inner.wrong_type("next", item, wanted)
    if isinstance(node, ListNode) and not node.items:
        message = "'next' names no tool, so that nothing could follow"
        inner.error(codes.CONFLICT, message, node.position, key="next", hint="`ends: true` ends the loop")
    return tuple(found)


def _names(inner: Fields, key: str) -> Iterator[NameSpec]:
    node = inner.take(key)
    for item in () if node is None else node.items if isinstance(node, ListNode) else (node,):
        if isinstance(item, ScalarNode) and isinstance(item.value, str):
            yield NameSpec(item.value, item.position)
        else:
            inner.wrong_type(key, item, "the name of a tool or a list of names")


def read_approval(inner: Fields) -> ApprovalSpec | None:
    """Take which calls of a tool wait for a person."""
    node = inner.take("approve")
    if node is None or (isinstance(node, ScalarNode) and node.value is False):
        return None
    if isinstance(node, ScalarNode) and node.value is True:
        return ApprovalSpec()
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return ApprovalSpec(condition=node)
    if not isinstance(node, MapNode):
        hint = "write `approve: true`, `approve: _.amount > 100`, or `approve: {if: …, deadline: 24h, default: …}`"
        inner.wrong_type("approve", node, "true, an expression or an object", hint)
        return None
    members = Fields(node, inner.findings, inner.at("approve"), "the approval")
    condition, info, deadline = members.take("if"), members.take("info"), members.take("deadline")
    default = members.entry("default")
    if default is not None and deadline is None:
        members.error(
            codes.CONFLICT,
            "'default' is the decision at the deadline, but there is no 'deadline'",
            default.key_position,
            key="default",
            hint="add `deadline: 24h`, or leave the default out",
        )
    members.refuse_left(("if", "info", "deadline", "default"))
    return ApprovalSpec(
        condition=condition, info=info, deadline=deadline, default=None if default is None else default.value
    )


# --- embed and search ----------------------------------------------------------------------------------------------


def read_embed(fields: Fields, common: dict[str, Any]) -> EmbedStep:
    """Read an `embed` step; a text or a list of texts may stand in place of the object."""
    node = fields.need("embed", hint=_EMBED)
    fields.entry("embed")
    nothing = ScalarNode("", fields.node.position)
    if not isinstance(node, MapNode):
        return EmbedStep(text=_text_or(nothing, node, fields, "embed", _EMBED), **common)
    inner = Fields(node, fields.findings, fields.at("embed"), "embed")
    text = inner.need("text", hint=_EMBED)
    inner.entry("text")
    step = EmbedStep(
        text=_text_or(nothing, text, inner, "text", ""),
        instruction=inner.take("embed_instruction"),
        model=inner.text("model"),
        **common,
    )
    inner.refuse_left(EMBED_KEYS)
    return step


def _text_or(nothing: Node, node: Node | None, fields: Fields, key: str, hint: str) -> Node:
    """Return what is embedded: text, or a list whose items are text as far as they are written out."""
    for item in node.items if isinstance(node, ListNode) else () if node is None else (node,):
        if not isinstance(item, ScalarNode) or not isinstance(item.value, str):
            fields.wrong_type(key, item, "text or a list of texts", hint)
            return nothing
    if isinstance(node, ListNode) and not node.items:
        fields.error(codes.MISSING_KEY, f"'{key}' holds no text", node.position, key=key)
    return nothing if node is None else node


def read_search(fields: Fields, common: dict[str, Any]) -> SearchStep:
    """Read a `search` step; a text may stand in place of the object."""
    node = fields.need("search", hint=_SEARCH)
    fields.entry("search")
    nothing = MapNode((), fields.node.position)
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return SearchStep(text=node, options=nothing, **common)
    if not isinstance(node, MapNode):
        if node is not None:
            fields.wrong_type("search", node, "text or an object", _SEARCH)
        return SearchStep(options=nothing, **common)
    inner = Fields(node, fields.findings, fields.at("search"), "search")
    members: dict[str, Any] = {key: inner.take(key) for key in ("text", "vector", "metadata_filter", "agent", "user")}
    if members["text"] is None and members["vector"] is None:
        message = "the search has neither 'text' nor 'vector'"
        inner.error(codes.MISSING_KEY, message, node.position, hint=_SEARCH)
    chosen = tuple(entry for entry in node.entries if entry.key in SEARCH_OPTIONS)
    for entry in chosen:
        inner.entry(entry.key)
    inner.refuse_left(SEARCH_KEYS)
    return SearchStep(**members, options=MapNode(chosen, node.position), **common)


# --- cache ---------------------------------------------------------------------------------------------------------


def read_cache(fields: Fields) -> CacheSpec | None:
    """Take the modifier `cache`: a duration, or an object of one and a key."""
    node = fields.node.get("cache")
    if not isinstance(node, MapNode):
        ttl_s = fields.duration("cache")
        return None if ttl_s is None or node is None else CacheSpec(ttl_s=ttl_s, position=node.position)
    fields.entry("cache")
    inner = Fields(node, fields.findings, fields.at("cache"), "cache")
    ttl = node.get("ttl")
    if ttl is None or (isinstance(ttl, ScalarNode) and ttl.value is None):
        inner.need("ttl", hint=_CACHE)
        inner.entry("ttl")
    ttl_s = inner.duration("ttl")
    key = inner.take("key")
    inner.refuse_left(("ttl", "key"))
    return None if ttl_s is None else CacheSpec(ttl_s=ttl_s, key=key, position=node.position)
