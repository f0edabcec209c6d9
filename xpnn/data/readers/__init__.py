"""Readers for files as people hold them: tables of mixed columns, arrays, and folders of images."""

from xpnn.data.readers.arrays import ArraySet, is_arrays, read_arrays
from xpnn.data.readers.frames import is_frame, read_frame
from xpnn.data.readers.images import ImageSet, is_image_folder, read_image_folder
from xpnn.data.readers.sources import is_pipe

__all__ = [
    "ArraySet",
    "ImageSet",
    "is_arrays",
    "is_frame",
    "is_image_folder",
    "is_pipe",
    "read_arrays",
    "read_frame",
    "read_image_folder",
]
