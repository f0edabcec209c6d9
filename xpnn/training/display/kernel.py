"""Whether this process is the kernel of a notebook."""

from __future__ import annotations

import sys
from typing import Any


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return getattr(_shell(), "kernel", None) is not None


def cell() -> int | None:
    """Return the number of the cell that is being executed; None if this is no notebook."""
    return _shell().execution_count if is_notebook() else None


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
