"""The names of devices, as in `--device`: "auto", "cpu", and the kinds of GPUs that the libraries use."""

from __future__ import annotations

from xpnn.devices.libraries import gpu_libraries, library
from xpnn.errors import InputError
from xpnn.validation import one_of


def parse_device(device: str) -> tuple[str, int]:
    """Split the name of a device.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N"}
        The name.

    Returns
    -------
    tuple of (str, int)
        "auto", "cpu" or "cuda", and the index.

    Raises
    ------
    InputError
        If this is not such a name.

    Examples
    --------
    >>> parse_device("cuda:1")
    ('cuda', 1)
    """
    kind, colon, index = device.partition(":")
    gpus = sorted({str(library(name).gpu_kind) for name in gpu_libraries()})
    names = ("auto", "cpu", *gpus)
    numbered = ", ".join((*names, *(f"{gpu}:N" for gpu in gpus)))
    if kind == "gpu":  # nearer to "cpu" in letters only
        raise InputError(f"device: {device!r} is not one of {numbered}; did you mean {gpus[0]!r}?")
    one_of("device", kind, names)
    if colon and (kind not in gpus or not index.isdecimal()):
        raise InputError(f"device: {device!r} is not one of {numbered} (N = 0, 1, …)")
    return kind, int(index or 0)
