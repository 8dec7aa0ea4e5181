"""Quantiles of what was measured, which may be nothing."""

from collections.abc import Sequence

import numpy as np


def quantile(values: Sequence[float], q: float) -> float | None:
    """The value below which a share `q` of them lies, linearly between two; None of none."""
    return float(np.quantile(values, q)) if values else None
