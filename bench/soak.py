"""Random kills of `xpnn train`, each followed by a resume, and a comparison with an uninterrupted run.

    python -m bench.soak [--kills N] [--backend NAME] [--seed N]

A run is killed (SIGKILL) at a random moment, resumed, killed again, and so on until it ends by itself. Its weights and
its history must have the bits of the uninterrupted run. A tenth of the kills fall into the start of the process. Half
are aimed at moments in which a checkpoint is being written: as soon as its temporary file appears.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.report import write

OPTIONS = ("digits", "--hidden", "128,64", "--batch-size", "64", "--epochs", "40", "--checkpoint-steps", "3", "--quiet")


def train(folder: Path, backend: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "xpnn", "train", *OPTIONS, "--output", str(folder), "--resume", "auto"]
    command += ["--device", "cpu", "--backend", backend]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def result(folder: Path) -> tuple[Any, Any]:
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for record in records:
        del record["seconds"]
    return {name: array.tobytes() for name, array in tensors.items()}, records


def killed(process: subprocess.Popen[bytes], folder: Path, rng: random.Random) -> str:
    """Kill the process at a random moment; return what it was doing, or "finished" if it ended before."""
    checkpoints = folder / "checkpoints"
    before = set(checkpoints.glob("epoch-*"))
    kind = rng.choices(("start", "write", "any"), (1, 5, 4))[0]
    while kind != "start" and process.poll() is None and set(checkpoints.glob("epoch-*")) <= before:
        time.sleep(0.002)
    deadline = time.monotonic() + rng.uniform(0, 1)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    while kind == "write" and process.poll() is None and not list(checkpoints.glob(".*.tmp")):
        pass
    if process.poll() is not None:
        return "finished"
    process.kill()
    process.wait()
    if list(checkpoints.glob(".*.tmp")):
        return "writing a checkpoint"
    return "training" if checkpoints.exists() and list(checkpoints.glob("epoch-*")) else "starting"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="[default: 200]")
    parser.add_argument("--backend", default="numpy", help="[default: numpy]")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments [default: 0]")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    found: Counter[str] = Counter()
    runs = wrong = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = train(Path(folder) / "whole", arguments.backend)
        _, error = whole.communicate()
        if whole.returncode:
            print(error.decode(), file=sys.stderr)
            return 1
        expected = result(Path(folder) / "whole")
        while sum(found.values()) < arguments.kills:
            runs += 1
            run = Path(folder) / f"run-{runs}"
            while True:
                process = train(run, arguments.backend)
                moment = killed(process, run, rng)
                if moment == "finished":
                    break
                found[moment] += 1
            error = process.stderr.read() if process.stderr else b""
            if process.returncode:
                failed += 1
                print(error.decode(), file=sys.stderr)
            elif result(run) != expected:
                wrong += 1
            print(f"{runs} runs, {sum(found.values())} kills, {wrong} differ, {failed} failed", flush=True)
    lines = [
        "| killed while | times |",
        "| --- | --- |",
        *(f"| {moment} | {count} |" for moment, count in sorted(found.items())),
        "",
        f"{runs} runs on {arguments.backend} came to their end after {sum(found.values())} kills: {wrong} differ from "
        f"the uninterrupted run, {failed} could not be resumed.",
    ]
    write("soak", lines, {"kills": found, "runs": runs, "wrong": wrong, "failed": failed, **vars(arguments)})
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
