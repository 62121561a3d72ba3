"""Compiles what the handlers of a contenox chain do into ops. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.core.plan import chain_values as values
from engine.core.plan.computed import Arr, Expr, Lit, Obj, Value
from engine.core.plan.ir import ToolContract
from engine.core.plan.ops import EmbedOp, ErrorOp, EvaluateOp, ForeachOp, Op, PromptOp, SetOp, ToolCallOp
from engine.core.plan.policies import Modifiers
from engine.core.plan.toolbox import Toolbox
from engine.core.spec import codes
from engine.core.spec.dialects.contenox import PROMPTING, ChainSpec, ChainTaskSpec, Handler
from engine.core.spec.fields import suggest
from engine.core.spec.nodes import ScalarNode
from engine.core.spec.parts import NameSpec


def set_of(members: dict[str, Value]) -> SetOp:
    """Return the op that keeps variables."""
    return SetOp(values=Obj(members))


@dataclass(slots=True)
class HandlerCompiler:
    """Turns the handler of a task into ops; the first one's input is the task's.

    Attributes:
        chain: The chain.
        toolbox: Knows the operator's tools.
        template: Translates a Go template, given its node, its place and what the dot stands for.
        block: Adds an inner block and returns its number.
        tools: Contracts of the tools that were needed so far.
    """

    chain: ChainSpec
    toolbox: Toolbox
    template: Callable[[ScalarNode, str, str], Value]
    block: Callable[[str, list[Op]], int]
    tools: dict[str, ToolContract] = field(default_factory=dict)

    def ops(self, task: ChainTaskSpec) -> list[Op]:
        """Return what a task does between its input and its output; empty if it hands its input on."""
        if task.handler in PROMPTING:
            return [*self._ask(task), *_parsing(task)]
        match task.handler:
            case Handler.PARSE_KEY_VALUE:
                return [EvaluateOp(value=Expr(values.KEY_VALUES))]
            case Handler.RAISE_ERROR:
                return [ErrorOp(message=Expr(values.TEXT))]
            case Handler.MODEL_EXECUTION:
                return self._converse(task)
            case Handler.EXECUTE_TOOL_CALLS:
                return self._run_calls(task)
            case Handler.HOOK:
                return self._hook(task)
            case Handler.CONVERT:
                return [EvaluateOp(value=Expr(values.COMPLETION))]
            case Handler.EMBEDDING:
                embed = EmbedOp(text=Expr(values.TEXT), model=_model(task))
                return [embed, EvaluateOp(value=Expr("_.vectors[0]"))]
            case _:
                return []

    # --- models ---

    def _ask(self, task: ChainTaskSpec) -> list[Op]:
        user: Value = Obj({"role": Lit("user"), "content": Expr(values.TEXT)})
        system = [Lit({"role": "system", "content": task.system_instruction})] if task.system_instruction else []
        prompt = PromptOp(
            messages=Arr((*system, user)),
            model=_model(task),
            models=_models(task)[1:],
            settings=_settings(task),
            unwrap=True,
        )
        return [prompt, EvaluateOp(value=Expr("_.strip()"))]

    def _converse(self, task: ChainTaskSpec) -> list[Op]:
        kept: dict[str, Value] = {f"{task.id.text}:input": Expr("_")}
        if task.system_instruction:
            # a long instruction does not fit into an expression
            kept[f"{task.id.text}:system"] = Lit(task.system_instruction)
        history, *system = (f"state[{key!r}]" for key in kept)
        prompt = PromptOp(
            messages=Expr(values.model_messages(history, *system)),
            model=_model(task),
            models=_models(task)[1:],
            settings=_settings(task),
            tools=self._offered(task),
        )
        return [set_of(kept), prompt, EvaluateOp(value=Expr(values.with_reply(history)))]

    def _offered(self, task: ChainTaskSpec) -> tuple[dict[str, Any], ...]:
        hidden = set(task.execute.hide_tools)
        found: list[dict[str, Any]] = []
        for index, hook in enumerate(task.execute.hooks):
            path = f"{task.path}.execute_config.hooks[{index}]"
            for name in self._tools_of(hook, path):
                tool = None if name in hidden else self.toolbox.offered(NameSpec(name), path)
                if tool is not None:
                    found.append(tool)
        return tuple(found)

    def _tools_of(self, hook: NameSpec, path: str) -> list[str]:
        """Return the names of a service's tools, or none after saying that there is no such service."""
        names = [name for name in sorted(self.toolbox.contracts) if name.startswith(f"{hook.text}.")]
        if not names and path:
            known = {name.partition(".")[0] for name in self.toolbox.contracts if "." in name}
            self.toolbox.findings.error(
                codes.UNKNOWN_TOOL,
                f"the operator has no tools of a service '{hook.text[:60]}'",
                hook.position,
                path=path,
                hint=suggest(self.toolbox.findings, hook.text, known) or "a tool of it is named SERVICE.TOOL",
            )
        return names

    # --- tools ---

    def _hook(self, task: ChainTaskSpec) -> list[Op]:
        hook = task.hook
        if hook is None:
            return []
        name = f"{hook.name.text}.{hook.tool.text}"
        contract = self.toolbox.callable_tool(NameSpec(name, hook.tool.position), f"{task.path}.hook.tool_name")
        if contract is not None:
            self.tools[name] = contract
        arguments = Obj({"input": Expr("_"), **{key: Lit(text) for key, text in hook.args.items()}})
        ops: list[Op] = [ToolCallOp(tool=name, arguments=arguments)]
        if task.output_template is not None:
            ops.append(EvaluateOp(value=self.template(task.output_template, f"{task.path}.output_template", "_")))
        return ops

    def _run_calls(self, task: ChainTaskSpec) -> list[Op]:
        """Run the calls that the model asked for, one after another; which tools there are is known now."""
        services = sorted({hook.text for each in self.chain.tasks for hook in each.execute.hooks})
        names = [name for service in services for name in self._tools_of(NameSpec(service), "")]
        history, known, call = (f"state[{f'{task.id.text}:{part}'!r}]" for part in ("input", "tools", "call"))
        called = f"{call}.function.name"
        body: list[Op] = [
            set_of({f"{task.id.text}:call": Expr("_")}),
            ErrorOp(
                message=Expr(f"'the model called the tool ' + {called} + ', which it was not offered'"),
                mods=Modifiers(when=Expr(f"{called} not in {known}")),
            ),
        ]
        for name in names:
            contract = self.toolbox.contracts[name]
            self.tools[name] = contract
            arguments = Expr(f"load_json({call}.function.arguments)")
            body.append(ToolCallOp(tool=name, arguments=arguments, mods=Modifiers(when=Expr(f"{called} == {name!r}"))))
        message = f"{{'role': 'tool', 'content': dump_json(_), 'tool_call_id': get({call}, 'id', '')}}"
        body.append(EvaluateOp(value=Expr(message)))
        return [
            set_of({f"{task.id.text}:input": Expr("_"), f"{task.id.text}:tools": Lit(list(names))}),
            ForeachOp(items=Expr(values.CALLS.format(history=history)), do=self.block("do", body)),
            EvaluateOp(value=Expr(f"{{**{history}, 'messages': {history}.messages + _}}")),
        ]


def _models(task: ChainTaskSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(model.text for model in task.execute.models if model.text))


def _model(task: ChainTaskSpec) -> str:
    return next(iter(_models(task)), "")


def _settings(task: ChainTaskSpec) -> Lit:
    return Lit({} if task.execute.temperature is None else {"temperature": task.execute.temperature})


def _parsing(task: ChainTaskSpec) -> list[Op]:
    """Return what makes a value of the reply `_`, and fails if it is none."""
    match task.handler:
        case Handler.CONDITION_KEY:
            keys = list(task.valid_conditions)
            return [
                _refusal(f"_ not in {keys!r}", f" is none of {', '.join(keys)}"),
                EvaluateOp(value=Expr(f"{task.valid_conditions!r}[_]")),
            ]
        case Handler.PARSE_NUMBER:
            return [
                EvaluateOp(value=Expr(values.FIRST_NUMBER)),
                _failure(values.NO_WHOLE_NUMBER, "the reply holds no whole number"),
                EvaluateOp(value=Expr("int(float(_))")),
            ]
        case Handler.PARSE_SCORE:
            return [
                EvaluateOp(value=Expr(values.FIRST_NUMBER)),
                _failure("_ is null", "the reply holds no number"),
                EvaluateOp(value=Expr("float(_)")),
            ]
        case Handler.PARSE_RANGE:
            return [
                EvaluateOp(value=Expr(values.CLEAN)),
                _refusal(values.NO_RANGE, " is no range of two numbers"),
                EvaluateOp(value=Expr(values.AS_RANGE)),
            ]
        case _:
            return []


def _failure(when: str, message: str) -> ErrorOp:
    return ErrorOp(message=Lit(message), mods=Modifiers(when=Expr(when)))


def _refusal(when: str, message: str) -> ErrorOp:
    return ErrorOp(message=Expr(f"'the reply ' + dump_json(_[:100]) + {message!r}"), mods=Modifiers(when=Expr(when)))
