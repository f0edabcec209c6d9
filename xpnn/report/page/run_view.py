"""What the page shows of one run, as values that its template writes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.report.page.charts import thinned
from xpnn.report.page.drawing import drawable, drawn_network
from xpnn.report.page.network_view import view_of_layers, view_of_weights
from xpnn.report.page.prediction_view import view_of_classes, view_of_numbers
from xpnn.report.page.tables import as_cell, as_number, as_percent, as_seconds, as_table
from xpnn.report.runs.command import command_of
from xpnn.report.runs.subject import Subject

_EPOCHS = 200
_TILES = (
    ("accuracy", "accuracy", as_percent),
    ("balanced_accuracy", "balanced accuracy", as_percent),
    ("f1_score", "F1 score", as_number),
    ("r2_score", "R²", as_number),
    ("mean_absolute_error", "mean absolute error", as_number),
    ("root_mean_squared_error", "root mean squared error", as_number),
    ("log_loss", "log loss", as_number),
    ("loss", "loss", as_number),
)


def run_view(subject: Subject, number: int, *, draw: bool) -> dict[str, Any]:
    """Return what the page shows of a run; `draw`: whether it may have the field to draw in."""
    facts, saved, samples = subject.facts, subject.saved, subject.samples
    view: dict[str, Any] = {
        "id": f"run-{number}",
        "name": subject.name,
        "remarks": [*_state(facts), *subject.remarks],
        "epochs": _epochs(subject.records),
        "environment": _environment(subject),
        "command": command_of(facts),
        "options": _options(facts),
    }
    result: Mapping[str, Any] = {}
    if saved is not None and samples is not None:
        result = saved.evaluate(samples)
        view["rows"] = f"Figures and predictions are those of {len(samples.labels):,} rows, {samples.which}."
        scores = saved.predict(samples.x).scores
        if not np.isfinite(scores).all():
            view["remarks"].append("Some outputs of the network are not finite, so that predictions are left out.")
        elif saved.classes:
            view |= view_of_classes(saved, samples, scores, result)
        else:
            view |= view_of_numbers(saved, samples, scores)
        view["layers"] = view_of_layers(saved, samples)
        if draw and drawable(saved):
            data, remark = drawn_network(saved, np.asarray(samples.x))
            view |= {"no_network": remark} if data is None else {"network": {"data": data, "remark": remark}}
    if saved is not None:
        view["weights"] = view_of_weights(saved)
    view["tiles"] = _tiles(subject, result)
    return view


def _state(facts: Mapping[str, Any]) -> list[str]:
    """What happened to a run that did not finish."""
    status = facts.get("status")
    if status == "failed":
        bad = facts.get("nonfinite")
        where = f" First bad value: {as_cell(bad['first'])}." if isinstance(bad, dict) and "first" in bad else ""
        return [f"The run failed: {as_cell(facts.get('error'))}.{where}"]
    return ["The run was stopped by a signal before its last epoch."] if status == "interrupted" else []


def _tiles(subject: Subject, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    part = "validation" if subject.samples and "validation" in subject.samples.which else "test"
    tiles = [(f"{part} {label}", form(result[name])) for name, label, form in _TILES if name in result]
    if "log_loss" in result:  # the loss with label smoothing says less
        tiles = [tile for tile in tiles if tile[0] != f"{part} loss"]
    if "accuracy" in result:
        tiles.insert(1, (f"{part} error", as_percent(1 - result["accuracy"])))
    last = subject.records[-1] if subject.records else {}
    if not result and last:
        tiles.append(("last training loss", as_number(last.get("loss"))))
    tiles.append(("epochs", as_cell(len(subject.records))))
    if "n_parameters" in subject.facts:
        tiles.append(("parameters", as_cell(subject.facts["n_parameters"])))
    return tiles


def _epochs(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for record in records for name, value in record.items() if _is_plain(value)))
    rows = [records[i] for i in thinned(len(records), _EPOCHS)]
    return as_table(names, [[as_cell(record.get(name)) for name in names] for record in rows])


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float, str))


def _environment(subject: Subject) -> dict[str, Any]:
    """Times, versions and machine."""
    facts, records = subject.facts, subject.records
    seconds = [record["seconds"] for record in records if isinstance(record.get("seconds"), (int, float))]
    rows: list[tuple[str, Any]] = []
    if seconds:
        rows.append(("training", as_seconds(facts.get("seconds", sum(seconds)))))
        low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
        rows.append(("an epoch", f"{as_seconds(middle)} (median; {as_seconds(low)} to {as_seconds(high)})"))
    speed = facts.get("samples_per_second")
    if isinstance(speed, float) and math.isfinite(speed):
        rows.append(("samples a second", f"{speed:,.0f}"))
    names = {"version": "xpnn", "dataset": "data", "device": "device", "backend": "library", "precision": "precision"}
    rows += [
        (label, facts[name]) for name, label in {**names, "seed": "seed", "ranks": "processes"}.items() if name in facts
    ]
    machine = facts.get("environment")
    if isinstance(machine, dict):
        versions = machine.get("versions")
        rows += [(name, version) for name, version in (versions if isinstance(versions, dict) else {}).items()]
        rows += [
            (label, machine[name])
            for name, label in (("cpu", "CPU"), ("threads", "threads"), ("platform", "system"))
            if name in machine
        ]
        variables = machine.get("variables")
        rows += [(name, value) for name, value in (variables if isinstance(variables, dict) else {}).items()]
    if facts.get("resumed_from"):
        rows.append(("resumed from", facts["resumed_from"]))
    return as_table(("what", "value"), [(name, str(value)) for name, value in rows], text=(1,))


def _options(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    options = facts.get("options")
    if not isinstance(options, dict):
        return None
    rows = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items() if value not in (None, "")]
    return as_table(("option", "value"), rows, text=(1,))
