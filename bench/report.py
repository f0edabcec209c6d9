"""What all measurements share: the machine in words, and the files they leave in bench/results/."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from xpnn.arrays.blas import cpu_model, usable_cores

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """CPU, cores, versions and BLAS kernels."""
    import numpy as np

    blas = os.environ.get("OPENBLAS_CORETYPE", "chosen by itself")
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "as they come")
    return f"{cpu_model()}, {usable_cores()} cores, {versions}, OpenBLAS kernels {blas}, BLAS threads {threads}"


def write(name: str, table: list[str], results: list[dict[str, Any]]) -> None:
    """Print the table, and write it and the results, dated, with the machine."""
    day = datetime.date.today().isoformat()
    text = "\n".join([f"`python -m bench.{name}`, {day}, {machine()}", "", *table]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    report = {"date": day, "machine": machine(), "results": results}
    (RESULTS / f"{name}-{day}.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / f"{name}-{day}.md").write_text(text)
    print(text, end="")
