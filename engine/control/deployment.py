"""Gives Temporal workers a version, if the settings want workers to have versions."""

from __future__ import annotations

from typing import Any

from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import WorkerDeploymentConfig

from engine import __version__
from engine.core.errors import InvalidInput
from engine.settings import Settings


def deployment_of(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `temporalio.worker.Worker` that give it a version; none if workers have no versions.

    Raises:
        InvalidInput: `config.deployment` if a version is set without the name of a deployment.
    """
    if not settings.deployment:
        if settings.build_id or settings.versioning == "pinned":
            raise InvalidInput(
                "EVERSTEP_BUILD_ID and EVERSTEP_VERSIONING mean nothing without EVERSTEP_DEPLOYMENT",
                code="config.deployment",
                hint="set EVERSTEP_DEPLOYMENT to a name that all builds of these workers share, such as everstep",
            )
        return {}
    pinned = settings.versioning == "pinned"
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(settings.deployment, settings.build_id or __version__),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED if pinned else VersioningBehavior.AUTO_UPGRADE,
    )
    return {"deployment_config": config}
