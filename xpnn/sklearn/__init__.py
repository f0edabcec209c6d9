"""scikit-learn's multilayer perceptrons on arrays of any library: the same programs, with one changed import line.

    from xpnn.sklearn import MLPClassifier, MLPRegressor

They have scikit-learn's parameters, defaults, fitted attributes, messages and results, take NumPy, CuPy, PyTorch and
JAX arrays, and return arrays of the same library on the same device. What they have in addition is given by keyword,
and has no effect by default. They need the extra `sklearn`: ``pip install "xpnn[sklearn]"``.

    classifier.py, regressor.py   the public classes: parameters, targets, predictions
    base.py                       what both share: `fit` and `partial_fit`
    fitted.py                     the fitted attributes, predictions from them, and pickles
    entrance.py                   checks of parameters and data, by scikit-learn's own functions
    network.py                    the model, and its parameters as coefs_ and intercepts_
    objective.py                  the losses
    fitting/                      sgd and adam on a `Trainer`, epoch by epoch; sparse matrices; lbfgs by SciPy
    convert.py                    from and to scikit-learn's estimators

The classes derive from scikit-learn's base classes, as its conventions require; they are no subclasses of its own
perceptrons.
"""

try:
    from sklearn import __version__ as _installed
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        'xpnn.sklearn needs scikit-learn 1.9 or newer, which is not installed; pip install "xpnn[sklearn]"',
        name=_error.name,
    ) from _error

if tuple(int(part) for part in _installed.split(".")[:2]) < (1, 9):
    raise ImportError(
        f'xpnn.sklearn needs scikit-learn 1.9 or newer, but {_installed} is installed; pip install -U "xpnn[sklearn]"'
    )

from xpnn.sklearn.classifier import MLPClassifier
from xpnn.sklearn.convert import from_sklearn, to_sklearn
from xpnn.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn", "to_sklearn"]
