"""Shapes of answers about what is kept: purges, and payloads of the codec server; for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from engine.edge.native.answers import Answer, Paged

PLAIN: Final[dict[str, Any]] = {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "IkFkYSI="}]}
SEALED: Final[dict[str, Any]] = {
    "payloads": [{"metadata": {"encoding": "YmluYXJ5L2VuY3J5cHRlZA==", "everstep-key": "azE="}, "data": "nH2c…"}]
}


class KeptExecution(Answer):
    """An execution that was not purged."""

    id: str
    code: str = Field(description="execution.not_found, purge.filtered, purge.open or purge.child")
    message: str


class PurgeView(Paged):
    """What a purge did, or would do."""

    dry_run: bool
    purged: int = Field(description="How many were purged, or would be, with those that they started.")
    ids: list[str]
    pending: list[str] = Field(
        description="Those of `ids` whose histories or payloads are not all gone yet; the repair process finishes it."
    )
    kept: list[KeptExecution]


class PayloadView(Answer):
    """A payload in Temporal's JSON."""

    metadata: dict[str, str]
    data: str


class Payloads(Answer):
    """Payloads in Temporal's JSON."""

    payloads: list[PayloadView]
