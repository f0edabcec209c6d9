"""Published networks, trained by `xpnn reproduce`: python -m bench.reproduce --data-dir FOLDER [NAME…]"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from bench.report import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="recipes; all by default")
    parser.add_argument("--data-dir", required=True, help="folder with the MNIST files")
    asked = parser.parse_args()
    command = [sys.executable, "-m", "xpnn", "reproduce", *asked.names, "--data-dir", asked.data_dir, "--json"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # exit status 1: a result was missed
    results = json.loads(done.stdout)["results"]
    table = ["| recipe | measure | published | measured | met | seconds |", "| --- | --- | --- | --- | --- | --- |"]
    for row in results:
        value = row["measured"]
        shown = f"{row['seeds_that_met']} of {row['seeds']} seeds" if row["seeds"] > 1 else f"{value:.5g}"
        met = "yes" if row["met"] else "no"
        measure = row["measure"].replace("_", " ")
        table.append(f"| {row['recipe']} | {measure} | {row['published']} | {shown} | {met} | {row['seconds']:.0f} |")
    write("reproduce", table, results)


if __name__ == "__main__":
    main()
