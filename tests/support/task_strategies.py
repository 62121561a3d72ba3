"""Random tasks for property tests, each in two forms that were made apart: by the author API, and as JSON by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

import engine
from engine import Step, Task, expr
from tests.support.memory import lookup


@dataclass(frozen=True, slots=True)
class Twin:
    """The same thing as the author API makes it and as a task file has it."""

    python: Any
    json: Any


class Reply(BaseModel):
    """What a model answers."""

    subject: str
    urgent: bool = False


REPLY_SCHEMA = {
    "description": "What a model answers.",
    "type": "object",
    "properties": {"subject": {"type": "string"}, "urgent": {"type": "boolean", "default": False}},
    "required": ["subject"],
}

Twins = st.SearchStrategy[Twin]

EXPRESSIONS = st.sampled_from(["_", "_.x", "len(str(_))", "1 + 1", "[1, 2]", "_ != None", "{'a': _}", "'it''s'"])
TEMPLATES = st.sampled_from(["hello {{ _ }}", "{% if _ %}yes{% endif %}\nline two", "{{ _.x }}: {{ 1 + 1 }}"])
LITERALS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="${"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | LITERALS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LITERALS, inner, max_size=4),
    max_leaves=20,
)
"""Any JSON value that holds neither expressions nor templates."""


def same(strategy: st.SearchStrategy[Any]) -> Twins:
    """Return twins that look alike in both forms."""
    return strategy.map(lambda value: Twin(value, value))


EXPRS = EXPRESSIONS.map(lambda source: Twin(expr(source), f"$ {source}"))
CONDITIONS = EXPRS | same(EXPRESSIONS) | same(EXPRESSIONS.map(lambda source: f"$ {source}"))
DURATIONS = st.sampled_from(
    [
        Twin(5, 5),
        Twin("90s", "90s"),
        Twin(2.5, 2.5),
        Twin(timedelta(minutes=5), 300),
        Twin(timedelta(milliseconds=500), 0.5),
    ]
)
TEXTS = same(TEMPLATES) | same(LITERALS) | EXPRS


def _lists(inner: Twins) -> Twins:
    return st.lists(inner, max_size=3).map(lambda twins: Twin([t.python for t in twins], [t.json for t in twins]))


def _objects(inner: Twins) -> Twins:
    return st.dictionaries(LITERALS, inner, max_size=3).map(
        lambda twins: Twin({k: t.python for k, t in twins.items()}, {k: t.json for k, t in twins.items()})
    )


VALUES: Twins = st.recursive(TEXTS | same(JSON), lambda inner: _lists(inner) | _objects(inner), max_leaves=5)
SCHEMAS = st.sampled_from([Twin(Reply, REPLY_SCHEMA), Twin(list[int], {"type": "array", "items": {"type": "integer"}})])


@st.composite
def members(draw: st.DrawFn, /, **options: Twins) -> Twin:
    """Draw some of these members, each with its strategy: keyword arguments, and the keys of a task file."""
    chosen = [name for name in options if draw(st.booleans())]
    drawn = {name: draw(options[name]) for name in chosen}
    return Twin(
        {name: twin.python for name, twin in drawn.items()},
        {_KEYS.get(name, name): twin.json for name, twin in drawn.items()},
    )


_KEYS = {"else_": "else", "output": "output_schema"}


def _retry(draw: st.DrawFn) -> Twin:
    attempts, pause = draw(st.integers(1, 5)), draw(DURATIONS)
    if draw(st.booleans()):
        longest = draw(DURATIONS)
        return Twin(
            engine.Retry(attempts=attempts, factor=1.5, max=longest.python),
            {"attempts": attempts, "factor": 1.5, "max": longest.json},
        )
    return Twin(
        engine.Retry(attempts=attempts, initial=pause.python, on=["tool"]),
        {"attempts": attempts, "initial": pause.json, "on": ["tool"]},
    )


@st.composite
def modifiers(draw: st.DrawFn, steps: Twins) -> Twin:
    """Draw modifiers, most often none."""
    if draw(st.integers(0, 3)):
        return Twin({}, {})
    drawn: Twin = draw(
        members(
            label=same(st.integers(0, 10**9).map(lambda number: f"step {number}")),
            when=CONDITIONS,
            retry=st.composite(_retry)(),
            timeout=DURATIONS,
            total_timeout=st.just(Twin("2h", "2h")),
            on_error=steps,
            undo=steps,
        )
    )
    return drawn


CHECKS = st.sampled_from(
    [
        Twin([engine.Check(if_="_ != None")], [{"if": "_ != None"}]),
        Twin(
            [engine.Check(if_=expr("_"), message="{{ _ }} is wrong", on_fail="ask")],
            [{"if": "$ _", "message": "{{ _ }} is wrong", "on_fail": "ask"}],
        ),
        Twin(
            [engine.Check(if_="_ != 1", on_fail="error"), engine.Check(if_="_ != 2", message="two", on_fail="error")],
            [{"if": "_ != 1", "on_fail": "error"}, {"if": "_ != 2", "message": "two", "on_fail": "error"}],
        ),
    ]
)


CACHES = st.sampled_from(
    [Twin("1h", "1h"), Twin(engine.Cache(ttl=timedelta(hours=2), key=expr("_")), {"ttl": 7200, "key": "$ _"})]
)
RULES = st.just(
    Twin(
        [
            engine.ToolRule(lookup, first=True, at_most=2, next=["pay", engine.Next(lookup, "_ != None")]),
            engine.ToolRule("pay", approve=engine.Approval(if_="_.amount > 5", deadline="1h"), ends=True),
        ],
        {
            "lookup": {"first": True, "next": ["pay", {"if": "_ != None", "tool": "lookup"}], "at_most": 2},
            "pay": {"ends": True, "approve": {"if": "_.amount > 5", "deadline": "1h"}},
        },
    )
)


def _made(
    make: Callable[..., Step], marker: str, first: Twins, options: Twins, steps: Twins, *, inside: str = ""
) -> Twins:
    """Return steps of one kind: a first value and options; `inside` = the key under which a task file has them."""

    def build(head: Twin, rest: Twin, mods: Twin) -> Twin:
        python = make(head.python, **rest.python, **mods.python)
        body = {marker: {inside: head.json, **rest.json}} if inside else {marker: head.json, **rest.json}
        return Twin(python, {**body, **mods.json})

    return st.builds(build, first, options, modifiers(steps))


NO_STEPS = st.just(Twin(engine.evaluate(1), {"evaluate": 1}))
NONE = st.just(Twin({}, {}))


def leaves() -> Twins:
    """Return steps that hold no steps, except in their modifiers."""
    wait = {"schema": SCHEMAS, "deadline": DURATIONS | EXPRS}
    decision = members(**wait) | st.builds(_with_default, members(**wait), DURATIONS, VALUES)
    names = same(st.fixed_dictionaries({"name": st.sampled_from(["$ _", "text", "{{ _ }}"])}))
    return st.one_of(
        _made(engine.evaluate, "evaluate", VALUES, NONE, NO_STEPS),
        _made(engine.return_, "return", VALUES, NONE, NO_STEPS),
        _made(engine.log, "log", TEXTS, NONE, NO_STEPS),
        _made(engine.error, "error", TEXTS, NONE, NO_STEPS),
        _made(engine.set_, "set", _objects(VALUES), NONE, NO_STEPS),
        _made(engine.get, "get", same(st.just("key")), NONE, NO_STEPS),
        _made(engine.sleep, "sleep", DURATIONS | EXPRS, NONE, NO_STEPS),
        _prompts(),
        st.builds(_call, names, st.booleans(), members(check=CHECKS, cache=CACHES), modifiers(NO_STEPS)),
        st.builds(_run_task, VALUES, st.booleans(), members(check=CHECKS), modifiers(NO_STEPS)),
        _agents(),
        _made(engine.embed, "embed", _texts(), _members_of_embed(), NO_STEPS, inside="text"),
        st.builds(_search, _texts(), _members_of_search(), _search_options(), modifiers(NO_STEPS)),
        st.builds(_yield, VALUES, st.booleans(), modifiers(NO_STEPS)),
        _made(engine.wait_for_input, "wait_for_input", _texts(), decision, NO_STEPS, inside="info"),
        _made(engine.approve, "approve", _texts(), decision, NO_STEPS, inside="info"),
        _made(engine.wait_for_event, "wait_for_event", same(st.just("paid")), members(key=TEXTS, **wait), NO_STEPS),
        _made(engine.wait_for_event, "wait_for_event", same(st.just("paid")), decision, NO_STEPS),
    )


def _with_default(options: Twin, deadline: Twin, default: Twin) -> Twin:
    # a default needs a deadline
    return Twin(
        {**options.python, "deadline": deadline.python, "default": default.python},
        {**options.json, "deadline": deadline.json, "default": default.json},
    )


def _texts() -> Twins:
    return same(TEMPLATES) | EXPRS


def _prompts() -> Twins:
    messages = st.lists(_texts(), min_size=1, max_size=2).map(
        lambda twins: Twin(
            [engine.system("Be short."), *(engine.user(twin.python) for twin in twins)],
            [
                {"role": "system", "content": "Be short."},
                *({"role": "user", "content": twin.json} for twin in twins),
            ],
        )
    )
    options = members(
        model=same(st.sampled_from(["small", "$ _.model"])),
        settings=st.just(
            Twin({"temperature": 0, "max_tokens": expr("_.n")}, {"temperature": 0, "max_tokens": "$ _.n"})
        ),
        tools=st.just(Twin([lookup, "pay"], ["lookup", "pay"])),
        output=SCHEMAS,
        repair=same(st.integers(0, 3)),
        check=CHECKS,
        unwrap=same(st.booleans()),
    )
    return _made(engine.prompt, "prompt", _texts() | messages, options, NO_STEPS)


def _call(arguments: Twin, by_name: bool, check: Twin, mods: Twin) -> Twin:
    tool = "lookup" if by_name else lookup
    python = engine.call_tool(tool, arguments.python, **check.python, **mods.python)
    return Twin(python, {"tool": "lookup", "arguments": arguments.json, **check.json, **mods.json})


def _agents() -> Twins:
    tools = st.just(Twin([lookup, "pay"], ["lookup", "pay"]))
    settled = members(
        instructions=_texts(),
        model=same(st.just("small")),
        settings=st.just(Twin({"temperature": 0}, {"temperature": 0})),
        max_rounds=same(st.integers(1, 9)),
        parallelism=same(st.integers(1, 9)),
        on_overflow=same(st.sampled_from(["error", "truncate", "summarise"])),
        output=SCHEMAS,
        unwrap=same(st.booleans()),
        check=CHECKS,
    )
    with_tools = st.builds(
        lambda options, offered, rules: Twin(
            {**options.python, "tools": offered.python, "rules": rules.python},
            {**options.json, "tools": offered.json, "rules": rules.json},
        ),
        settled,
        tools,
        RULES,
    )
    return _made(engine.agent, "agent", _texts(), settled | with_tools, NO_STEPS)


def _members_of_embed() -> Twins:
    return members(embed_instruction=same(st.just("A question.")), model=same(st.just("small")))


def _members_of_search() -> Twins:
    return members(
        vector=same(st.just([0.5, 1])), metadata_filter=_objects(same(LITERALS)), agent=same(st.just("ada")) | EXPRS
    )


def _search_options() -> Twins:
    return members(limit=same(st.integers(1, 9)) | EXPRS, lang=same(st.just("en-US")), alpha=same(st.just(0.25)))


def _search(text: Twin, given: Twin, options: Twin, mods: Twin) -> Twin:
    python = engine.search(text.python, **given.python, options=options.python, **mods.python)
    return Twin(python, {"search": {"text": text.json, **given.json, **options.json}, **mods.json})


def _run_task(arguments: Twin, plain: bool, check: Twin, mods: Twin) -> Twin:
    if plain:
        other = Task(name="other", main=engine.evaluate(1))
        return Twin(engine.run_task(other, **check.python, **mods.python), {"task": "other", **check.json, **mods.json})
    step = engine.run_task("other@live", {"value": arguments.python}, **check.python, **mods.python)
    body = {"task": "other@live", "arguments": {"value": arguments.json}}
    return Twin(step, {**body, **check.json, **mods.json})


def _yield(arguments: Twin, plain: bool, mods: Twin) -> Twin:
    if plain:
        return Twin(engine.run_workflow("sub", **mods.python), {"workflow": "sub", **mods.json})
    step = engine.run_workflow("sub", {"value": arguments.python}, **mods.python)
    return Twin(step, {"workflow": "sub", "arguments": {"value": arguments.json}, **mods.json})


def blocks(inner: Twins) -> Twins:
    """Return steps that hold the given steps."""
    steps = inner | st.lists(inner, min_size=1, max_size=3).map(
        lambda twins: Twin([t.python for t in twins], [t.json for t in twins])
    )
    branches = st.lists(steps, min_size=1, max_size=3)
    fan = members(parallelism=same(st.integers(1, 5)), on_item_error=same(st.sampled_from(["fail", "collect", "skip"])))
    rounds = members(max_rounds=same(st.integers(1, 50)))
    reduce = members(reduce=same(st.just("results + [_]")), initial=VALUES)
    return st.one_of(
        st.builds(_if, CONDITIONS, steps, st.none() | steps, modifiers(steps)),
        st.builds(
            _switch, st.lists(st.tuples(CONDITIONS, steps), min_size=1, max_size=2), st.none() | steps, modifiers(steps)
        ),
        st.builds(_foreach, CONDITIONS, steps, modifiers(steps)),
        st.builds(_map, CONDITIONS, steps, fan, reduce, modifiers(steps)),
        st.builds(_fan(engine.parallel, "parallel"), branches, fan, modifiers(steps)),
        st.builds(
            _fan(engine.race, "race"), branches, members(stagger=DURATIONS, take=same(st.just(1))), modifiers(steps)
        ),
        st.builds(_loop(engine.while_, "while"), CONDITIONS, steps, rounds, modifiers(steps)),
        st.builds(_loop(engine.until, "until"), CONDITIONS, steps, rounds, modifiers(steps)),
        st.builds(_listen, steps, _members_of_listen(), modifiers(steps)),
    )


def _members_of_listen() -> Twins:
    policies = ("reject", "enqueue", "join", "interrupt", "rollback")
    options = members(
        messages=same(st.sampled_from(["chat", "orders"])),
        busy=same(st.sampled_from(policies)),
        allow_busy=same(st.lists(st.sampled_from(policies), unique=True, max_size=2)),
        schema=SCHEMAS,
        until=CONDITIONS,
        idle=DURATIONS,
    )
    ends = st.builds(
        lambda idle, default: Twin(
            {"idle": idle.python, "default": default.python}, {"idle": idle.json, "default": default.json}
        ),
        DURATIONS,
        VALUES,
    )
    return options | ends


def _listen(do: Twin, options: Twin, mods: Twin) -> Twin:
    return Twin(
        engine.listen(do=do.python, **options.python, **mods.python),
        {"listen": {**options.json, "do": do.json}, **mods.json},
    )


def _if(condition: Twin, then: Twin, other: Twin | None, mods: Twin) -> Twin:
    if other is None:
        step = engine.if_(condition.python, then=then.python, **mods.python)
        return Twin(step, {"if": condition.json, "then": then.json, **mods.json})
    step = engine.if_(condition.python, then=then.python, else_=other.python, **mods.python)
    return Twin(step, {"if": condition.json, "then": then.json, "else": other.json, **mods.json})


def _switch(cases: list[tuple[Twin, Twin]], last: Twin | None, mods: Twin) -> Twin:
    python = [engine.case(condition.python, then=steps.python) for condition, steps in cases]
    bodies = [{"case": condition.json, "then": steps.json} for condition, steps in cases]
    if last is None:
        return Twin(engine.switch(*python, **mods.python), {"switch": bodies, **mods.json})
    step = engine.switch(*python, engine.otherwise(last.python), **mods.python)
    return Twin(step, {"switch": [*bodies, {"case": "_", "then": last.json}], **mods.json})


def _foreach(items: Twin, do: Twin, mods: Twin) -> Twin:
    step = engine.foreach(items.python, do=do.python, **mods.python)
    return Twin(step, {"foreach": {"in": items.json, "do": do.json}, **mods.json})


def _map(over: Twin, steps: Twin, fan: Twin, reduce: Twin, mods: Twin) -> Twin:
    step = engine.map_(over.python, map=steps.python, **fan.python, **reduce.python, **mods.python)
    return Twin(step, {"over": over.json, "map": steps.json, **fan.json, **reduce.json, **mods.json})


def _fan(make: Callable[..., Step], marker: str) -> Callable[[list[Twin], Twin, Twin], Twin]:
    def build(branches: list[Twin], options: Twin, mods: Twin) -> Twin:
        step = make(*(branch.python for branch in branches), **options.python, **mods.python)
        return Twin(step, {marker: [branch.json for branch in branches], **options.json, **mods.json})

    return build


def _loop(make: Callable[..., Step], marker: str) -> Callable[[Twin, Twin, Twin, Twin], Twin]:
    def build(condition: Twin, do: Twin, options: Twin, mods: Twin) -> Twin:
        step = make(condition.python, do=do.python, **options.python, **mods.python)
        return Twin(step, {marker: condition.json, "do": do.json, **options.json, **mods.json})

    return build


STEPS: Twins = st.recursive(leaves(), blocks, max_leaves=6)


@st.composite
def tasks(draw: st.DrawFn) -> Twin:
    """Draw a task: `python` is a `Task`, `json` what a task file holds."""
    main = draw(st.lists(STEPS, min_size=1, max_size=4))
    options = draw(
        members(
            description=same(st.sampled_from(["", "Two lines,\nfor people.", "It's: #1"])),
            metadata=_objects(same(JSON)),
        )
    )
    given: dict[str, Any] = {"input": Reply} if draw(st.booleans()) else {}
    body: dict[str, Any] = {"input_schema": REPLY_SCHEMA} if given else {}
    if draw(st.booleans()):
        given |= {"limits": engine.Limits(steps=100, rounds=7, time="1h", tokens=9)}
        body |= {"limits": {"steps": 100, "rounds": 7, "time": "1h", "tokens": 9}}
    if draw(st.booleans()):
        given |= {"require": [engine.Require(if_="_ != 3", message="not {{ _ }}"), engine.Require(if_="_ != 4")]}
        body |= {"require": [{"if": "_ != 3", "message": "not {{ _ }}"}, {"if": "_ != 4"}]}
    if draw(st.booleans()):
        ending = draw(leaves())
        given |= {"finally_": [engine.log("{{ error }}"), ending.python]}
        body |= {"finally": [{"log": "{{ error }}"}, ending.json]}
    if draw(st.booleans()):
        given |= {"allow": engine.Allow(hosts=[], secrets=[])}
        body |= {"allow": {"hosts": [], "secrets": []}}
    if draw(st.booleans()):
        given |= {"dispatch": engine.Dispatch(cron=["0 5 * * *"], priority=2, labels=["night"])}
        body |= {"dispatch": {"cron": ["0 5 * * *"], "priority": 2, "labels": ["night"]}}
    task = Task(
        name="twin",
        main=[twin.python for twin in main],
        workflows={"sub": engine.evaluate(expr("_"))},
        **given,
        **options.python,
    )
    return Twin(
        task,
        {
            "name": "twin",
            "main": [twin.json for twin in main],
            "sub": [{"evaluate": "$ _"}],
            **body,
            **options.json,
        },
    )
