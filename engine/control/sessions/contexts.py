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
            The most that any takes who may answer, since the call goes to one of those for which it is not too long;
            None = one of them may take more than anybody knows.
        """
        found = await self._default() if not model else await self._named(model)
        known = [sight.capabilities.context for sight in found]
        return None if None in known else max((length for length in known if length is not None), default=None)

    async def _default(self) -> list[ModelSight]:
        first = next(iter(await self._models.backends()), None)
        sights = [] if first is None else await self._models.sights(first)
        return [sight for sight in sights[:1] if sight.declared]

    async def _named(self, model: str) -> list[ModelSight]:
        registry = await self._models.registry.registry()
        groups = {name: declared.group for name, declared in registry.groups.items()}
        return called(model, await self._models.sights(), groups)


def called(model: str, sights: Sequence[ModelSight], groups: Mapping[str, Group]) -> list[ModelSight]:
    """Return the models that may answer for a name.

    Args:
        model: Name of a model, `BACKEND/MODEL`, or a group.
        sights: All models.
        groups: Names for several models.
    """
    names = set(groups[model].models) if model in groups else {model}
    return [sight for sight in sights if names & {sight.model, f"{sight.backend.name}/{sight.model}"}]
