"""What operators write Python tools with: the `@tool` decorator, its context, and a set of tools."""

from __future__ import annotations

from engine.tooling.catalog import ToolCatalog
from engine.tooling.definition import Effect, Tool, ToolContext, tool

__all__ = ["Effect", "Tool", "ToolCatalog", "ToolContext", "tool"]
