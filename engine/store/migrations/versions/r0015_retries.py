"""Requests that clients repeat without a key."""

from __future__ import annotations

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add them."""


def downgrade() -> None:
    """Take them away again."""
