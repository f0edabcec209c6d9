"""`xpnn train` with default options on public tables, beside other models: python -m bench.tables

Each table is written as a CSV file, and 20 % of its rows are used for the test. All models get the same columns as
`xpnn train` does, and the same test rows; they standardize the columns themselves. Each model runs on one thread.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.table_sets import TABLES, Table, halves

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XPNN_THREADS")
#: Measures: name, task, and whether a larger value is better.
MEASURES = (
    ("accuracy", "classification", True),
    ("balanced accuracy", "classification", True),
    ("log-loss", "classification", False),
    ("R²", "regression", True),
)


def earlier(rows: int) -> dict[str, Any]:
    """Return the earlier optimizer, schedule, regularization, batch size and epochs for so many training rows.

    The initial weights and the smooth clipping of outliers are the present ones.
    """
    batch_size = 32 if rows < 10_000 else 128
    epochs = max(round(2_500 / -(-rows // batch_size)), 15)
    return {
        "optimizer": "adam",
        "schedule": "constant",
        "dropout": "0.3",
        "label_smoothing": 0.0,
        "calibrate": False,
        "batch_size": min(batch_size, rows),
        "epochs": epochs,
    }


def xpnn(path: Path, table: Table, seed: int, **options: Any) -> tuple[Any, Any]:
    """Return the experiment after its training, and its predictions for the test rows: probabilities, or numbers."""
    from xpnn.experiments import Settings, prepare

    settings = Settings(dataset=str(path), target="target", task=table.task, seed=seed, **options)
    experiment = prepare(settings)
    experiment.fit()
    experiment.calibrate()
    outputs: Any = experiment.trainer.predict(experiment.data.x_test)
    return experiment, experiment.goal.from_outputs(experiment.settings, outputs)


def torch_mlp(x: Any, y: Any, x_test: Any, classes: int, seed: int) -> Any:
    """A network as tutorials have it: 256-128, ReLU, dropout 0.3, Adam at 0.001, 60 epochs."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    layers: list[Any] = []
    for n_in, n_out in ((x.shape[1], 256), (256, 128)):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU(), torch.nn.Dropout(0.3)]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(128, classes or 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss = torch.nn.CrossEntropyLoss() if classes else torch.nn.MSELoss()
    inputs = torch.tensor(x, dtype=torch.float32)
    targets = torch.tensor(y, dtype=torch.long) if classes else torch.tensor(y[:, None], dtype=torch.float32)
    for _ in range(60):
        for rows in torch.randperm(len(x)).split(32 if len(x) < 10_000 else 128):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        outputs = model(torch.tensor(x_test, dtype=torch.float32)).double()
        return (torch.softmax(outputs, 1) if classes else outputs[:, 0]).numpy().astype(np.float64)


def sklearn_model(make: Callable[[bool, int], Any]) -> Callable[..., Any]:
    """Return a contestant that fits an estimator of scikit-learn."""

    def run(x: Any, y: Any, x_test: Any, classes: int, seed: int) -> Any:
        import numpy as np

        model = make(classes > 0, seed).fit(x, y)
        if not classes:
            return model.predict(x_test)
        probabilities = np.zeros((len(x_test), classes))
        probabilities[:, model.classes_] = model.predict_proba(x_test)
        return probabilities

    return run


def _mlp(classifier: bool, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    return (MLPClassifier if classifier else MLPRegressor)(random_state=seed)


def _linear(classifier: bool, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeCV

    return LogisticRegression(max_iter=1000) if classifier else RidgeCV([10.0**k for k in range(-3, 4)])


def _boosting(classifier: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return (HistGradientBoostingClassifier if classifier else HistGradientBoostingRegressor)(random_state=seed)


PEERS = {
    "scikit-learn MLP": sklearn_model(_mlp),
    "torch MLP": torch_mlp,
    "linear": sklearn_model(_linear),
    "gradient boosting": sklearn_model(_boosting),
}


def scores(predicted: Any, y: Any, classes: int) -> dict[str, float]:
    """Return the measures of predictions for test rows whose targets are y."""
    import numpy as np

    if not classes:
        return {"R²": float(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())}
    right = predicted.argmax(axis=1) == y
    of_true = np.clip(predicted[np.arange(len(y)), y], 1e-15, 1)
    return {
        "accuracy": float(right.mean()),
        "balanced accuracy": float(np.mean([right[y == label].mean() for label in np.unique(y)])),
        "log-loss": float(-np.log(of_true).mean()),
    }


def measure(job: tuple[Table, int, Path]) -> dict[str, Any]:
    """Train and test every model on one table with one seed."""
    import warnings

    import numpy as np

    warnings.simplefilter("ignore")
    table, seed, path = job
    results: dict[str, Any] = {}

    def note(name: str, start: float, predicted: Any, y: Any, classes: int) -> None:
        results[name] = {**scores(predicted, y, classes), "seconds": time.perf_counter() - start}

    start = time.perf_counter()
    experiment, predicted = xpnn(path, table, seed)
    data, classes = experiment.data, len(experiment.data.classes)
    y_test = data.y_test if classes else data.y_test[:, 0]
    note("xpnn", start, predicted if classes else predicted[:, 0], y_test, classes)
    start = time.perf_counter()
    _, predicted = xpnn(path, table, seed, **earlier(len(data.train_rows)))
    note("xpnn, earlier training", start, predicted if classes else predicted[:, 0], y_test, classes)

    x = data.x_train.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation[deviation == 0] = 1
    x, x_test = (x - mean) / deviation, (data.x_test - mean) / deviation
    y = data.y_train if classes else data.y_train[:, 0]
    shift, scale = (0, 1) if classes else (y.mean(), y.std())
    for name, run in PEERS.items():
        start = time.perf_counter()
        predicted = run(x, y if classes else (y - shift) / scale, x_test, classes, seed)
        note(name, start, predicted if classes else predicted * scale + shift, y_test, classes)
    return {"table": table.name, "task": table.task, "seed": seed, "rows": len(x) + len(x_test), "models": results}


def summary(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table: mean ranks, mean figures and paired differences."""
    import numpy as np
    from scipy.stats import rankdata

    names = list(found[0]["models"])
    lines = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    compared = [name for name in names if name != "xpnn, earlier training"]
    for measure_name, task, larger in MEASURES:
        tables = sorted({entry["table"] for entry in found if entry["task"] == task})
        if not tables:
            continue
        values = np.array(
            [
                [np.mean([e["models"][name][measure_name] for e in found if e["table"] == table]) for name in names]
                for table in tables
            ]
        )
        sign = 1 if larger else -1
        ours = [names.index(name) for name in compared]
        ranks = np.mean([rankdata(-sign * row.round(6)) for row in values[:, ours]], axis=0)
        rank_of = dict(zip(compared, ranks, strict=True))
        cells = [
            f"{rank_of[name]:.2f} ({values[:, i].mean():.4f})" if name in rank_of else f"- ({values[:, i].mean():.4f})"
            for i, name in enumerate(names)
        ]
        lines.append(f"| {measure_name}, {len(tables)} tables: mean rank (mean) | " + " | ".join(cells) + " |")
        differences = sign * (values[:, :1] - values)
        cells = ["-"]
        for column in differences.T[1:]:
            error = column.std(ddof=1) / len(column) ** 0.5 if len(column) > 1 else 0.0
            wins, losses = int((column > 1e-6).sum()), int((column < -1e-6).sum())
            cells.append(f"{column.mean():+.4f} ± {error:.4f} ({wins} to {losses})")
        lines.append(f"| {measure_name}: xpnn better by (tables better to worse) | " + " | ".join(cells) + " |")
    seconds = [sum(entry["models"][name]["seconds"] for entry in found) for name in names]
    lines.append("| seconds, all tables | " + " | ".join(f"{value:.0f}" for value in seconds) + " |")
    return lines


def warm_up() -> None:
    """Load the libraries and compile the loops, so that this is not counted in the time of the first table."""
    from xpnn.experiments import Settings, run

    for module in ("torch", "sklearn.ensemble", "sklearn.linear_model", "sklearn.neural_network"):
        importlib.import_module(module)
    run(Settings(epochs=1), device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("first", "second"), help="only the half on which the defaults were chosen")
    parser.add_argument("--seeds", type=int, default=2, help="splits of each table [default: 2]")
    parser.add_argument("--tables", nargs="*", help="names of tables")
    arguments = parser.parse_args()
    for variable in THREADS:
        os.environ[variable] = "1"
    os.environ.pop("OPENBLAS_CORETYPE", None)
    tables = TABLES if arguments.half is None else halves()[arguments.half == "second"]
    if arguments.tables:
        tables = tuple(table for table in TABLES if table.name in arguments.tables)
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for table in tables:
            path = Path(folder) / f"{table.name}.csv"
            table.read().to_csv(path, index=False)
            jobs += [(table, seed, path) for seed in range(arguments.seeds)]
        jobs.sort(key=lambda job: -job[2].stat().st_size)
        with multiprocessing.get_context("spawn").Pool(os.cpu_count(), warm_up) as pool:
            found = []
            for result in pool.imap_unordered(measure, jobs):
                found.append(result)
                print(f"{len(found)} of {len(jobs)}: {result['table']}, seed {result['seed']}", flush=True)
    from bench.report import write

    lines = summary(found)
    for half, title in zip(halves(), ("first half, on which the defaults were chosen", "second half"), strict=True):
        part = [entry for entry in found if entry["table"] in {table.name for table in half}]
        if part and len(part) < len(found):
            lines += ["", f"The {title}:", "", *summary(part)]
    write("tables", lines, found)


if __name__ == "__main__":
    main()
