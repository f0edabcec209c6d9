"""What Parquet and Arrow files declare, checked before a library allocates memory for it.

polars believes the sizes that these files declare, and ends the whole process if it gets no memory for them.

stored.py   the columns of a large file, in a temporary file
scratch.py  that file
"""

from __future__ import annotations

from xpnn.data.columnar.arrow import check_arrow
from xpnn.data.columnar.parquet import check_parquet

__all__ = ["check_arrow", "check_parquet"]
