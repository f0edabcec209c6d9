"""The parsers under atheris, which looks for inputs that reach new code (pip install atheris; not a dependency).

``python tests/helpers/fuzz_atheris.py csv -max_total_time=600`` runs one parser; further options are libFuzzer's. It
stops at the first input that makes the parser fail, and writes it to the working folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["xpnn.data", "xpnn.report", "xpnn.training.history"]):
    import fuzzing

    import xpnn.data
    import xpnn.data.readers
    import xpnn.experiments
    import xpnn.report  # noqa: F401


def main() -> None:
    """Run the parser whose name is the first argument."""
    name = sys.argv.pop(1)
    folder = Path(tempfile.mkdtemp(prefix=f"atheris-{name}-"))
    for number, seed in enumerate(fuzzing.parsers()[name].seeds):
        pack = fuzzing.parsers()[name].pack or bytes
        (folder / "corpus").mkdir(exist_ok=True)
        (folder / "corpus" / str(number)).write_bytes(pack(seed))

    def one(data: bytes) -> None:
        failure = fuzzing.failure_of(name, folder, data)
        if failure:
            raise RuntimeError(failure)

    atheris.Setup([*sys.argv, str(folder / "corpus")], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
