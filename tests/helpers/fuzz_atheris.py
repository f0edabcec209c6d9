"""The parsers under atheris, which looks for inputs that reach new code (pip install atheris; not a dependency).

``python tests/helpers/fuzz_atheris.py csv -max_total_time=600`` runs one parser, and ``all`` runs all of them; further
options are libFuzzer's. It stops at the first input that makes the parser fail, and writes it to the working folder. Of
packed files, and of those with a digest, what is inside is changed; `fuzzing.py` also damages them as they are.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

_READ = (
    "xpnn.data",
    "xpnn.report",
    "xpnn.training.history",
    "xpnn.training.saving",
    "xpnn.nn.registry",
    "xpnn.validation",
)
with atheris.instrument_imports(include=[*_READ, "xpnn.experiments.saved_run", "xpnn.experiments.sweeps"]):
    import fuzzing

    import xpnn.data
    import xpnn.data.readers
    import xpnn.experiments
    import xpnn.report
    import xpnn.training.saving.checkpoint  # noqa: F401


def main() -> None:
    """Run the parser whose name is the first argument; for "all", the first byte of each input chooses one."""
    name = sys.argv.pop(1)
    names = sorted(fuzzing.parsers()) if name == "all" else [name]
    folders = [Path(tempfile.mkdtemp(prefix=f"atheris-{chosen}-")) for chosen in names]
    corpus = Path(tempfile.mkdtemp(prefix="atheris-corpus-"))
    for i, chosen in enumerate(names):
        for number, seed in enumerate(fuzzing.parsers()[chosen].seeds):
            (corpus / f"{chosen}-{number}").write_bytes(bytes([i] if len(names) > 1 else []) + seed)

    def one(data: bytes) -> None:
        i = 0
        if len(names) > 1:
            i, data = data[0] % len(names) if data else 0, data[1:]
        pack = fuzzing.parsers()[names[i]].pack
        if pack is not None:  # gzip and digests would hide what is in them
            with contextlib.suppress(UnicodeError):
                data = pack(data)
        failure = fuzzing.failure_of(names[i], folders[i], data)
        if failure:
            raise RuntimeError(f"{names[i]}: {failure}")

    atheris.Setup([*sys.argv, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
