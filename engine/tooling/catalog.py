"""The operator's tools by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.core.errors import InvalidInput
from engine.core.plan.ir import ToolContract
from engine.tooling.definition import Tool


@dataclass(frozen=True)
class ToolCatalog:
    """The operator's tools by name; a value that is built at start and passed on.

    Attributes:
        tools: Those in Python.
        others: Contracts of those that adapters of the worker call, such as integrations.
        sources: Name and file of the module where each of those in Python was found.
        rules: What everstep.toml says of those in Python, by name: members of their contracts.
    """

    tools: Mapping[str, Tool[..., Any]] = field(default_factory=dict)
    others: Mapping[str, ToolContract] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", MappingProxyType(dict(self.tools)))
        object.__setattr__(self, "others", MappingProxyType(dict(self.others)))

    @classmethod
    def of(cls, *tools: Tool[..., Any]) -> ToolCatalog:
        """Return a catalog of these tools.

        Raises:
            InvalidInput: `config.duplicate_tool` if two of them have one name.
        """
        by_name: dict[str, Tool[..., Any]] = {}
        for item in tools:
            if by_name.setdefault(item.name, item) is not item:
                raise InvalidInput(f"two tools are called '{item.name}'", code="config.duplicate_tool")
        return cls(by_name)

    def with_tools(self, tools: Iterable[Tool[..., Any]]) -> ToolCatalog:
        """Return a catalog that has these Python tools as well; they win over others of their names."""
        return dataclasses.replace(self, tools={**self.tools, **{tool.name: tool for tool in tools}})

    def get(self, name: str) -> Tool[..., Any] | None:
        """Return the Python tool of that name, or None."""
        return self.tools.get(name)

    def contracts(self) -> dict[str, ToolContract]:
        """Return the contracts of all tools by name."""
        own = {
            name: dataclasses.replace(item.contract(), **self.rules.get(name, {})) for name, item in self.tools.items()
        }
        return {**self.others, **own}

    def source_of(self, name: str) -> tuple[str, str]:
        """Return name and file of the module where a Python tool is found again by another process.

        Raises:
            KeyError: If there is no such tool.
        """
        if name in self.sources:
            return self.sources[name]
        function = self.tools[name].function
        return function.__module__, str(getattr(function, "__globals__", {}).get("__file__", ""))
