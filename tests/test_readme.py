"""Tests for the examples and lists in the README, and in the pages that it names first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from xpnn.cli import main

ROOT = Path(__file__).parents[1]
README, COMMAND, LIBRARY = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/command.md", "docs/library.md")
)


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_first_two_blocks_are_one_line_each() -> None:
    train, test = blocks("sh")[:2]
    for line in (train, test):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ") and line.count("\n") == 1
    assert train.endswith("&& .venv/bin/xpnn train\n") and test.endswith("&& .venv/bin/python -m pytest\n")


def test_example_runs() -> None:
    shown = blocks("python")[0]
    source = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    assert source.endswith(shown)
    assert len([line for line in shown.splitlines() if line]) <= 10  # "in ten lines"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    accuracy = re.search(r"'accuracy': (0\.\d+)", done.stdout.splitlines()[1])
    assert accuracy and float(accuracy[1]) > 0.95


def test_layer_example_runs() -> None:
    import numpy as np

    from xpnn import nn

    names = {"nn": nn, "x": np.ones((2, 784)), "dy": np.ones((2, 400))}
    exec(blocks("python", LIBRARY)[0], names)
    assert names["dx"].shape == (2, 784) and type(names["grads"]) is type(names["params"])


def test_check_example_runs() -> None:
    import numpy as np

    from xpnn import nn

    exec(blocks("python", LIBRARY)[1], {"nn": nn, "np": np})


def test_every_public_name_is_listed() -> None:
    from xpnn import nn, optim, training

    names = {*nn.__all__, *optim.__all__} | set(training.__all__)
    protocols = {
        "AtStart",
        "AtEnd",
        "Callback",
        "Carried",
        "History",
        "Initializer",
        "Key",
        "Layer",
        "Loss",
        "Metric",
        "Optimizer",
        "Schedule",
    }
    kinds = {"Constant", "Orthogonal", "TruncatedNormal", "VarianceScaling", "Zeros"}  # described in prose
    assert {name for name in names - protocols - kinds if name not in LIBRARY} == set()


def test_named_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    helps = ""
    for command in ("train", "evaluate", "predict", "plot", "explain", "check", "doctor"):
        main([command, "--help"])
        helps += capsys.readouterr().out
    prose = re.sub(r"```.*?```", "", README + COMMAND + LIBRARY, flags=re.DOTALL)
    named = set(re.findall(r"(--[a-z][a-z-]+)", blocks("sh")[2] + prose))
    assert named - {"--check"} <= set(re.findall(r"(--[a-z][a-z-]+)", helps))
    assert named >= {"--device", "--hidden", "--json", "--data-dir"}


def test_every_subcommand_is_shown() -> None:
    from xpnn.cli.app import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert set(re.findall(r"^xpnn ([a-z]+)", blocks("sh")[2], re.MULTILINE)) == commands


def test_custom_parts_example_runs() -> None:
    code = (ROOT / "examples" / "own_parts.py").read_text(encoding="utf-8")
    one_place = "import xpnn.testing.checks as c, xpnn; c.usable_places = lambda: [xpnn.find_place('cpu', 'numpy')]\n"
    done = subprocess.run([sys.executable, "-c", one_place + code], capture_output=True, text=True, check=True)
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", done.stdout)]
    assert len(losses) == 4 and losses[-1] < losses[0] / 2
