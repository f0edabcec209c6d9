"""Data sets by name, and readers for files from untrusted sources. No file is ever unpickled."""

from xpnn.data.datasets import Dataset, load, read_samples
from xpnn.data.files import read_bytes, read_idx
from xpnn.data.frame import Frame
from xpnn.data.npy import read_npy
from xpnn.data.readers import read_frame
from xpnn.data.splits import stratified_split
from xpnn.data.tables.schema import Schema
from xpnn.data.tables.tabular import TableOptions
from xpnn.data.tables.target import Target

__all__ = [
    "Dataset",
    "Frame",
    "Schema",
    "TableOptions",
    "Target",
    "load",
    "read_bytes",
    "read_frame",
    "read_idx",
    "read_npy",
    "read_samples",
    "stratified_split",
]
