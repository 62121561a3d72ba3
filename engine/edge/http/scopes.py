"""Which scope each route needs, read off the routes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from engine.edge.http.callers import SCOPES, CallerScope, Require


@dataclass(frozen=True, slots=True)
class RouteNeed:
    """What a route needs.

    Attributes:
        path: Its path as it is written, such as `/api/tasks/{task_id}`.
        pattern: Matches the paths of requests.
        methods: Its HTTP methods.
        scopes: The scopes that it names, from the weakest.
    """

    path: str
    pattern: re.Pattern[str]
    methods: frozenset[str]
    scopes: tuple[CallerScope, ...]

    @property
    def scope(self) -> CallerScope | None:
        """The scope that a caller must have; None = the route names none."""
        return self.scopes[-1] if self.scopes else None


def route_needs(app: FastAPI) -> list[RouteNeed]:
    """Return what every route of an app needs, in the order in which they are tried."""
    needs: list[RouteNeed] = []
    for route in iter_route_contexts(app.routes):
        if route.path is None or not route.methods:
            continue
        dependant = getattr(route, "dependant", None)
        named = set(_named(dependant)) if isinstance(dependant, Dependant) else set()
        scopes = tuple(scope for scope in SCOPES if scope in named)
        needs.append(RouteNeed(route.path, route.path_regex, frozenset(route.methods), scopes))
    return needs


def scope_for(needs: list[RouteNeed], method: str, path: str) -> CallerScope | None:
    """Return the scope that a request needs; None if no route serves it, or one that names no scope."""
    for need in needs:
        if method in need.methods and need.pattern.match(path):
            return need.scope
    return None


def _named(dependant: Dependant) -> Iterator[CallerScope]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, Require):
            yield inner.call.scope
        yield from _named(inner)
