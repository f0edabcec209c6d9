"""The values of a record as text."""

from __future__ import annotations

from typing import Any


def readable_numbers(logs: dict[str, Any]) -> str:
    """Return the losses, accuracies and errors of a record as text; other metrics are left out."""
    parts = []
    for name, value in logs.items():
        if isinstance(value, list):
            continue
        if name.endswith("accuracy"):
            parts.append(f"{name} {value:.2%}")
        elif name.endswith(("r2 score", "r2_score")):
            parts.append(f"{name.replace('r2_score', 'R²').replace('r2 score', 'R²')} {value:.4f}")
        elif name.endswith(("error", "f1_score", "f1 score")) and name != "error":
            parts.append(f"{_short(name)} {value:.4g}")
        elif name.endswith("loss"):
            parts.append(f"{name} {value:.4f}" if abs(value) < 1e4 else f"{name} {value:.4g}")
    return "  ".join(parts)


def _short(name: str) -> str:
    for word, letters in (("mean_absolute_error", "MAE"), ("root_mean_squared_error", "RMSE"), ("f1_score", "F1")):
        name = name.replace(word, letters).replace(word.replace("_", " "), letters)
    return name


def as_text(name: str, value: Any) -> str:
    """Return one value of a record as text, for a table."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, float):
        return f"{value}"
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if name == "lr":
        return f"{value:.3g}"
    if name == "seconds":
        return f"{value:.2f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or not value else f"{value:.4g}"
