"""Users, projects, tools of agents, and what agents have beyond a model."""

from __future__ import annotations

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add them."""


def downgrade() -> None:
    """Take them away again."""
