"""The workflow of one search that the API was asked for: words get their meaning from a model. Workflow-safe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from engine.core.contracts.lookups import SEARCH_ACTIVITY, SEARCH_WORKFLOW, SearchParams
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
        found: dict[str, Any] = await workflow.execute_activity(
            SEARCH_ACTIVITY,
            params,
            result_type=dict,
            # a model that must wait for its turn is asked when it has come
            schedule_to_close_timeout=timedelta(seconds=params.timeout_s),
            retry_policy=RetryPolicy(initial_interval=POSTPONED_PAUSE),
            summary="search documents",
        )
        return found
