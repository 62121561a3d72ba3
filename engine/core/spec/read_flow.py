"""Reads the steps that hold other steps: branches, loops, and what runs concurrently. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from engine.core.diagnostics import Findings
from engine.core.kinds import StepKind
from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, describe
from engine.core.spec.parts import OnItemError
from engine.core.spec.read_waits import default_of
from engine.core.spec.steps import (
    CaseSpec,
    ForeachStep,
    IfElseStep,
    ListenStep,
    MapReduceStep,
    ParallelStep,
    RaceStep,
    StepList,
    StepSpec,
    SwitchStep,
    UntilStep,
    WhileStep,
)

ReadSteps = Callable[[Node, Findings, str], StepList]
"""Reads one step or a list of steps; given as argument, since steps and flow steps hold each other."""

_ITEM_ERRORS = ("fail", "collect", "skip")
_FOREACH = "write `foreach: {in: EXPRESSION, do: STEPS}`"
_LISTEN = "write `listen: {do: STEPS}`, with `messages: NAME`, `until: EXPRESSION` or `idle: 7d` beside `do`"
_SWITCH = "write `switch: [{case: EXPRESSION, then: STEPS}, {case: _, then: STEPS}]`"


def any_value(fields: Fields, key: str) -> Node:
    """Take a value of which null is one."""
    found = fields.entry(key)
    if found is None:
        fields.need(key)
        return ScalarNode(None, fields.node.position)
    return found.value


def needed(fields: Fields, key: str, *, keep: bool = False) -> Any:
    """Take a value that must be there; with `keep` only look whether it is."""
    if keep:
        found = fields.node.get(key)
        if found is None or (isinstance(found, ScalarNode) and found.value is None):
            fields.need(key)
            fields.entry(key)
            return None
        return found
    node = fields.need(key)
    fields.entry(key)
    return ScalarNode(None, fields.node.position) if node is None else node


def read_flow(kind: StepKind, fields: Fields, common: dict[str, Any], read_steps: ReadSteps) -> StepSpec:
    """Read a step that holds steps.

    Args:
        kind: Its kind.
        fields: Its members.
        common: Position, path, label and modifiers.
        read_steps: Reads the steps inside.
    """
    reader = _Reader(fields, common, read_steps)
    match kind:
        case StepKind.IF_ELSE:
            return reader.if_else()
        case StepKind.SWITCH:
            return reader.switch()
        case StepKind.FOREACH:
            return reader.foreach()
        case StepKind.WHILE:
            return WhileStep(condition=needed(fields, "while"), **reader.loop(), **common)
        case StepKind.UNTIL:
            return UntilStep(condition=needed(fields, "until"), **reader.loop(), **common)
        case StepKind.LISTEN:
            return reader.listen()
        case StepKind.MAP_REDUCE:
            return reader.map_reduce()
        case StepKind.PARALLEL:
            return ParallelStep(branches=reader.branches("parallel"), **reader.fan(), **common)
        case StepKind.RACE:
            return reader.race()
        case _:
            raise AssertionError(f"a {kind} step holds no steps")


def _words(fields: Fields, key: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Take a word of some, or a list of them."""
    node = fields.take(key)
    found: list[str] = []
    for item in node.items if isinstance(node, ListNode) else [] if node is None else [node]:
        word = item.value if isinstance(item, ScalarNode) else None
        if isinstance(word, str) and word in allowed:
            found.append(word)
            continue
        shown = f"'{word[:60]}'" if isinstance(word, str) else describe(item)
        fields.error(
            codes.NOT_ONE_OF,
            f"'{key}' has {shown}, but each must be one of {', '.join(allowed)}",
            item.position,
            key=key,
            hint=suggest(fields.findings, word, allowed) if isinstance(word, str) else "",
        )
    return tuple(dict.fromkeys(found))


class _Reader:
    def __init__(self, fields: Fields, common: dict[str, Any], read_steps: ReadSteps) -> None:
        self.fields = fields
        self.common = common
        self.read_steps = read_steps

    def steps(self, key: str, fields: Fields | None = None) -> StepList:
        inner = fields or self.fields
        node = inner.need(key, hint="give it one step or a list of steps")
        if node is None:
            return StepList((), inner.node.position)
        return self.read_steps(node, inner.findings, inner.at(key))

    def if_else(self) -> StepSpec:
        condition = needed(self.fields, "if")
        then = self.steps("then")
        otherwise = self.fields.take("else")
        if otherwise is None:
            return IfElseStep(condition=condition, then=then, **self.common)
        path = self.fields.at("else")
        inner = self.read_steps(otherwise, self.fields.findings, path)
        return IfElseStep(condition=condition, then=then, otherwise=inner, **self.common)

    def switch(self) -> StepSpec:
        fields = self.fields
        node = fields.need("switch", hint=_SWITCH)
        if not isinstance(node, ListNode):
            if node is not None:
                fields.wrong_type("switch", node, "a list of cases", _SWITCH)
            return SwitchStep(cases=(), **self.common)
        if not node.items:
            fields.error(codes.NO_STEPS, "'switch' has no cases", node.position, key="switch", hint=_SWITCH)
        found = (self._case(item, index) for index, item in enumerate(node.items))
        cases = tuple(case for case in found if case is not None)
        for index, case in enumerate(cases[:-1]):
            if case.condition is None:
                after = cases[index + 1].then.position
                fields.findings.warn(
                    codes.UNREACHABLE,
                    "this case can never be chosen: the default stands before it",
                    after,
                    path=f"{fields.at('switch')}[{index + 1}]",
                    hint="put the default last",
                )
                break
        return SwitchStep(cases=cases, **self.common)

    def _case(self, node: Node, index: int) -> CaseSpec | None:
        path = f"{self.fields.at('switch')}[{index}]"
        if not isinstance(node, MapNode):
            self.fields.wrong_type("switch", node, "a list of objects", _SWITCH)
            return None
        inner = Fields(node, self.fields.findings, path, "the case")
        condition = needed(inner, "case")
        is_default = isinstance(condition, ScalarNode) and condition.value == "_"
        case = CaseSpec(None if is_default else condition, self.steps("then", inner))
        inner.refuse_left(("case", "then"))
        return case

    def foreach(self) -> StepSpec:
        fields = self.fields
        node = fields.need("foreach", hint=_FOREACH)
        if not isinstance(node, MapNode):
            if node is not None:
                fields.wrong_type("foreach", node, "an object", _FOREACH)
            return ForeachStep(items=ScalarNode("[]"), do=StepList(()), **self.common)
        inner = Fields(node, fields.findings, fields.at("foreach"), "foreach")
        for other, ours in (("each", "do"), ("steps", "do"), ("items", "in"), ("over", "in")):
            if node.entry(other) is not None and node.entry(ours) is None:
                self._other_word(inner, other, ours)
                return ForeachStep(items=ScalarNode("[]"), do=StepList(()), **self.common)
        step = ForeachStep(items=needed(inner, "in"), do=self.steps("do", inner), **self.common)
        inner.refuse_left(("in", "do"))
        return step

    def _other_word(self, fields: Fields, other: str, ours: str) -> None:
        entry = fields.entry(other)
        assert entry is not None
        message = f"foreach has no key '{other}'"
        fields.error(codes.UNKNOWN_KEY, message, entry.key_position, key=other, hint=f"did you mean '{ours}'?")

    def listen(self) -> StepSpec:
        fields = self.fields
        node = fields.need("listen", hint=_LISTEN)
        if not isinstance(node, MapNode):
            if node is not None:
                fields.wrong_type("listen", node, "an object", _LISTEN)
            return ListenStep(do=StepList(()), **self.common)
        inner = Fields(node, fields.findings, fields.at("listen"), "listen")
        name = inner.text("messages")
        if name is not None and not name.text.strip():
            inner.error(codes.MISSING_KEY, "the inbox has no name", name.position, key="messages", hint=_LISTEN)
        step = ListenStep(
            do=self.steps("do", inner),
            messages=name,
            busy=inner.choice("busy", vocabulary.BUSY) or "enqueue",
            allow_busy=_words(inner, "allow_busy", vocabulary.BUSY),
            schema=inner.schema("schema"),
            until=inner.take("until"),
            idle=inner.take("idle"),
            default=default_of(inner, "idle", "7d"),
            **self.common,
        )
        inner.refuse_left(vocabulary.INSIDE[StepKind.LISTEN])
        return step

    def loop(self) -> dict[str, Any]:
        do = self.steps("do")
        rounds = self.fields.whole("max_rounds", 1, vocabulary.MAX_ROUNDS)
        return {"do": do, "max_rounds": vocabulary.DEFAULT_ROUNDS if rounds is None else rounds}

    def fan(self) -> dict[str, Any]:
        parallelism = self.fields.whole("parallelism", 1, vocabulary.MAX_PARALLELISM)
        on_item_error = self.fields.choice("on_item_error", _ITEM_ERRORS)
        return {
            "parallelism": 100 if parallelism is None else parallelism,
            "on_item_error": cast("OnItemError", on_item_error or "fail"),
        }

    def map_reduce(self) -> StepSpec:
        fields = self.fields
        return MapReduceStep(
            over=needed(fields, "over"),
            map=self.steps("map"),
            reduce=fields.take("reduce"),
            initial=fields.take("initial"),
            **self.fan(),
            **self.common,
        )

    def branches(self, key: str) -> tuple[StepList, ...]:
        fields = self.fields
        node = fields.need(key, hint="give it a list of steps")
        if isinstance(node, ListNode):
            if not node.items:
                fields.error(codes.NO_STEPS, f"'{key}' has no branches", node.position, key=key)
            path = fields.at(key)
            return tuple(
                self.read_steps(item, fields.findings, f"{path}[{number}]") for number, item in enumerate(node.items)
            )
        if node is not None:
            fields.wrong_type(key, node, "a list of steps")
        return ()

    def race(self) -> StepSpec:
        fields = self.fields
        branches = self.branches("race")
        take = fields.whole("take", 1, max(len(branches), 1))
        stagger_s = fields.duration("stagger", zero=True)
        return RaceStep(branches=branches, take=take or 1, stagger_s=stagger_s or 0.0, **self.common)
