"""What the figures of docs/mathematics/ show: numbers that xpnn's own forward and backward passes return.

`FIGURES` has a function for each figure, by the name of its file. `draw_mathematics.py` draws them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from mathematics_figures import initial_weights, layers, losses, optimizers
from mathematics_figures.panels import Panel

FIGURES: dict[str, Callable[[], list[Panel]]] = {
    **layers.FIGURES,
    **losses.FIGURES,
    **optimizers.FIGURES,
    **initial_weights.FIGURES,
}


@functools.cache
def panels(name: str) -> list[Panel]:
    """What the figure of this name shows."""
    return FIGURES[name]()
