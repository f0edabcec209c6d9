"""Data sets by name, and readers for files from untrusted sources. No file is ever unpickled."""

from xpnn.data.datasets import Dataset, load, read_features, read_labelled
from xpnn.data.files import read_bytes, read_idx, read_npy
from xpnn.data.splits import stratified_split
from xpnn.data.tables import Table, read_csv

__all__ = [
    "Dataset",
    "Table",
    "load",
    "read_bytes",
    "read_csv",
    "read_features",
    "read_idx",
    "read_labelled",
    "read_npy",
    "stratified_split",
]
