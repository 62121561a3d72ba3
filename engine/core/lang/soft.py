"""Operands of templates that may be missing: behind `default` and `defined` they are UNSET. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from engine.core.errors import ExpressionError
from engine.core.lang.access import read_attribute, read_item
from engine.core.lang.containers import check_key
from engine.core.lang.context import UNSET, Frame, Run
from engine.core.lang.failures import CAUGHT, blame
from engine.core.lang.filters import MISSING_CODES
from engine.core.lang.functions import Module
from engine.core.lang.secret import SecretNames


def forgiving(strict: Run) -> Run:
    """Return a closure that gives UNSET where the strict one finds no key, member or item."""

    def run(frame: Frame) -> Any:
        try:
            return strict(frame)
        except ExpressionError as error:
            if error.code in MISSING_CODES:
                return UNSET
            raise

    return run


def or_empty(soft: Run) -> Run:
    """Return a closure that gives empty text where the soft one gives UNSET."""

    def run(frame: Frame) -> Any:
        value = soft(frame)
        return "" if value is UNSET else value

    return run


def soft_attribute(base: Run, name: str) -> Run:
    """Return the closure of `base.name` that gives UNSET if it is missing; no error is built on the way."""

    def run(frame: Frame) -> Any:
        value = base(frame)
        if isinstance(value, Mapping):
            return value.get(name, UNSET)
        if isinstance(value, (Module, SecretNames, dt.date, dt.timedelta)):
            return read_attribute(value, name)
        return UNSET

    return forgiving(run)


def soft_item(base: Run, key: Run, offset: int) -> Run:
    """Return the closure of `base[key]` that gives UNSET if it is missing."""

    def run(frame: Frame) -> Any:
        value = base(frame)
        if value is UNSET or value is None:
            return UNSET
        try:
            wanted = key(frame)
            if isinstance(value, Mapping):
                return value.get(check_key(wanted, len(value), frame.fuel), UNSET)
            return read_item(frame, value, wanted)
        except IndexError:
            return UNSET
        except CAUGHT as error:
            blame(error, offset)

    return forgiving(run)
