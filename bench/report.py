"""Shared by all benchmarks: the description of the machine, and the files in bench/results/."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from pathlib import Path
from typing import Any

from xpnn.devices.cpu_blas import cpu_model, usable_cores

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
    return f"{cpu_model()}, {usable_cores()} cores, {versions}, kernels (threads): {found}"


def write(
    name: str,
    table: list[str],
    results: Any,
    *,
    kernels: list[str] | None = None,
    folder: Path | None = RESULTS,
    here: str | None = None,
    say: bool = True,
) -> None:
    """Print the table, and write it with the results, the date and the machine to `folder`, unless that is None.

    here: description of the machine, if it is not the CPU with these kernels; say: whether to print
    """
    day = datetime.date.today().isoformat()
    here = here or machine(kernels)
    text = "\n".join([f"`python -m bench.{name}`, {day}, {here}", "", *table]) + "\n"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        report = {"date": day, "machine": here, "results": results}
        (folder / f"{name}-{day}.json").write_text(json.dumps(report, indent=2) + "\n")
        (folder / f"{name}-{day}.md").write_text(text)
    if say:
        print(text, end="")
