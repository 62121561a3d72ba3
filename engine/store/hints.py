"""Lets statements name the index that SQLite shall use, which SQLAlchemy writes for other databases only."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.sqlite.base import SQLiteCompiler


class HintingCompiler(SQLiteCompiler):
    """Writes `with_hint(table, "INDEXED BY …", "sqlite")` behind the table."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        """Return what stands behind a table."""
        del table
        return text
