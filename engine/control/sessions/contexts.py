"""How much the models take that may answer in a session, as far as anybody knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.control.models import ModelService, ModelSight
from engine.settings import Group


class ContextLengths:
    """Knows how long prompt and reply of a model may be together.

    Args:
        models: The models of all backends.
    """

    def __init__(self, models: ModelService) -> None:
        self._models = models

    async def of(self, model: str) -> int | None:
        """Return how many tokens a model takes, with its reply.

        Args:
            model: Its name, or that of a group; empty = the default.

        Returns:
            The least of those who may answer; None = nobody knows.
        """
        registry = await self._models.registry.registry()
        groups = {name: declared.group for name, declared in registry.groups.items()}
        sights = asking(model, await self._models.sights(), groups)
        known = [sight.capabilities.context for sight in sights if sight.capabilities.context is not None]
        return min(known, default=None)


def asking(model: str, sights: Sequence[ModelSight], groups: Mapping[str, Group]) -> list[ModelSight]:
    """Return the models that may answer for a name.

    Args:
        model: Name of a model, `BACKEND/MODEL`, or a group; empty = the default, the first of all.
        sights: All models, those of the first backend first.
        groups: Names for several models.
    """
    if not model:
        return list(sights[:1])
    names = groups[model].models if model in groups else [model]
    return [sight for sight in sights if {sight.model, f"{sight.backend.name}/{sight.model}"} & set(names)]
