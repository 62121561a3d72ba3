"""Sessions, their entries and their turns."""

from __future__ import annotations

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add them."""


def downgrade() -> None:
    """Take them away again."""
