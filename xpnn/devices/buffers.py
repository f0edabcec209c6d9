"""Arrays as memory: their addresses, and overwriting them."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.devices.libraries import library_of_array


def address_of(x: Array) -> int:
    """Return the address of the first element of an array, on the host or on its device.

    Parameters
    ----------
    x : array
        An array of any library.

    Returns
    -------
    int
        The address.
    """
    return library_of_array(x).address(x)


def memory_fingerprint(arrays: Tree) -> list[Any]:
    """Return which memory these arrays use, and how it is read.

    Parameters
    ----------
    arrays : Tree
        Arrays of one library.

    Returns
    -------
    list
        Address, shape, dtype and strides of each; equal if a recording of the one serves for the other.
    """
    leaves = tree.leaves(arrays)
    return [(address_of(x), tuple(x.shape), x.dtype, library_of_array(x).strides(x)) for x in leaves]


@dispatched
def copies(arrays: list[Array]) -> list[Array]:
    """Return a copy of each array, on the same device.

    Parameters
    ----------
    arrays : list of array
        Arrays of one library.

    Returns
    -------
    list of array
        The copies.
    """
    return [array_namespace(x).asarray(x, copy=True) for x in arrays]


@dispatched
def read_all(arrays: list[Array]) -> list[np.ndarray]:
    """Return arrays on the host. Waits for the device.

    Parameters
    ----------
    arrays : list of array
        Arrays of one library.

    Returns
    -------
    list of numpy.ndarray
        The values; they may share memory with the arrays: do not write to them.
    """
    return library_of_array(arrays[0]).all_to_numpy(arrays)


@dispatched
def write_all(buffers: list[Array], values: list[np.ndarray]) -> None:
    """Copy each value from the host into its buffer.

    Parameters
    ----------
    buffers : list of array
        Arrays of one library.
    values : list of numpy.ndarray
        A value has the shape and dtype of its buffer.
    """
    for buffer, value in zip(buffers, values, strict=True):
        library_of_array(buffer).write(value, buffer)


@dispatched
def overwrite(buffers: list[Array], values: list[Array]) -> None:
    """Copy each value into its buffer.

    Parameters
    ----------
    buffers, values : list of array
        A value has the shape and dtype of its buffer, and overlaps no other buffer.
    """
    for old, new in zip(buffers, values, strict=True):
        old[...] = new
