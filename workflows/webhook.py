"""The workflow of one delivery to a webhook: an activity that is repeated, and a last word. Workflow-safe."""

from __future__ import annotations

from datetime import timedelta

from engine.core.contracts.doors import GIVE_UP_ACTIVITY, POST_ACTIVITY, WEBHOOK_WORKFLOW, WebhookParams
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

ATTEMPT_TIMEOUT = timedelta(seconds=40)
"""Longer than the activity itself waits for a receiver; only a lost worker takes so long."""


@workflow.defn(name=WEBHOOK_WORKFLOW)
class WebhookWorkflow:
    """Makes one delivery."""

    @workflow.run
    async def run(self, params: WebhookParams) -> str:
        """Deliver, or give up.

        Args:
            params: The delivery.

        Returns:
            `delivered` or `failed`.
        """
        try:
            state: str = await workflow.execute_activity(
                POST_ACTIVITY,
                params,
                result_type=str,
                start_to_close_timeout=ATTEMPT_TIMEOUT,
                schedule_to_close_timeout=timedelta(seconds=params.give_up_s),
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(seconds=params.first_pause_s),
                    backoff_coefficient=3.0,
                    maximum_interval=timedelta(seconds=params.most_pause_s),
                    maximum_attempts=params.most_attempts,
                ),
                summary=params.delivery_id,
            )
            return state
        except ActivityError:
            await workflow.execute_activity(
                GIVE_UP_ACTIVITY,
                params,
                start_to_close_timeout=timedelta(seconds=30),
                summary="say that it is given up",
            )
            return "failed"
