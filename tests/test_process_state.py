"""Tests for the fixture that restores the process state, so that tests pass in any order."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import JAX_X64, process_state


def test_environment_folder_and_error_state_are_restored(tmp_path: Path) -> None:
    before = dict(os.environ), Path.cwd(), np.geterr()
    with process_state():
        os.environ["XPNN_FAST"] = "left behind"
        os.environ.pop("PATH", None)
        os.chdir(tmp_path)
        np.seterr(all="raise")
    assert (dict(os.environ), Path.cwd(), np.geterr()) == before


def test_jax_x64_is_restored() -> None:
    jax = pytest.importorskip("jax")
    with process_state():
        jax.config.update("jax_enable_x64", not JAX_X64)
    assert jax.config.jax_enable_x64 == JAX_X64


def test_torch_default_dtype_and_threads_are_restored() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype(), torch.get_num_threads()
    with process_state():
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(before[1] + 1)
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before
