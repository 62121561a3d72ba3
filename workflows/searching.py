"""The workflows of what the API is asked for and only workers can do: searches by meaning, vectors. Workflow-safe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from engine.core.contracts.lookups import (
    EMBED_ACTIVITY,
    EMBED_WORKFLOW,
    SEARCH_ACTIVITY,
    SEARCH_WORKFLOW,
    EmbedParams,
    SearchParams,
)
from temporalio import workflow
from temporalio.common import RetryPolicy

POSTPONED_PAUSE = timedelta(seconds=1)


@workflow.defn(name=SEARCH_WORKFLOW)
class SearchWorkflow:
    """Makes one search."""

    @workflow.run
    async def run(self, params: SearchParams) -> dict[str, Any]:
        """Search, and be done with it: whoever asked waits, and asks again if it failed.

        Args:
            params: What is looked for.

        Returns:
            A LookupResult as JSON.
        """
        return await _looked_up(SEARCH_ACTIVITY, params, "search documents")


@workflow.defn(name=EMBED_WORKFLOW)
class EmbedWorkflow:
    """Turns some texts into vectors."""

    @workflow.run
    async def run(self, params: EmbedParams) -> dict[str, Any]:
        """Make the vectors, and be done with it, as with a search.

        Args:
            params: The texts.

        Returns:
            A LookupResult as JSON.
        """
        return await _looked_up(EMBED_ACTIVITY, params, "make vectors")


async def _looked_up(activity: str, params: SearchParams | EmbedParams, summary: str) -> dict[str, Any]:
    found: dict[str, Any] = await workflow.execute_activity(
        activity,
        params,
        result_type=dict,
        # a model that must wait for its turn is asked when it has come
        schedule_to_close_timeout=timedelta(seconds=params.timeout_s),
        retry_policy=RetryPolicy(initial_interval=POSTPONED_PAUSE),
        summary=summary,
    )
    return found
