"""Reads a contenox chain from the tree of its source, and reports all that is wrong with it at once. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.diagnostics import Findings
from engine.core.spec import codes, vocabulary
from engine.core.spec.dialects.choice import check_dialect
from engine.core.spec.dialects.contenox import (
    LATER_NAMES,
    SYMBOLS,
    BranchSpec,
    ChainSpec,
    ChainTaskSpec,
    ComposeSpec,
    ExecuteSpec,
    Handler,
    HookSpec,
    Operator,
)
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, describe
from engine.core.spec.parts import NameSpec

MAX_TASKS: Final = 2_000
MAX_CONDITIONS: Final = 100
MAX_COMPARED_CHARS: Final = 4_000
"""What a branch compares with becomes part of an expression."""
LATER_HANDLERS: Final = ("route",)
LATER_OPERATORS: Final = ("edge_traversed_at_least",)
RESERVED: Final = MappingProxyType(
    {
        "end": "ends the chain",
        "input": "is the variable of the chain's input",
        "previous_output": "is the variable of the output before",
    }
)
STRATEGIES: Final = ("override", "append_string_to_chat_history", "merge_chat_histories")

_CHAIN_KEYS: Final = ("id", "description", "debug", "token_limit", "tasks", "dialect")
_TASK_KEYS: Final = (
    "id",
    "description",
    "handler",
    "system_instruction",
    "valid_conditions",
    "execute_config",
    "hook",
    "print",
    "prompt_template",
    "output_template",
    "input_var",
    "compose",
    "timeout",
    "retry_on_failure",
    "transition",
)
_UNUSED_SETTINGS: Final = ("provider", "providers", "pass_clients_tools")


def read_chain(node: Node) -> tuple[ChainSpec, Findings]:
    """Read a chain.

    Args:
        node: The root of the source.

    Returns:
        The chain as far as it could be read, and what is wrong with it; without errors the chain is whole.
    """
    findings = Findings()
    if not isinstance(node, MapNode):
        message = f"a chain must be an object, not {describe(node)}"
        findings.error(codes.NOT_A_TASK, message, node.position, hint="a chain needs at least `tasks:`")
        return ChainSpec(tasks=()), findings
    check_dialect(node, findings)
    fields = Fields(node, findings, "", "the chain")
    fields.entry("dialect")
    name, description = fields.text("id"), fields.text("description")
    # every step is recorded anyway
    fields.flag("debug")
    limit = fields.whole("token_limit", 0, 1_000_000_000)
    if limit:
        _no_effect(fields, "token_limit", "counts the messages of one call, which nothing does here", "limits.tokens")
    items = fields.need("tasks", hint="`tasks:` is the list of the chain's tasks; it starts with the first")
    fields.entry("tasks")
    tasks: list[ChainTaskSpec] = []
    if isinstance(items, ListNode):
        if not items.items:
            fields.error(codes.NO_STEPS, "the chain has no tasks", items.position, key="tasks")
        if len(items.items) > MAX_TASKS:
            message = f"the chain has {len(items.items):,} tasks, more than {MAX_TASKS:,}"
            fields.error(codes.PLAN_TOO_LARGE, message, items.position, key="tasks")
        for index, item in enumerate(items.items[:MAX_TASKS]):
            task = _read_task(item, findings, f"tasks[{index}]")
            if task is not None:
                tasks.append(task)
    elif items is not None:
        fields.wrong_type("tasks", items, "a list of tasks")
    fields.refuse_left(_CHAIN_KEYS)
    chain = ChainSpec(
        tasks=tuple(tasks),
        id="" if name is None else name.text,
        description="" if description is None else description.text,
        token_limit=limit or 0,
        position=node.position,
    )
    return chain, findings


def _no_effect(fields: Fields, key: str, why: str, instead: str = "") -> None:
    entry = fields.node.entry(key)
    assert entry is not None
    hint = f"use `{instead}` of a task" if instead else ""
    fields.findings.warn(
        codes.NO_EFFECT, f"'{key}' {why} (contenox)", entry.key_position, path=fields.at(key), hint=hint
    )


def _read_task(node: Node, findings: Findings, path: str) -> ChainTaskSpec | None:
    if not isinstance(node, MapNode):
        message = f"a task of a chain must be an object, not {describe(node)}"
        findings.error(codes.WRONG_TYPE, message, node.position, path=path, hint="write `{id: …, handler: …}`")
        return None
    fields = Fields(node, findings, path, "the task")
    name = _id(fields)
    handler = _handler(fields)
    fields.text("description")
    instruction = fields.text("system_instruction")
    retries = fields.whole("retry_on_failure", 0, 999)
    on_failure, branches = _transition(fields)
    task = ChainTaskSpec(
        id=name,
        # its result may be any text, so that no branch is called dead because of a wrong word
        handler=handler or Handler.RAW_STRING,
        system_instruction="" if instruction is None else instruction.text,
        prompt_template=_template(fields, "prompt_template"),
        output_template=_template(fields, "output_template"),
        input_var=fields.text("input_var"),
        valid_conditions=_conditions(fields, handler),
        execute=_execute(fields),
        hook=_hook(fields, handler),
        compose=_compose(fields),
        print=_template(fields, "print"),
        timeout_s=fields.duration("timeout"),
        retries=retries or 0,
        on_failure=on_failure,
        branches=branches,
        position=node.position,
        path=path,
    )
    hint = "write `system_instruction`" if node.entry("systemInstruction") is not None else ""
    if hint:
        entry = fields.entry("systemInstruction")
        assert entry is not None
        fields.error(codes.UNKNOWN_KEY, "the task has no key 'systemInstruction'", entry.key_position, hint=hint)
    fields.refuse_left(_TASK_KEYS)
    return task


def _id(fields: Fields) -> NameSpec:
    found = fields.node.entry("id")
    name = fields.text("id")
    if name is None or not name.text:
        at = fields.node.position if found is None else found.key_position
        fields.error(codes.MISSING_KEY, "the task has no 'id'", at, hint="branches jump to it by that name")
        return NameSpec("", at)
    if len(name.text) > vocabulary.MAX_LABEL_CHARS:
        message = f"an id has at most {vocabulary.MAX_LABEL_CHARS} characters"
        fields.error(codes.BAD_NAME, message, name.position, key="id")
        return NameSpec(name.text[: vocabulary.MAX_LABEL_CHARS], name.position)
    if name.text in RESERVED:
        message = f"'{name.text}' {RESERVED[name.text]}; a task cannot have that id"
        fields.error(codes.BAD_NAME, message, name.position, key="id", hint="give it another id")
    return name


def _handler(fields: Fields) -> Handler | None:
    if fields.node.get("handler") is None:
        fields.need("handler", hint=f"handlers are {', '.join(Handler)}")
        return None
    word = fields.text("handler")
    if word is None:
        return None
    if word.text in LATER_HANDLERS:
        message = f"the handler '{word.text}' is not available in this version"
        fields.error(codes.LATER, message, word.position, key="handler")
        return None
    known = {**{handler.value: handler for handler in Handler}, **LATER_NAMES}
    if word.text not in known:
        hint = suggest(fields.findings, word.text, known) or f"handlers are {', '.join(Handler)}"
        message = f"'{word.text[:60]}' is not a handler"
        fields.error(codes.NOT_ONE_OF, message, word.position, key="handler", hint=hint)
    return known.get(word.text)


def _template(fields: Fields, key: str) -> ScalarNode | None:
    """Take a template; the empty text is none, since clients send it for what is not set."""
    node = fields.take(key)
    if node is None or (isinstance(node, ScalarNode) and node.value == ""):
        return None
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return node
    fields.wrong_type(key, node, "text")
    return None


def _conditions(fields: Fields, handler: Handler | None) -> dict[str, bool]:
    node = fields.mapping("valid_conditions")
    found: dict[str, bool] = {}
    if node is not None:
        inner = Fields(node, fields.findings, fields.at("valid_conditions"), "valid_conditions")
        for entry in node.entries:
            flag = inner.flag(entry.key)
            if flag is not None:
                found[entry.key] = flag
        if len(found) > MAX_CONDITIONS or sum(map(len, found)) > MAX_COMPARED_CHARS:
            message = (
                f"there are at most {MAX_CONDITIONS} valid conditions, of {MAX_COMPARED_CHARS:,} characters in all"
            )
            fields.error(codes.OUT_OF_RANGE, message, node.position, key="valid_conditions")
            return {}
    elif handler is Handler.CONDITION_KEY:
        hint = "such as `valid_conditions: {yes: true, no: false}`, with quotes around yes and no in old YAML"
        fields.error(codes.MISSING_KEY, "the task has no 'valid_conditions'", fields.node.position, hint=hint)
    return found


def _execute(fields: Fields) -> ExecuteSpec:
    node = fields.mapping("execute_config")
    if node is None:
        return ExecuteSpec()
    inner = Fields(node, fields.findings, fields.at("execute_config"), "execute_config")
    model = inner.text("model")
    models = [*([model] if model is not None and model.text else []), *_names(inner, "models")]
    for key in _UNUSED_SETTINGS:
        entry = inner.entry(key)
        if entry is not None and not (isinstance(entry.value, ScalarNode) and not entry.value.value):
            _no_effect(inner, key, "is not looked at in this version")
    config = ExecuteSpec(
        models=tuple(models),
        temperature=inner.number("temperature", 0, 100),
        hooks=_names(inner, "hooks"),
        hide_tools=tuple(name.text for name in _names(inner, "hide_tools")),
    )
    inner.refuse_left(("model", "models", "temperature", "hooks", "hide_tools", *_UNUSED_SETTINGS))
    return config


def _names(fields: Fields, key: str) -> tuple[NameSpec, ...]:
    node = fields.sequence(key)
    names: list[NameSpec] = []
    for item in () if node is None else node.items:
        if isinstance(item, ScalarNode) and isinstance(item.value, str):
            names.append(NameSpec(item.value, item.position))
        else:
            fields.wrong_type(key, item, "a list of names")
    return tuple(names)


def _hook(fields: Fields, handler: Handler | None) -> HookSpec | None:
    node = fields.mapping("hook")
    if node is None:
        if handler is Handler.HOOK:
            hint = "write `hook: {name: SERVICE, tool_name: TOOL}`"
            fields.error(codes.MISSING_KEY, "the task has no 'hook'", fields.node.position, hint=hint)
        return None
    inner = Fields(node, fields.findings, fields.at("hook"), "hook")
    name, tool = inner.text("name"), inner.text("tool_name")
    for key, found in (("name", name), ("tool_name", tool)):
        if found is None and node.get(key) is None:
            inner.error(codes.MISSING_KEY, f"hook has no '{key}'", node.position)
    args: dict[str, str] = {}
    given = inner.mapping("args")
    if given is not None:
        texts = Fields(given, fields.findings, inner.at("args"), "args")
        for entry in given.entries:
            text = texts.text(entry.key)
            if text is not None:
                args[entry.key] = text.text
    inner.refuse_left(("name", "tool_name", "args"))
    if name is None or tool is None:
        return None
    return HookSpec(name=name, tool=tool, args=args)


def _compose(fields: Fields) -> ComposeSpec | None:
    node = fields.mapping("compose")
    if node is None:
        return None
    inner = Fields(node, fields.findings, fields.at("compose"), "compose")
    variable = inner.text("with_var")
    strategy = inner.text("strategy")
    word = "" if strategy is None else strategy.text
    if strategy is not None and word not in ("", *STRATEGIES):
        hint = suggest(fields.findings, word, STRATEGIES) or f"strategies are {', '.join(STRATEGIES)}"
        inner.error(codes.NOT_ONE_OF, f"'{word[:60]}' is not a strategy", strategy.position, key="strategy", hint=hint)
        word = ""
    if word == "override":
        _no_effect(inner, "strategy", "merges only the members of the two objects, not those inside of them")
    inner.refuse_left(("with_var", "strategy"))
    if variable is None or not variable.text:
        return None
    return ComposeSpec(with_var=variable, strategy=word)


def _transition(fields: Fields) -> tuple[NameSpec | None, tuple[BranchSpec, ...]]:
    node = fields.mapping("transition")
    if node is None:
        return None, ()
    inner = Fields(node, fields.findings, fields.at("transition"), "transition")
    on_failure = inner.text("on_failure")
    items = inner.sequence("branches")
    branches: list[BranchSpec] = []
    for index, item in enumerate(() if items is None else items.items):
        path = f"{inner.at('branches')}[{index}]"
        if not isinstance(item, MapNode):
            message = f"a branch must be an object, not {describe(item)}"
            hint = "write `{operator: equals, when: TEXT, goto: ID}`"
            fields.findings.error(codes.WRONG_TYPE, message, item.position, path=path, hint=hint)
            continue
        branch = _branch(Fields(item, fields.findings, path, "the branch"))
        if branch is not None:
            branches.append(branch)
    inner.refuse_left(("on_failure", "branches"))
    return (None if on_failure is None or not on_failure.text else on_failure), tuple(branches)


def _branch(fields: Fields) -> BranchSpec | None:
    at = fields.node.position
    word, when, goto = fields.text("operator"), fields.text("when"), fields.text("goto")
    fields.refuse_left(("operator", "when", "goto"))
    hint = f"operators are {', '.join(Operator)}"
    if word is None or not word.text:
        if word is not None or fields.node.get("operator") is None:
            fields.error(codes.MISSING_KEY, "the branch has no 'operator'", at, hint=hint)
        return None
    if word.text in LATER_OPERATORS:
        message = f"the operator '{word.text}' is not available in this version"
        fields.error(codes.LATER, message, word.position, key="operator")
        return None
    known = {**{operator.value: operator for operator in Operator}, **SYMBOLS}
    operator = known.get(word.text)
    if operator is None:
        message = f"'{word.text[:60]}' is not an operator"
        near = suggest(fields.findings, word.text, known) or hint
        fields.error(codes.NOT_ONE_OF, message, word.position, key="operator", hint=near)
        return None
    if when is None and operator is not Operator.DEFAULT:
        message = f"the branch has no 'when' to compare by '{operator}'"
        fields.error(codes.MISSING_KEY, message, at, key="when")
        return None
    if when is not None and len(when.text) > MAX_COMPARED_CHARS:
        message = f"'when' has more than {MAX_COMPARED_CHARS:,} characters"
        fields.error(codes.OUT_OF_RANGE, message, when.position, key="when")
        return None
    return BranchSpec(
        operator=operator, when=when or NameSpec("", at), goto=goto or NameSpec("", at), position=at, path=fields.path
    )
