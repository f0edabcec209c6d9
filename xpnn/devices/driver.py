"""The NVIDIA driver, asked directly: a machine without one is known in a millisecond, and no library is imported."""

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
    """One step of the probe."""

    name: str  # "installed", "driver", "device", "import", "kernel", "matmul", "graph"
    ok: bool | None  # None: not tried, because an earlier one failed
    detail: str  # what was found, or why it failed: one line
    hint: str = ""  # what the user can do; only when it failed

    cure = renamed_attribute("xpnn.devices.driver.Stage", "cure", "hint")


class Facts(NamedTuple):
    """What the driver says of itself."""

    missing: tuple[str, str] | None = None  # (why it cannot be loaded, hint)
    version: int = 0  # 1000 · major + 10 · minor of the newest CUDA that it runs
    code: int = 0  # what cuInit answered
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
    """The stages "driver" and "device", which are the same for every library."""
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
    """The names of the GPUs that the driver shows to this process."""
    return facts().gpus


@functools.cache
def facts() -> Facts:
    """Ask the driver, once."""
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
    """The compute capability of a GPU that `facts` has found, as (9, 0)."""
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
    """The line that says most; CuPy wraps an ImportError in a page of advice, with the reason as its cause."""
    if isinstance(error, ImportError) and error.__cause__:
        error = error.__cause__
    first = next((line.strip() for line in str(error).splitlines() if re.search(r"\w", line)), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def dotted(version: int) -> str:
    """12040 as "12.4"."""
    return f"{version // 1000}.{version % 1000 // 10}"
