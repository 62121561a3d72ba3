"""Files, and what documents and secrets have beyond their text."""

from __future__ import annotations

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add them."""


def downgrade() -> None:
    """Take them away again."""
