"""The options of a search that are numbers, and their bounds. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

OPTION_BOUNDS: Final = MappingProxyType(
    {
        "limit": (1, 50),
        "confidence": (-1, 1),
        "alpha": (0, 1),
        "mmr_strength": (0, 1),
        "k_multiplier": (1, 100),
        "trigram_similarity_threshold": (0, 1),
    }
)
"""Both bounds are included."""
WHOLE_OPTIONS: Final = ("limit", "k_multiplier")
