"""The command `xpnn`: one file for each subcommand. It chooses the BLAS kernels before NumPy is imported."""

from __future__ import annotations

from collections.abc import Sequence

from xpnn.cli.terminal.imports import ended_by_ctrl_c
from xpnn.devices import cpu_blas


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments after the name of the command; by default those of the process.

    Returns
    -------
    int
        The exit status.
    """
    cpu_blas.choose()
    with ended_by_ctrl_c():
        from xpnn.cli.app import run
    return run(arguments)
