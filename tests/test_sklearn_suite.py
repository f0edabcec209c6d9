"""scikit-learn's own tests of its perceptrons, with the import line changed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn", minversion="1.9")
_SPEC = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
if _SPEC is None or _SPEC.origin is None:
    pytest.skip("scikit-learn is installed without its tests", allow_module_level=True)
_PATH = Path(_SPEC.origin)
_SOURCE, _CHANGED = re.subn(
    r"^from sklearn\.neural_network import MLPClassifier, MLPRegressor$",
    "from xpnn.sklearn import MLPClassifier, MLPRegressor",
    _PATH.read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)
assert _CHANGED == 1
exec(compile(_SOURCE, str(_PATH), "exec"), globals())

del globals()["test_gradient"]  # calls the private `_loss_grad_lbfgs`


@pytest.fixture
def global_random_seed() -> int:
    """scikit-learn's fixture of this name."""
    return 42


pytestmark = pytest.mark.filterwarnings("default")  # as in scikit-learn's configuration


def test_classes_are_those_of_xpnn() -> None:
    assert globals()["MLPClassifier"].__module__ == "xpnn.sklearn.classifier"
    assert globals()["MLPRegressor"].__module__ == "xpnn.sklearn.regressor"
