"""Gathers the tools a task may use as contracts, and checks literal arguments against them. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from engine.core.diagnostics import Findings
from engine.core.kinds import ToolEffect
from engine.core.plan.agent_rules import Approval
from engine.core.plan.computed import Arr, Lit, Obj, Tmpl, Value
from engine.core.plan.ir import ToolContract
from engine.core.plan.providers import provider_contract
from engine.core.plan.resolve import is_template, mark_length
from engine.core.plan.schema_check import check_schema
from engine.core.plan.secret_spec import with_secrets
from engine.core.plan.system_tools import OPERATIONS
from engine.core.schemas import value_problems
from engine.core.spec import codes
from engine.core.spec.fields import suggest
from engine.core.spec.model import ToolSpec
from engine.core.spec.nodes import MapNode, Node
from engine.core.spec.parts import FunctionToolSpec, NameSpec
from engine.core.spec.read_inherited import leave_out
from engine.core.values import Json

SAFE_METHODS = ("GET", "HEAD")
API_CALL_ARGUMENTS = frozenset(
    {"url", "method", "headers", "params", "json", "json_", "data", "content", "files", "cookies", "follow_redirects"}
)
"""What the arguments of an api_call may be when it declares no `parameters`."""
UNKNOWN = "is unknown"
LONGEST_S = 10 * 365 * 86_400.0
"""How long a function of the client is waited for that has no `timeout`, which is as long as any step can wait."""
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
DEFINE_IT = "define it under `tools:`; a Python tool is found by [tools] modules in everstep.toml"


class Toolbox:
    """The tools of a task and of the operator, by name; the task's own win."""

    def __init__(self, specs: tuple[ToolSpec, ...], contracts: Mapping[str, ToolContract], findings: Findings) -> None:
        """Gather the tools.

        Args:
            specs: Tools of the task.
            contracts: Tools of the operator.
            findings: Where to put what is wrong.
        """
        self.findings = findings
        self.functions: dict[str, ToolSpec] = {}
        self.contracts: dict[str, ToolContract] = dict(contracts)
        self.own: list[str] = []
        self.approvals: dict[str, Approval] = {}
        self.ids = {spec.id: spec.name.text for spec in specs if spec.id}
        for spec in specs:
            if spec.inherited:
                self._inherit(spec, contracts)
            else:
                self._add(spec, contracts)

    def _inherit(self, spec: ToolSpec, contracts: Mapping[str, ToolContract]) -> None:
        """Add a tool of the agent; one that cannot be used is no error of the task."""
        findings, self.findings = self.findings, Findings()
        name, known = spec.name.text, self.contracts.get(spec.name.text)
        self._add(spec, contracts)
        problems, self.findings = self.findings, findings
        if not problems.errors:
            return
        leave_out(name, problems, findings)
        self.own.remove(name)
        self.functions.pop(name, None)
        self.contracts.pop(name, None)
        if known is not None:
            self.contracts[name] = known

    def _add(self, spec: ToolSpec, contracts: Mapping[str, ToolContract]) -> None:
        findings, name = self.findings, spec.name.text
        self.own.append(name)
        if spec.parameters is not None:
            check_schema(spec.parameters, findings, f"{spec.path}.parameters")
        if spec.answer is not None:
            check_schema(spec.answer, findings, f"{spec.path}.api_call.schema")
        if spec.type == "function":
            self.functions[name] = spec
            self.contracts.pop(name, None)
        elif spec.type == "api_call":
            self.contracts[name] = with_secrets(_api_call_contract(spec), spec, findings)
        elif spec.type == "system":
            self.contracts[name] = self._system(spec)
        elif spec.type == "integration":
            self.contracts[name] = with_secrets(provider_contract(spec, contracts, findings), spec, findings)
        elif spec.type == "task":
            self.contracts[name] = _task_contract(spec)
            is_literal(NameSpec(str(spec.spec.get("task", "")), spec.position), "task", f"{spec.path}.task", findings)
        elif spec.type == "unknown":
            # steps that name it are not to blame a second time, not even for calling it in a race
            self.contracts[name] = ToolContract(name, "python", effect=ToolEffect.NONE)
        else:
            self._python(spec, contracts)

    def names(self) -> set[str]:
        """Return all names."""
        return {*self.contracts, *self.functions}

    def callable_tool(self, name: NameSpec, path: str) -> ToolContract | None:
        """Return the contract of a tool that a step calls, or None after saying why it cannot."""
        contract = self.contracts.get(name.text)
        if contract is not None:
            return contract
        if name.text in self.functions:
            return self._with_approval(_function_contract(self.functions[name.text]))
        if name.text and is_literal(name, "tool", path, self.findings):
            self._unknown(name, path)
        return None

    def offered(self, item: NameSpec | FunctionToolSpec, path: str) -> dict[str, Any] | None:
        """Return a tool in the shape that models get: {type: function, function: {name, description?, parameters}}."""
        if isinstance(item, FunctionToolSpec):
            if item.parameters is not None:
                check_schema(item.parameters, self.findings, f"{path}.parameters")
            return offer(item.name.text, item.description, item.parameters.value if item.parameters else None)
        item = self.named(item)
        found = self.functions.get(item.text)
        if found is not None:
            return offer(item.text, found.description or "", found.parameters.value if found.parameters else None)
        contract = self.contracts.get(item.text)
        if contract is not None:
            return offer(item.text, contract.description, contract.parameters)
        self._unknown(item, path)
        return None

    def named(self, name: NameSpec) -> NameSpec:
        """Return the name of a tool that a prompt may have named by its id."""
        return replace(name, text=self.ids[name.text]) if name.text in self.ids else name

    def _system(self, spec: ToolSpec) -> ToolContract:
        name, fixed = str(spec.spec.get("operation", "")), spec.spec.get("arguments", {})
        operation = OPERATIONS.get(name)
        if operation is None:
            # what is wrong with it is reported already
            return ToolContract(spec.name.text, "system", effect=ToolEffect.NONE)
        unknown = sorted(key for key in fixed if key not in operation.properties)
        problems = [f"'{key}' {UNKNOWN}" for key in unknown] or [
            problem for key, value in fixed.items() for problem in value_problems(value, operation.properties[key])
        ]
        if problems:
            message = f"the arguments of '{name}' do not fit: {problems[0]}"
            hint = _listing(dict(operation.properties))
            self.findings.error(codes.BAD_ARGUMENTS, message, spec.position, path=f"{spec.path}.system", hint=hint)
        given = spec.spec.get("names", {})
        names = {theirs: ours for theirs, ours in given.items() if ours in operation.properties and ours not in fixed}
        plain: dict[str, Any] = {"operation": name, "arguments": fixed} if fixed else {"operation": name}
        return ToolContract(
            name=spec.name.text,
            type="system",
            parameters=operation.julep_parameters(fixed, names)
            if "names" in spec.spec
            else operation.parameters(fixed),
            effect=operation.effect,
            idempotent=operation.idempotent,
            description=operation.about if spec.description is None else spec.description,
            timeout_s=ToolContract(spec.name.text, "system").timeout_s if spec.timeout_s is None else spec.timeout_s,
            spec={**plain, "names": names} if "names" in spec.spec else plain,
        )

    def _python(self, spec: ToolSpec, contracts: Mapping[str, ToolContract]) -> None:
        found = contracts.get(spec.name.text)
        if found is None:
            self.findings.error(
                codes.UNKNOWN_TOOL,
                f"the operator has no Python tool '{spec.name.text}'",
                spec.name.position,
                path=f"{spec.path}.name",
                hint=suggest(self.findings, spec.name.text, contracts)
                or "name its module under [tools] in everstep.toml",
            )
            # steps that name it are not to blame a second time
            self.contracts[spec.name.text] = ToolContract(spec.name.text, "python")
            return
        fixed = [
            key
            for key, value in (
                ("parameters", spec.parameters),
                ("effect", spec.effect),
                ("idempotent", spec.idempotent),
            )
            if value is not None
        ]
        if fixed:
            # others than those in Python are declared here the same way
            kind, owner, place = ("tool", "the operator", "everstep.toml")
            if found.type == "python":
                kind, owner, place = "Python tool", "its own code", "the `@tool` of the function"
            self.findings.error(
                codes.CONFLICT,
                f"the {kind} '{spec.name.text}' has its {' and '.join(fixed)} from {owner}",
                spec.position,
                path=spec.path,
                hint=f"leave it out here, or change it in {place}",
            )
        own: dict[str, Any] = {"description": spec.description, "timeout_s": spec.timeout_s}
        own = {name: value for name, value in own.items() if value is not None}
        self.contracts[spec.name.text] = replace(found, **own, own=tuple(own))

    def hold(self, name: str, approval: Approval) -> None:
        """Let calls of one of the task's tools wait for a person, beside those that the operator lets wait."""
        self.approvals[name] = approval
        if name in self.contracts:
            self.contracts[name] = self._with_approval(self.contracts[name])

    def _with_approval(self, contract: ToolContract) -> ToolContract:
        own = self.approvals.get(contract.name)
        return contract if own is None else replace(contract, own_approve=(own,))

    def _unknown(self, name: NameSpec, path: str) -> None:
        known = self.names()
        hint = suggest(self.findings, name.text, known)
        if not hint:
            hint = f"known are {', '.join(sorted(known)[:20])}" if known else DEFINE_IT
        message = f"there is no tool '{name.text[:60]}'"
        self.findings.error(codes.UNKNOWN_TOOL, message, name.position, path=path, hint=hint)

    def check_arguments(self, contract: ToolContract, value: Value, node: Node | None, path: str) -> None:
        """Report literal arguments that cannot fit the tool's schema.

        Args:
            contract: The tool.
            value: The arguments.
            node: Where they stand.
            path: Their place in the structure.
        """
        if node is None or not isinstance(value, (Lit, Obj)) or not isinstance(node, MapNode):
            return
        members: dict[str, Value] = (
            value.items if isinstance(value, Obj) else {key: Lit(item) for key, item in value.value.items()}
        )
        if contract.type == "api_call":
            self._check_method(contract, members, node, path)
            if contract.parameters is None:
                for key in members:
                    if key not in API_CALL_ARGUMENTS:
                        self._argument(
                            contract, key, UNKNOWN, suggest(self.findings, key, API_CALL_ARGUMENTS), node, path
                        )
                return
        for key, problem, hint in _misfits(contract.parameters, members):
            near = suggest(self.findings, key, _properties(contract.parameters)) if problem == UNKNOWN else ""
            self._argument(contract, key, problem, near or hint, node, path)

    def _check_method(self, contract: ToolContract, members: dict[str, Value], node: MapNode, path: str) -> None:
        method = members.get("method")
        if not isinstance(method, Lit) or not isinstance(method.value, str):
            return
        if contract.effect is ToolEffect.READ and method.value.upper() not in SAFE_METHODS:
            problem = f"is {method.value}, but the tool counts as reading, so that its calls may be repeated"
            self._argument(contract, "method", problem, "give the tool `effect: write`", node, path)

    def _argument(self, contract: ToolContract, key: str, problem: str, hint: str, node: MapNode, path: str) -> None:
        entry = node.entry(key)
        at = node.position if entry is None else entry.key_position
        message = f"the argument '{key[:60]}' of the tool '{contract.name}' {problem}"
        self.findings.error(codes.BAD_ARGUMENTS, message, at, path=f"{path}.{key[:60]}", hint=hint)


def is_literal(name: NameSpec, what: str, path: str, findings: Findings) -> bool:
    """Return whether a name is written out, and report it if it would have to be computed."""
    if not mark_length(name.text) and not is_template(name.text):
        return True
    findings.error(
        codes.NOT_LITERAL,
        f"the name of a {what} must be written out, it cannot be computed",
        name.position,
        path=path,
        hint="choose between several steps with `if`",
    )
    return False


def _api_call_contract(spec: ToolSpec) -> ToolContract:
    effect = spec.effect
    if effect is None:
        effect = ToolEffect.READ if spec.spec.get("method") in SAFE_METHODS else ToolEffect.WRITE
    default = ToolContract(spec.name.text, "api_call")
    return ToolContract(
        name=spec.name.text,
        type="api_call",
        parameters=None if spec.parameters is None else spec.parameters.value,
        effect=effect,
        idempotent=spec.idempotent or False,
        description=spec.description or "",
        timeout_s=default.timeout_s if spec.timeout_s is None else spec.timeout_s,
        spec=spec.spec if spec.answer is None else {**spec.spec, "schema": spec.answer.value},
    )


def _function_contract(spec: ToolSpec) -> ToolContract:
    return ToolContract(
        name=spec.name.text,
        type="function",
        parameters=None if spec.parameters is None else spec.parameters.value,
        effect=ToolEffect.WRITE if spec.effect is None else spec.effect,
        idempotent=spec.idempotent or False,
        description=spec.description or "",
        # a client may take its time
        timeout_s=LONGEST_S if spec.timeout_s is None else spec.timeout_s,
    )


def _task_contract(spec: ToolSpec) -> ToolContract:
    return ToolContract(
        name=spec.name.text,
        type="task",
        # the input of a task is checked against the task's own schema, whatever is said here
        parameters={"type": "object"} if spec.parameters is None else spec.parameters.value,
        effect=ToolEffect.WRITE if spec.effect is None else spec.effect,
        idempotent=spec.idempotent or False,
        description=spec.description or "",
        # a child ends by its own limits
        timeout_s=LONGEST_S if spec.timeout_s is None else spec.timeout_s,
        spec=spec.spec,
    )


def offer(name: str, description: str, parameters: Json) -> dict[str, Any]:
    """Return {type: function, function: {name, description?, parameters}}."""
    function: dict[str, Any] = {"name": name}
    if description:
        function["description"] = description
    function["parameters"] = NO_PARAMETERS if parameters is None else parameters
    return {"type": "function", "function": function}


def _misfits(schema: Json, members: dict[str, Value]) -> Iterator[tuple[str, str, str]]:
    """Yield (argument, problem, hint) for what no computed value could mend."""
    if not isinstance(schema, dict):
        return
    properties = _properties(schema)
    for key in schema.get("required", ()):
        if key not in members:
            yield key, "is missing", ""
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    for key, value in members.items():
        if key not in properties:
            if closed and "$ref" not in schema:
                yield key, UNKNOWN, _listing(properties)
        elif isinstance(value, Lit):
            yield from (
                (key, f"does not fit: {problem}", "") for problem in _problems(schema, properties[key], value.value)
            )
        elif (made := _made(value)) and _type_of(properties[key]) not in (None, made[0]):
            yield key, f"is {made[1]}, but must be of type {_type_of(properties[key])}", made[2]


def _made(value: Value) -> tuple[str, str, str] | None:
    """Return type, description and remedy of what a computed value always is, or None if that depends."""
    match value:
        case Obj():
            return "object", "an object", ""
        case Arr():
            return "array", "a list", ""
        case Tmpl():
            return "string", "a template, whose result is always text", "an expression keeps its type: `$ …`"
        case _:
            return None


def _problems(schema: dict[str, Any], part: Json, value: Json) -> list[str]:
    alone: dict[str, Any] = {"allOf": [part]}
    for key in ("$defs", "definitions"):
        if key in schema:
            alone[key] = schema[key]
    if not _refers_only_to(part, tuple(f"#/{key}/" for key in alone if key != "allOf")):
        return []
    return [problem.removeprefix("value: ") for problem in value_problems(value, alone)]


def _refers_only_to(node: Json, heads: tuple[str, ...]) -> bool:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and not reference.startswith(heads):
            return False
        return "$dynamicRef" not in node and all(_refers_only_to(item, heads) for item in node.values())
    if isinstance(node, list):
        return all(_refers_only_to(item, heads) for item in node)
    return True


def _type_of(schema: Json) -> str | None:
    kind = schema.get("type") if isinstance(schema, dict) else None
    return kind if isinstance(kind, str) else None


def _properties(schema: Json) -> dict[str, Any]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _listing(properties: dict[str, Any]) -> str:
    return f"it takes {', '.join(sorted(properties)[:20])}" if properties else "it takes no arguments"
