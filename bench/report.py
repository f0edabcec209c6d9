"""Shared by all benchmarks: the description of the machine, and the files in bench/results/."""

from __future__ import annotations

import datetime
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

from xpnn.devices.cpu_blas import cpu_model, cpu_number, usable_cores

RESULTS = Path(__file__).parent / "results"


def pools() -> list[str]:
    """Return the BLAS and OpenMP libraries that this process has loaded, with versions, kernels and threads."""
    import threadpoolctl

    found = []
    for pool in threadpoolctl.threadpool_info():
        parts = (pool["internal_api"], pool.get("version"), pool.get("architecture"))
        found.append(f"{' '.join(part for part in parts if part)} ({pool['num_threads']})")
    if "torch" in sys.modules and sys.modules["torch"].backends.mkl.is_available():
        found.append(f"mkl within torch ({sys.modules['torch'].get_num_threads()})")  # linked in: not in that list
    return sorted(set(found))


def machine(kernels: list[str] | None = None) -> str:
    """Describe CPU, cores, versions and BLAS kernels: the given ones, or those that NumPy uses here."""
    import numpy as np

    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    found = ", ".join(pools() if kernels is None else kernels) or "unknown"
    return f"{processor()}, {usable_cores()} cores, {versions}, kernels (threads): {found}"


def processor() -> str:
    """Return the CPU's model, with the numbers by which Intel's models of one name differ."""
    numbers = [cpu_number(name) for name in ("cpu family", "model")]
    return cpu_model() + (f" (family {numbers[0]}, model {numbers[1]})" if all(numbers) else "")


def slug(name: str) -> str:
    """Return a name for a file.

    Examples
    --------
    >>> slug("Intel(R) Xeon(R) Processor (family 6, model 207)")
    'intel-xeon-processor-6-207'
    """
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|family|model", "", name.lower())).strip("-")


def write(
    name: str,
    table: list[str],
    results: Any,
    *,
    kernels: list[str] | None = None,
    folder: Path | None = RESULTS,
    here: str | None = None,
    say: bool = True,
    by_cpu: bool = False,
) -> None:
    """Print the table, and write it with the results, the date and the machine to `folder`, unless that is None.

    here: description of the machine, if it is not the CPU with these kernels; say: whether to print; by_cpu: whether
    the files are named by the CPU, of which the folder keeps one table each
    """
    day = datetime.date.today().isoformat()
    here = here or machine(kernels)
    text = "\n".join([f"`python -m bench.{name}`, {day}, {here}", "", *table]) + "\n"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        report = {"date": day, "machine": here, "results": results}
        file = f"{name}-{slug(processor())}" if by_cpu else f"{name}-{day}"
        (folder / f"{file}.json").write_text(json.dumps(report, indent=2) + "\n")
        (folder / f"{file}.md").write_text(text)
    if say:
        print(text, end="")
