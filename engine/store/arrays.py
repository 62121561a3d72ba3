"""Loads numpy when it is first needed, with one thread."""

from __future__ import annotations

import os
from types import ModuleType


def load_numpy() -> ModuleType:
    """Return numpy.

    A tenth of a second and twenty megabytes that most processes never need. One thread, unless the operator says
    otherwise: the threads of its libraries wait for each other on a machine that has more to do, which took fifty times
    as long on two busy processors.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    import numpy

    return numpy
