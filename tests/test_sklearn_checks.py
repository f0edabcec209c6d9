"""scikit-learn's checks of estimators, with arrays of all libraries.

SciPy reads SCIPY_ARRAY_API when it is imported. Without it, one test runs this file in a process that has it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("sklearn", minversion="1.9")

if os.environ.get("SCIPY_ARRAY_API") == "1":
    from sklearn.utils.estimator_checks import parametrize_with_checks

    from xpnn.sklearn import MLPClassifier, MLPRegressor

    pytestmark = pytest.mark.filterwarnings("default")

    @parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
    def test_check(estimator: Any, check: Any) -> None:
        if "cupy" in str(getattr(check, "keywords", "")) and not _has_gpu():
            pytest.skip("CuPy finds no GPU")
        check(estimator)

else:

    def test_all_checks_pass() -> None:
        """No failure and no expected failure; array-api-strict on both devices and torch run if installed."""
        environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
        command = [sys.executable, "-m", "pytest", "-rA", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", __file__]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert not re.search(r"xfailed|xpassed|failed", done.stdout.splitlines()[-1])
        passed = "\n".join(line for line in done.stdout.splitlines() if line.startswith("PASSED"))
        for library, names in {"array_api_strict": ("CPU_DEVICE", "device1"), "torch": ("cpu",)}.items():
            if _is_installed(library):
                for device in names:
                    assert len(re.findall(rf"array_namespace={library}.*{device}|{library}.*{device}", passed)) >= 2


def _has_gpu() -> bool:
    from xpnn.devices import probe

    return probe.first_failure(probe.stages("cupy")) is None


def _is_installed(library: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(library) is not None
