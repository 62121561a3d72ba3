"""Reads a task from the tree of its source, and reports all that is wrong with its structure at once. Workflow-safe."""

from __future__ import annotations

from engine.core.diagnostics import Findings, did_you_mean
from engine.core.kinds import Dialect
from engine.core.spec import codes, vocabulary
from engine.core.spec.dialects.choice import check_dialect, dialect_of
from engine.core.spec.dialects.julep import plain_julep
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.model import LimitsSpec, RequireSpec, TaskSpec
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode, describe
from engine.core.spec.read_allow import read_allow
from engine.core.spec.read_dispatch import read_dispatch
from engine.core.spec.read_steps import read_step_list
from engine.core.spec.read_tools import read_tools
from engine.core.spec.steps import StepList


def read_task(node: Node, dialect: Dialect = "everstep") -> tuple[TaskSpec, Findings]:
    """Read a task.

    Args:
        node: The root of the source.
        dialect: What the task is read as if it has no key `dialect`.

    Returns:
        The task as far as it could be read, and what is wrong with it; without errors the task is whole.
    """
    findings = Findings()
    if not isinstance(node, MapNode):
        hint = "put the steps under `main:`" if isinstance(node, ListNode) else "a task needs at least `main:`"
        findings.error(codes.NOT_A_TASK, f"a task must be an object, not {describe(node)}", node.position, hint=hint)
        return TaskSpec(workflows={}), findings
    dialect = _dialect(node, dialect, findings)
    if dialect in ("julep-2024", "julep-2025"):
        node = plain_julep(node, findings, dialect)
    fields = Fields(node, findings, "", "the task")
    fields.entry("dialect")
    name = _title(fields, "name")
    description = fields.text("description")
    canonical = _title(fields, "canonical_name")
    is_julep = dialect in ("julep-2024", "julep-2025")
    tools = read_tools(fields.sequence("tools"), findings, julep=is_julep)
    main = fields.need("main", hint=_main_hint(node))
    fields.entry("main")
    workflows: dict[str, StepList] = {}
    if main is not None:
        if isinstance(main, ScalarNode):
            fields.wrong_type("main", main, "a list of steps")
        else:
            workflows["main"] = read_step_list(main, findings, "main")
    input_schema = fields.schema("input_schema")
    inherit = fields.flag("inherit_tools")
    metadata = fields.json_object("metadata")
    limits = _limits(fields)
    require = _require(fields)
    ending = fields.take("finally")
    allow = read_allow(fields)
    dispatch = read_dispatch(fields)
    for entry in fields.left():
        steps = _other_key(entry, fields)
        if steps is not None:
            workflows[entry.key] = steps
    task = TaskSpec(
        workflows=workflows,
        name=name,
        description="" if description is None else description.text,
        canonical_name=canonical,
        input_schema=input_schema,
        tools=tools,
        # the client of 2024 always means the agent's tools as well
        inherit_tools=dialect == "julep-2024" if inherit is None else inherit,
        metadata=metadata or {},
        limits=limits,
        dialect=dialect,
        require=require,
        ending=None if ending is None else read_step_list(ending, findings, "finally"),
        allow=allow,
        dispatch=dispatch,
    )
    return task, findings


def _main_hint(node: MapNode) -> str:
    tasks = node.get("tasks")
    if isinstance(tasks, ListNode) and any(isinstance(item, MapNode) and item.get("handler") for item in tasks.items):
        return "this looks like a contenox chain; add `dialect: contenox`"
    others = (entry.key for entry in node.entries if entry.key not in vocabulary.TASK_KEYS)
    misspelt = next((key for key in others if did_you_mean(key, ["main"])), "")
    if misspelt:
        return f"did you mean 'main'? '{misspelt}' is a list beside it"
    return "`main:` is the list of steps where the task starts"


def _title(fields: Fields, key: str) -> str:
    title = fields.text(key)
    if title is None:
        return ""
    if len(title.text) > vocabulary.MAX_TITLE_CHARS:
        message = f"'{key}' is longer than {vocabulary.MAX_TITLE_CHARS} characters"
        fields.error(codes.BAD_NAME, message, title.position, key=key)
    elif not title.text.strip() or any(ord(char) < 32 for char in title.text):
        message = f"'{key}' must be one line of text"
        fields.error(codes.BAD_NAME, message, title.position, key=key)
    return title.text


def _require(fields: Fields) -> tuple[RequireSpec, ...]:
    node = fields.sequence("require")
    found: list[RequireSpec] = []
    for index, item in enumerate(() if node is None else node.items):
        path = f"require[{index}]"
        if not isinstance(item, MapNode):
            fields.wrong_type(
                "require", item, "a list of objects", "write `require: [{if: EXPRESSION, message: TEXT}]`"
            )
            continue
        inner = Fields(item, fields.findings, path, "the requirement")
        condition = inner.need("if", hint="say what must hold, such as `if: _.amount > 0`")
        message = inner.take("message")
        if condition is not None:
            found.append(RequireSpec(condition, message, item.position))
        inner.refuse_left(("if", "message"))
    return tuple(found)


def _limits(fields: Fields) -> LimitsSpec:
    node = fields.mapping("limits")
    if node is None:
        return LimitsSpec()
    inner = Fields(node, fields.findings, "limits", "limits")
    cost = node.entry("cost")
    limits = LimitsSpec(
        steps=inner.whole("steps", 1, 1_000_000_000),
        rounds=inner.whole("rounds", 1, 1_000_000_000),
        seconds=inner.duration("time"),
        tokens=inner.whole("tokens", 1, 1_000_000_000_000),
        cost_usd=inner.number("cost", 0.000_001, 1_000_000_000),
        cost_position=node.position if cost is None else cost.key_position,
    )
    inner.refuse_left(("steps", "rounds", "time", "tokens", "cost"))
    return limits


def _dialect(node: MapNode, default: Dialect, findings: Findings) -> Dialect:
    check_dialect(node, findings)
    dialect = dialect_of(node, default)
    if dialect == "contenox":
        message = "a contenox chain is not a task: it has `tasks` with handlers, and no steps"
        findings.error(codes.NOT_A_TASK, message, node.position, path="dialect", hint="compile it as a chain")
    return dialect


def _other_key(entry: MapEntry, fields: Fields) -> StepList | None:
    """Read a key that is no setting: a named list of steps, or a mistake."""
    findings = fields.findings
    near = suggest(fields.findings, entry.key, vocabulary.TASK_KEYS)
    if isinstance(entry.value, MapNode):
        is_steps = _shows_a_kind(entry.value)
    else:
        is_steps = isinstance(entry.value, ListNode) and any(isinstance(item, MapNode) for item in entry.value.items)
    if not is_steps:
        hint = near or "a sub-workflow is a list of steps" if isinstance(entry.value, ListNode) else near
        findings.error(
            codes.UNKNOWN_KEY,
            f"the task has no key '{entry.key[:60]}'",
            entry.key_position,
            path=entry.key[:60],
            hint=hint or f"it may have {', '.join(vocabulary.TASK_KEYS)}, and lists of steps as sub-workflows",
        )
        return None
    if near and _looks_like_setting(entry):
        message = f"the task has no key '{entry.key}'"
        findings.error(codes.UNKNOWN_KEY, message, entry.key_position, path=entry.key, hint=near)
        return None
    if not entry.key.isidentifier() or len(entry.key) > vocabulary.MAX_NAME_CHARS:
        findings.error(
            codes.BAD_NAME,
            f"'{entry.key[:60]}' is not a name for a sub-workflow",
            entry.key_position,
            path=entry.key[:60],
            hint=f"use letters, digits and _, at most {vocabulary.MAX_NAME_CHARS}, and no digit first",
        )
    return read_step_list(entry.value, findings, entry.key)


def _looks_like_setting(entry: MapEntry) -> bool:
    """Whether the value holds no step at all, as when `tools` or `main` is misspelt."""
    items = entry.value.items if isinstance(entry.value, ListNode) else (entry.value,)
    return not any(isinstance(item, MapNode) and _shows_a_kind(item) for item in items)


def _shows_a_kind(node: MapNode) -> bool:
    return bool({*vocabulary.MARKERS, *vocabulary.LATER_KINDS, "kind_"} & set(node.keys()))
