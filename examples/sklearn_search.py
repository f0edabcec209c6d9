"""A grid search of scikit-learn. Run: python examples/sklearn_search.py [--device cuda]

Needs the extra `sklearn`. On the CPU, two processes search; with --device, one, because they would share the GPU.
"""

import argparse
import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from xpnn.sklearn import MLPClassifier  # was: from sklearn.neural_network import MLPClassifier

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--device", help='"cuda" for a GPU')
device = parser.parse_args().device

warnings.simplefilter("ignore", ConvergenceWarning)  # in this process: 15 epochs are enough to compare
digits, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(digits.astype("float32"), labels, random_state=0)
network = MLPClassifier((64,), max_iter=15, learning_rate_init=0.01, random_state=0, device=device)
grid = {
    "mlpclassifier__alpha": [1e-4, 1.0],
    "mlpclassifier__activation": ["relu", "gelu"],  # gelu: one of xpnn's
    "mlpclassifier__dropout": [0.0, 0.2],  # xpnn's
}
jobs = 2 if device in (None, "cpu") else 1
search = GridSearchCV(make_pipeline(MinMaxScaler(), network), grid, cv=3, n_jobs=jobs).fit(x_train, y_train)
print("best:", {name.rpartition("__")[2]: value for name, value in search.best_params_.items()})
print("cross-validated accuracy:", round(search.best_score_, 4))
print("test accuracy:", round(search.score(x_test, y_test), 4))
