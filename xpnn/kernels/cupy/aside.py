"""Work beside the main stream, while steps are recorded: the graph runs it at the same time as what follows.

The results may be read after `joined`, which `Sequential.backward` and the training step call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from xpnn.devices.libraries.cupy import side_stream
from xpnn.nn.fused import joined


@contextlib.contextmanager
def aside(*arrays: Any) -> Iterator[None]:
    """Run the launches within beside those that follow, if steps are recorded.

    Parameters
    ----------
    *arrays : array
        What the launches read. Their memory is not given to other arrays before `joined`.
    """
    side = side_stream()
    if side is None:
        yield
        return
    with side.forked(arrays):
        yield


@joined.kernel("cupy")
def _joined(x: Any) -> Any:
    side = side_stream()
    if side is not None:
        side.join()
    return x
