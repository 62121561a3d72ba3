"""Values of a plan that are computed when a step runs: literals, expressions, templates. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from engine.core.values import Json


@dataclass(frozen=True, slots=True)
class Lit:
    """A literal JSON value."""

    value: Json
    t: Literal["lit"] = "lit"


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression; keeps the type of its result. `source` stands without the `$ ` mark."""

    source: str
    t: Literal["expr"] = "expr"


@dataclass(frozen=True, slots=True)
class Tmpl:
    """A template with `{{ }}` or `{% %}`; its result is always text."""

    source: str
    t: Literal["tmpl"] = "tmpl"


@dataclass(frozen=True, slots=True)
class Obj:
    """An object of which at least one member is computed."""

    items: dict[str, Value]
    t: Literal["obj"] = "obj"


@dataclass(frozen=True, slots=True)
class Arr:
    """A list of which at least one item is computed."""

    items: tuple[Value, ...]
    t: Literal["arr"] = "arr"


Value = Annotated[Lit | Expr | Tmpl | Obj | Arr, Field(discriminator="t")]
