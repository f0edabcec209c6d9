"""The NVIDIA driver, called directly: a machine without it is recognized in a millisecond, without any library."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.deprecated import renamed_attribute


@dataclass(frozen=True)
class Stage:
    """One step of the probe.

    Parameters
    ----------
    name : {"installed", "driver", "device", "import", "kernel", "matmul", "graph"}
        Which step.
    ok : bool or None
        Whether it passed; None if it was not tried, because an earlier one failed.
    detail : str
        What was found, or why it failed: one line.
    hint : str, default ""
        What the user can do if it failed.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str = ""

    cure = renamed_attribute("xpnn.devices.driver.Stage", "cure", "hint")


class Facts(NamedTuple):
    """What the driver reports.

    Parameters
    ----------
    missing : tuple of (str, str) or None
        Why it cannot be loaded, and the hint.
    version : int
        1000 · major + 10 · minor of the newest CUDA that it runs.
    code : int
        The return code of cuInit.
    gpus : tuple of str
        The names of the visible GPUs.
    """

    missing: tuple[str, str] | None = None
    version: int = 0
    code: int = 0
    gpus: tuple[str, ...] = ()


_NO_DEVICE = 100
_CUINIT = {  # other codes of cuInit: (name, hint)
    3: ("NOT_INITIALIZED", "CUDA was started before this process was forked: start processes with 'spawn'"),
    34: ("STUB_LIBRARY", "take the CUDA toolkit's stubs folder out of LD_LIBRARY_PATH"),
    101: ("INVALID_DEVICE", "check CUDA_VISIBLE_DEVICES against nvidia-smi -L"),
    802: ("SYSTEM_NOT_READY", "start the fabric manager: systemctl start nvidia-fabricmanager"),
    803: (
        "SYSTEM_DRIVER_MISMATCH",
        "libcuda and the kernel's driver differ in version: reboot after a driver update",
    ),
    804: ("COMPAT_NOT_SUPPORTED_ON_DEVICE", "take the cuda-compat libraries out of LD_LIBRARY_PATH"),
    999: ("UNKNOWN", "load the kernel module: sudo modprobe nvidia_uvm; if that does not help, reboot"),
}


def stages(index: int = 0) -> tuple[Stage, Stage]:
    """Run the stages "driver" and "device", which are the same for every library that uses CUDA.

    Parameters
    ----------
    index : int, default 0
        The number of the GPU.

    Returns
    -------
    tuple of (Stage, Stage)
        The two stages.
    """
    about = facts()
    if about.missing or about.code not in (0, _NO_DEVICE):
        name, hint = _CUINIT.get(about.code, ("", "see whether nvidia-smi works; if not, reinstall the NVIDIA driver"))
        why = f"the NVIDIA driver does not start: cuInit says {about.code} {name}".rstrip()
        return Stage("driver", False, *(about.missing or (why, hint))), Stage(
            "device", None, "not tried: driver failed"
        )
    ready = Stage("driver", True, f"NVIDIA driver for CUDA up to {dotted(about.version)}")
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    setting = "" if chosen is None else f" (CUDA_VISIBLE_DEVICES is set to {chosen!r})"
    if 0 <= index < len(about.gpus):
        return ready, Stage("device", True, about.gpus[index] + setting)
    if not about.gpus:
        hint = "see whether nvidia-smi -L lists a GPU; in a container, start it with --gpus all"
        if setting:
            hint = "unset CUDA_VISIBLE_DEVICES, or set it to a number that nvidia-smi -L lists"
        return ready, Stage("device", False, f"the NVIDIA driver shows no GPU{setting}", hint)
    listed = ", ".join(f"cuda:{i} ({name})" for i, name in enumerate(about.gpus))
    hint = "name one of these" + (", or change CUDA_VISIBLE_DEVICES" if setting else "")
    return ready, Stage("device", False, f"there is no cuda:{index}; visible: {listed}{setting}", hint)


def gpu_names() -> tuple[str, ...]:
    """Return the names of the GPUs that the driver shows to this process.

    Returns
    -------
    tuple of str
        By index; empty without a driver.
    """
    return facts().gpus


@functools.cache
def facts() -> Facts:
    """Load the driver and read its facts, once in a process.

    Returns
    -------
    Facts
        Nothing is raised: if the driver cannot be loaded, `missing` says why.
    """
    if sys.platform == "darwin":
        return Facts(missing=("macOS has no CUDA", ""))
    library = _library()
    hint = "install the NVIDIA driver (in a container: start it with --gpus all)"
    try:
        cuda = _load(library)
        code, version, count = cuda.cuInit(0), ctypes.c_int(0), ctypes.c_int(0)
        cuda.cuDriverGetVersion(ctypes.byref(version))
        if code == 0:
            cuda.cuDeviceGetCount(ctypes.byref(count))
        return Facts(None, version.value, code, tuple(_gpu_name(cuda, i) for i in range(count.value)))
    except OSError as error:
        why = f"no {library}" if re.search("No such file|not find", str(error)) else one_line(error)
        return Facts(missing=(f"no NVIDIA driver was found ({why})", hint))
    except Exception as error:  # something else under the driver's name
        return Facts(missing=(f"{library} is not an NVIDIA driver ({one_line(error)})", hint))


def capability(index: int) -> tuple[int, int]:
    """Return the compute capability of a GPU.

    Parameters
    ----------
    index : int
        The number of a GPU that `facts` has found.

    Returns
    -------
    tuple of (int, int)
        As (9, 0).
    """
    cuda, device, found = _load(_library()), ctypes.c_int(0), []
    cuda.cuDeviceGet(ctypes.byref(device), index)
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        value = ctypes.c_int(0)
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        found.append(value.value)
    return found[0], found[1]


def _library() -> str:
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def _load(library: str) -> Any:
    return ctypes.CDLL(library)


def _gpu_name(cuda: Any, index: int) -> str:
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    return name.value.decode(errors="replace")


def one_line(error: BaseException) -> str:
    """Return an error as one line.

    Parameters
    ----------
    error : BaseException
        Any error.

    Returns
    -------
    str
        Its type and the first line of its text. If an ImportError has a cause, that of the cause: CuPy raises a page of
        advice, with the reason as its cause.

    Examples
    --------
    >>> one_line(RuntimeError("====\\nno device\\nsee the manual"))
    'RuntimeError: no device'
    """
    if isinstance(error, ImportError) and error.__cause__:
        error = error.__cause__
    first = next((line.strip() for line in str(error).splitlines() if re.search(r"\w", line)), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def dotted(version: int) -> str:
    """Return a version of CUDA with a dot.

    Parameters
    ----------
    version : int
        1000 · major + 10 · minor.

    Returns
    -------
    str
        Major and minor.

    Examples
    --------
    >>> dotted(12040)
    '12.4'
    """
    return f"{version // 1000}.{version % 1000 // 10}"
