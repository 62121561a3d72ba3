"""Reading members and items: keys of the data, listed fields and methods, nothing else of a value. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, NoReturn

from engine.core.errors import ExpressionError
from engine.core.lang.containers import check_key
from engine.core.lang.context import Frame
from engine.core.lang.dates import DATE_FIELDS, DAY_FIELDS, DURATION_FIELDS
from engine.core.lang.failures import fail, no_key, suggest, type_name, wrong_type
from engine.core.lang.functions import Function, Module
from engine.core.lang.methods import methods_of
from engine.core.lang.secret import SecretNames


def read_attribute(value: Any, name: str) -> Any:
    """Return the member of a value that is not a plain object with that key.

    Raises:
        ExpressionError: `expression.no_key` or `expression.no_attribute`.
    """
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        if name in methods_of(value):
            raise fail("no_key", f"the object has no key '{name}'", f"for the method write .{name}()")
        raise no_key(name, value)
    if type(value) is SecretNames:
        return value.read(name)
    if type(value) is Module:
        if name in value.members:
            return value.members[name]
        raise fail("no_attribute", f"{value.name} has no member '{name}'", suggest(name, value.members))
    if isinstance(value, dt.datetime) and name in DATE_FIELDS:
        return getattr(value, name)
    if type(value) is dt.date and name in DAY_FIELDS:
        return getattr(value, name)
    if isinstance(value, dt.timedelta) and name in DURATION_FIELDS:
        return getattr(value, name)
    if value is None:
        raise fail("no_attribute", f"cannot read '.{name}' of null", "test for null first, or use get(value, path)")
    methods = methods_of(value)
    hint = f"it is a method: write .{name}()" if name in methods else suggest(name, methods)
    raise fail("no_attribute", f"{type_name(value)} has no member '{name}'", hint)


def read_item(frame: Frame, value: Any, index: Any) -> Any:
    """Return `value[index]` for what is not the plain case."""
    if isinstance(value, Mapping):
        check_key(index, len(value), frame.fuel)
        if index in value:
            return value[index]
        raise no_key(index, value)
    if isinstance(value, (list, tuple, str, range)):
        if not isinstance(index, int):
            hint = "the value is a list; take one item first" if isinstance(index, str) else ""
            raise wrong_type(f"{type_name(value)} takes a whole number in [], not {type_name(index)}", hint)
        return value[index]
    if type(value) is SecretNames:
        return value.read(index)
    if value is None:
        raise wrong_type("cannot read an item of null", "test for null first, or use get(value, path)")
    raise wrong_type(f"{type_name(value)} has no items to read by []")


def raise_index(value: Any, index: Any, offset: int) -> NoReturn:
    """Raise the error of an index outside of a list or text."""
    size = len(value)
    what = "characters" if isinstance(value, str) else "items"
    raise fail("no_index", f"there is no item {index}: {type_name(value)} has {size} {what}", "", offset)


def module_function(module: Module, name: str) -> Function:
    """Return a function of a module, or what a call of the module in it does."""
    member = module.members.get(name)
    if type(member) is Module and member.call is not None:
        return member.call
    if type(member) is Function:
        return member
    if member is not None:
        raise wrong_type(f"{module.name}.{name} is a value, not a function", "write it without ()")
    raise fail("unknown_function", f"unknown function '{module.name}.{name}'", suggest(name, module.members))


def no_method(value: Any, name: str) -> ExpressionError:
    """Return the error of a method that a value does not have; the caller raises it."""
    if isinstance(value, Mapping) and name in value:
        return wrong_type(f"'{name}' is data, not a function", "write it without ()")
    methods = methods_of(value)
    if name == "format" and isinstance(value, str):
        return fail("no_method", "text has no method 'format'", 'use an f-string: f"{value}"')
    if name in ("encode", "decode") and isinstance(value, str):
        hint = "leave it out: there are no bytes here, base64 takes and gives text"
        return fail("no_method", f"text has no method '{name}'", hint)
    if name in ("append", "extend", "insert", "pop", "update", "sort", "remove", "add", "clear", "setdefault"):
        return fail(
            "no_method", f"{type_name(value)} cannot be changed by '{name}'", "build a new value: [*a, b], {**a}"
        )
    return fail("no_method", f"{type_name(value)} has no method '{name}'", suggest(name, methods))
