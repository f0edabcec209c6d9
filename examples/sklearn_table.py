"""A pipeline of scikit-learn on a mixed table. Run: python examples/sklearn_table.py [--device cuda]

Needs the extras `sklearn` and `data`. Without --device, the network is trained where the data are: on the CPU.
"""

import argparse

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from xpnn.sklearn import MLPClassifier  # was: from sklearn.neural_network import MLPClassifier

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--device", help='"cuda" for a GPU')
device = parser.parse_args().device

# Flats: some ages are unknown, and whether one is let within a week depends on all columns.
rng, rows = np.random.default_rng(0), 2000
size, age = rng.uniform(20, 150, rows), rng.uniform(0, 100, rows)
part = rng.choice(["centre", "north", "port"], rows)
wanted = (part == "centre") * 2.0 + (part == "port") - size / 60 - (age / 50 - 1) ** 2 + rng.normal(0, 0.3, rows)
table = pl.DataFrame({"size": size, "age": np.where(rng.random(rows) < 0.1, np.nan, age), "part": part})
let = np.where(wanted > np.median(wanted), "soon", "later")

columns = ColumnTransformer(
    [
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["size", "age"]),
        ("words", OneHotEncoder(sparse_output=False), ["part"]),
    ]
)
network = MLPClassifier((64, 32), early_stopping=True, random_state=0, device=device)
model = make_pipeline(columns, network)
train, test, let_train, let_test = train_test_split(table, let, random_state=0)
model.fit(train, let_train)
print("epochs:", model[-1].n_iter_)
print("test accuracy:", model.score(test, let_test))
print("predicted:", model.predict(test[:5]), "are:", let_test[:5])
