"""Data sets by name, and readers for files from untrusted sources. No file is ever unpickled."""

from xpnn.data.datasets import Dataset, load, read_samples
from xpnn.data.files import read_bytes, read_idx, read_npy
from xpnn.data.frame import Frame
from xpnn.data.readers import read_frame
from xpnn.data.schema import Schema
from xpnn.data.splits import stratified_split
from xpnn.data.tables import Table, read_csv
from xpnn.data.tabular import TableOptions
from xpnn.data.target import Target

__all__ = [
    "Dataset",
    "Frame",
    "Schema",
    "Table",
    "TableOptions",
    "Target",
    "load",
    "read_bytes",
    "read_csv",
    "read_frame",
    "read_idx",
    "read_npy",
    "read_samples",
    "stratified_split",
]
