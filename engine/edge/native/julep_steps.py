"""Tells steps and tools in the shapes that the types of Julep's SDK take, also those that these have no place for.

Their types want one step where several may stand, `_` as the only case of a `switch`, objects where an expression may
stand, and know none of our own kinds. Such a step is told whole, with a member beside it that makes it one of theirs;
`told_as` names that member, and who reads a task leaves both out (engine.core.spec.dialects.julep).
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from engine.core.spec.dialects.julep import TOLD_AS, WRAPPERS
from engine.core.spec.vocabulary import MARKERS

Step = dict[str, Any]

TOOL_TYPES: Final = (
    "function",
    "api_call",
    "system",
    "integration",
    "computer_20241022",
    "text_editor_20241022",
    "bash_20241022",
)
"""The types of tools that Julep has; each is also the key of what defines such a tool."""
_SETUP: Final = MappingProxyType[str, tuple[str, ...]](
    {
        "dummy": (),
        "wikipedia": (),
        "arxiv": (),
        "brave": ("brave_api_key",),
        "weather": ("openweathermap_api_key",),
        "email": ("host", "port", "user", "password"),
    }
)
"""The providers that they know too, and what their types want of a `setup`."""
_MAPPABLE: Final = frozenset({"evaluate", "tool_call", "prompt", "get", "set", "log", "yield"})
_IN_FOREACH: Final = _MAPPABLE | {"wait_for_input"}


def step_view(step: Any) -> Step:
    """Return a step with its kind, and the steps inside it, as their types take them.

    Args:
        step: The step as its author wrote it.
    """
    if not isinstance(step, dict):
        return _beside({"value": step})
    plain = _unwrapped(_as_written(step))
    kind = _kind_of(plain)
    told = _inside(plain, kind)
    label = plain.get("label")
    fits = _FITS.get(kind)
    if fits is None or not fits(told) or not (label is None or isinstance(label, str)):
        return _beside(told)
    return {**told, "kind_": kind}


def legacy_view(step: Any) -> Step:
    """Return a step as the client of 2024 takes it: with `kind_`, and `info` of a wait beside it."""
    told = step_view(step)
    kind = told.get("kind_") or _kind_of(told)
    if kind in ("tool_call", "yield"):
        told = {"arguments": "_", **told}
    elif kind == "prompt":
        told = {"settings": {}, **told}
    elif kind == "wait_for_input" and isinstance(told.get("wait_for_input"), dict):
        told = {"info": told["wait_for_input"].get("info") or {}, **told}
    return {**told, "kind_": kind}


def tool_view(tool: Any) -> dict[str, Any]:
    """Return a tool as their types take it; one of our own kinds is told as a function beside its definition.

    Args:
        tool: The tool as its author wrote it.
    """
    if not isinstance(tool, dict):
        return {"name": "", "type": "function", "definition": tool}
    kind = tool.get("type") or next((key for key in TOOL_TYPES if key in tool), "python")
    told = {**tool, "type": kind}
    if kind == "api_call" and isinstance(tool.get("api_call"), dict):
        call = {"method": "GET", **tool["api_call"]}
        if isinstance(call.get("timeout"), (int, type(None))):
            return {**told, "api_call": call}
    elif kind == "integration":
        if _is_integration(tool.get("integration")):
            return told
    elif kind in TOOL_TYPES:
        return told
    function = {key: tool[key] for key in ("name", "description", "parameters") if key in tool}
    return {"name": str(tool.get("name", "")), "type": "function", "function": function, "definition": tool}


# --- what stands inside of a step ----------------------------------------------------------------------------------


def _one(value: Any) -> Step:
    """Return one or several steps as one."""
    if isinstance(value, dict) and value.get(TOLD_AS) == "steps":
        value = value.get("steps")
    if not isinstance(value, list):
        return step_view(value)
    steps = [step_view(item) for item in value]
    return steps[0] if len(steps) == 1 else _beside({"steps": steps}, "steps")


def _only(value: Any, kinds: frozenset[str]) -> Step:
    told = _one(value)
    if told.get("kind_") in kinds or TOLD_AS in told:
        return told
    return _beside({name: item for name, item in told.items() if name != "kind_"})


def _inside(step: Step, kind: str) -> Step:
    told = {name: value for name, value in step.items() if name != "kind_"}
    if kind == "if_else":
        told |= {key: _one(step[key]) for key in ("then", "else") if step.get(key) is not None}
    elif kind == "switch" and isinstance(step.get("switch"), list):
        told["switch"] = [{**case, "then": _one(case.get("then"))} for case in step["switch"] if isinstance(case, dict)]
    elif kind == "foreach" and isinstance(step.get("foreach"), dict):
        told["foreach"] = {**step["foreach"], "do": _only(step["foreach"].get("do"), _IN_FOREACH)}
    elif kind == "map_reduce":
        told["map"] = _only(step.get("map"), _MAPPABLE)
    elif kind == "parallel" and isinstance(step.get("parallel"), list):
        told["parallel"] = [_only(item, _MAPPABLE) for item in step["parallel"]]
    elif kind == "prompt" and isinstance(step.get("tools"), list):
        told["tools"] = [
            {"ref": {"name": item}} if isinstance(item, str) else item if "ref" in item else tool_view(item)
            for item in step["tools"]
        ]
    elif kind == "wait_for_input" and "wait_for_input" not in step:
        told["wait_for_input"] = {"info": told.pop("info", None)}
    return told


def _beside(step: Step, marker: str = "") -> Step:
    """Return a step with the member that makes it one of theirs."""
    name, value = ("evaluate", {}) if "evaluate" not in step else ("log", "")
    return {**step, name: value, TOLD_AS: marker or name}


def _as_written(step: Step) -> Step:
    """Return a step that was sent back as we told it without what we put beside it."""
    left_out = (TOLD_AS, step.get(TOLD_AS))
    return {name: value for name, value in step.items() if name not in left_out}


def _unwrapped(step: Step) -> Step:
    """Lift `{tool_call: {tool: x, …}}` and the like."""
    for wrapper, marker in WRAPPERS.items():
        inner = step.get(wrapper)
        if inner is None or marker in step:
            continue
        outer = {name: value for name, value in step.items() if name != wrapper}
        return {**outer, **inner} if isinstance(inner, dict) else {**outer, marker: inner}
    return step


def _kind_of(step: Step) -> str:
    named = step.get("kind_")
    return str(named or next((MARKERS[key].value for key in step if key in MARKERS), ""))


# --- what their types take -----------------------------------------------------------------------------------------


def _is_words(value: Any) -> bool:
    """Whether a value is an object of texts, of lists and objects of texts, or of lists of such objects."""
    return isinstance(value, dict) and all(_is_word(item) for item in value.values())


def _is_word(value: Any) -> bool:
    if isinstance(value, str):
        return True
    if isinstance(value, dict):
        return all(isinstance(item, str) for item in value.values())
    if isinstance(value, list):
        is_objects = all(isinstance(item, dict) and _is_word(item) for item in value)
        return is_objects or all(isinstance(item, str) for item in value)
    return False


def _text(*keys: str) -> Callable[[Step], bool]:
    return lambda step: all(isinstance(step.get(key), str) for key in keys)


def _is_prompt(step: Step) -> bool:
    prompt, choice = step.get("prompt"), step.get("tool_choice")
    is_messages = isinstance(prompt, list) and all(_is_message(item) for item in prompt)
    has_choice = choice in (None, "auto", "none") or isinstance(choice, dict)
    return (isinstance(prompt, str) or is_messages) and has_choice


def _is_message(item: Any) -> bool:
    roles = ("user", "assistant", "system", "tool")
    return isinstance(item, dict) and item.get("role") in roles and isinstance(item.get("content", ""), (str, list))


def _is_integration(value: Any) -> bool:
    # arguments that a definition gives are mostly some of those that their types want all of
    if not isinstance(value, dict) or value.get("provider") not in _SETUP or value.get("arguments"):
        return False
    setup = value.get("setup") or {}
    return not setup or all(name in setup for name in _SETUP[value["provider"]])


def _is_wait(step: Step) -> bool:
    wait = step.get("wait_for_input")
    return isinstance(wait, dict) and _is_words(wait.get("info"))


def _is_sleep(step: Step) -> bool:
    parts = step.get("sleep")
    return isinstance(parts, dict) and all(type(amount) is int for amount in parts.values())


def _is_switch(step: Step) -> bool:
    return all(case.get("case") == "_" for case in step["switch"])


def _is_map(step: Step) -> bool:
    return isinstance(step.get("over"), str) and isinstance(step.get("reduce") or "", str)


def _is_yield(step: Step) -> bool:
    arguments = step.get("arguments")
    return isinstance(step.get("workflow"), str) and (arguments in (None, "_") or _is_words(arguments))


_FITS: Final = MappingProxyType[str, Callable[[Step], bool]](
    {
        "evaluate": lambda step: isinstance(step.get("evaluate"), dict),
        "tool_call": _text("tool"),
        "prompt": _is_prompt,
        "get": _text("get"),
        "set": lambda step: isinstance(step.get("set"), dict),
        "log": _text("log"),
        "yield": _is_yield,
        "return": lambda step: _is_words(step.get("return")),
        "sleep": _is_sleep,
        "error": _text("error"),
        "wait_for_input": _is_wait,
        "if_else": lambda step: isinstance(step.get("if"), str) and isinstance(step.get("then"), dict),
        "switch": _is_switch,
        "foreach": lambda step: isinstance(step["foreach"].get("in"), str),
        "parallel": lambda step: isinstance(step.get("parallel"), list),
        "map_reduce": _is_map,
    }
)
"""Whether a step of a kind, told in parts already, is what their type of that kind takes."""
