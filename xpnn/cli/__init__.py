"""The command `xpnn`: one file a subcommand. Its first act is to choose the BLAS kernels, before NumPy is imported."""

from __future__ import annotations

from collections.abc import Sequence

from xpnn.devices import cpu_blas


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    cpu_blas.choose()
    from xpnn.cli.app import run

    return run(arguments)
