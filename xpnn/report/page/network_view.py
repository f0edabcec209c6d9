"""What the page shows of a network: its first weights, and figures of each layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnn import nn
from xpnn.experiments.saved_run import Samples, SavedRun
from xpnn.report.page.figures import layer_charts
from xpnn.report.page.images import is_image, signed_picture, weight_picture
from xpnn.report.page.tables import as_number, as_percent, as_table
from xpnn.report.runs.measures import layer_figures

_INPUTS, _UNITS = 24, 64


def view_of_weights(saved: SavedRun) -> dict[str, Any] | None:
    """The weights of the first dense layer."""
    for layer, branch in zip(saved.model.layers, saved.params, strict=True):
        if isinstance(layer, nn.Linear):
            weight = np.asarray(branch.weight, np.float64)
            break
    else:
        return None
    scheme = "Blue weights are positive, orange ones negative."
    if is_image(saved.input_shape) and math.prod(saved.input_shape) == len(weight):
        src, width, height, count = weight_picture(weight, saved.input_shape)
        which = (
            f"all {count}"
            if count == weight.shape[1]
            else f"the {count} with the largest norms, of {weight.shape[1]:,}"
        )
        text = f"Each image is one unit ({which}), scaled by its largest weight. {scheme}"
        return {"src": src, "width": width, "height": height, "shown": max(320, min(5 * width, 640)), "text": text}
    norms = np.linalg.norm(weight, axis=1)
    names = saved.schema.outputs if saved.schema is not None else ()
    known = len(names) == len(weight)
    order = np.argsort(-norms, kind="stable")[:_INPUTS]
    units = np.argsort(-np.linalg.norm(weight, axis=0), kind="stable")[:_UNITS]
    largest = np.abs(weight).max() or 1.0
    rows = [
        {
            "name": names[i] if known else f"input {i}",
            "src": signed_picture(weight[i : i + 1, units] / largest),
            "norm": as_number(norms[i]),
            "bar": round(120 * norms[i] / (norms.max() or 1.0)),
        }
        for i in order
    ]
    which = f"All {len(weight)} inputs" if len(order) == len(weight) else f"The {len(order)} of {len(weight):,} inputs"
    text = f"{which} with the largest weights (norm); the strips show their weights to {len(units)} units. {scheme}"
    return {"rows": rows, "text": text}


def view_of_layers(saved: SavedRun, samples: Samples) -> dict[str, Any] | None:
    """Outputs and gradients of each layer."""
    layers = layer_figures(saved, samples)
    finite = all(math.isfinite(value) for layer in layers for value in (layer.mean, layer.std, *layer.quantiles))
    head = ("layer", "outputs", "mean", "deviation", "zeros", "dead units", "gradient", "parameters, gradient / size")
    rows, trains = [], False
    for i, layer in enumerate(layers, 1):
        parts = [
            f"{name}: {count:,}" + ("" if slope is None or not size else f", {slope / size:.2g}")
            for name, count, size, slope in layer.parameters
        ]
        shape = " \N{MULTIPLICATION SIGN} ".join(map(str, layer.shape))
        trains = trains or bool(layer.parameters)
        dead = as_percent(layer.dead) if trains else ""  # pixels of the border, and so on, need not be told
        figures = (as_number(layer.mean), as_number(layer.std), as_percent(layer.zeros), dead)
        slope = "" if layer.gradient is None else f"{layer.gradient:.3g}"
        rows.append((f"{i} {layer.configuration}", shape, *figures, slope, "; ".join(parts)))
    text = (
        f"The trained network on up to 256 rows, {samples.which}, forward and backward, without dropout. A dead unit "
        "is 0 in all rows. Gradients are root mean squares of those of the mean loss."
    )
    return {"text": text, "charts": layer_charts(layers) if finite else [], "table": as_table(head, rows, text=(7,))}
