"""Whether a device can multiply matrices in a given precision."""

from __future__ import annotations

from xpnn.arrays.matmul import PRECISIONS
from xpnn.devices import driver
from xpnn.devices.place import Place
from xpnn.errors import DeviceUnavailableError, InputError
from xpnn.validation import one_of

_CAPABILITY = (8, 0)  # from Ampere on: NVIDIA, "CUDA C++ Programming Guide", arithmetic of compute capability 8.x


def check_precision(precision: str, place: Place, dtype: str) -> None:
    """Check that a precision can be used on a device.

    Parameters
    ----------
    precision : {"fp32", "tf32", "bf16"}
        The precision of matrix products.
    place : Place
        Where they are computed.
    dtype : str
        The dtype of the arrays.

    Raises
    ------
    InputError
        If the precision is not known, or not for arrays of this dtype.
    DeviceUnavailableError
        If the device has no such products.
    """
    one_of("precision", precision, PRECISIONS)
    if precision == "fp32":
        return
    if dtype != "float32":
        raise InputError(f"precision {precision} is for products of float32, not of {dtype}: give dtype='float32'")
    hint = "take fp32, or a GPU of compute capability 8.0 or later"
    if place.kind != "cuda":
        here = place.name if place.is_gpu else f"the CPU ({place.reason})" if place.fell_back else "the CPU"
        raise DeviceUnavailableError(f"precision {precision} needs a GPU's tensor cores, and this is {here}; {hint}")
    capability = driver.capability(place.index)
    if capability < _CAPABILITY:
        has = ".".join(map(str, capability))
        raise DeviceUnavailableError(f"precision {precision}: {place.name} has compute capability {has}; {hint}")
