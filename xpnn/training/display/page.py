"""The records of a training as HTML: a table of the latest epochs, and the curve of the loss as SVG.

The texts and axes have the colour of the page, so that both suit a dark one. Nothing is loaded, and no script runs.
"""

from __future__ import annotations

import html
import math
import numbers
from collections.abc import Sequence
from typing import Any

from xpnn.training.display.numbers import as_text

_ROWS = 10  # of the table
_LINES = (("loss", "#0072B2", ""), ("val_loss", "#D55E00", "5 3"))  # colours that colour-blind readers tell apart
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 380, 220, 52, 30, 24, 12
_POINTS = 400  # of a line: more than the picture has pixels
_DECADES = 2.0  # a wider range of values is drawn on a logarithmic scale


def training_html(records: Sequence[dict[str, Any]], heading: str = "", share: float | None = None) -> str:
    """Return the table and the curve as HTML.

    Parameters
    ----------
    records : sequence of dict
        One for each epoch: see `History`.
    heading : str
        A line above them.
    share : float, optional
        How much of the training is done, from 0 to 1, for a bar.

    Returns
    -------
    str
    """
    bar = ""
    if share is not None:
        bar = (
            '<div style="height:4px;max-width:760px;background:rgba(128,128,128,.25);margin:4px 0">'
            f'<div style="height:4px;width:{100 * min(share, 1):.1f}%;background:#0072B2"></div></div>'
        )
    top = f"<div>{html.escape(heading)}</div>{bar}" if heading or bar else ""
    parts = f"{_table(records)}{_curve(records)}"
    below = f'<div style="display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start">{parts}</div>'
    return f'<div style="font-variant-numeric:tabular-nums">{top}{below if records else ""}</div>'


def _table(records: Sequence[dict[str, Any]]) -> str:
    if not records:
        return ""
    names = [name for name, value in records[-1].items() if not isinstance(value, (list, tuple))]
    best = _best(records)
    cell = 'style="text-align:right;padding:2px 8px"'
    head = "".join(f"<th {cell}>{html.escape(name)}</th>" for name in names)
    rows = []
    if len(records) > _ROWS:
        rows.append(f'<tr><td {cell}>…</td><td colspan="{len(names) - 1}"></td></tr>')
    for record in records[-_ROWS:]:
        cells = "".join(f"<td {cell}>{html.escape(as_text(name, record.get(name)))}</td>" for name in names)
        title = ' title="smallest val_loss" style="font-weight:bold"' if record is best else ""
        rows.append(f"<tr{title}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _best(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The record with the smallest validation loss."""
    known = [record for record in records if math.isfinite(_number(record.get("val_loss")))]
    return min(known, key=lambda record: _number(record["val_loss"]), default=None)


def _curve(records: Sequence[dict[str, Any]]) -> str:
    """The losses against the epoch. Values that are not finite leave gaps."""
    values = [_number(record.get(name)) for record in records for name, *_ in _LINES]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    is_log = low > 0 and math.log10(high / low) > _DECADES
    marks = _log_marks(low, high) if is_log else _marks(low, high)
    low, high = min(low, *marks), max(high, *marks)
    first, last = (_number(record.get("epoch")) for record in (records[0], records[-1]))
    if not first < last:
        first, last = first - 0.5, first + 0.5

    def x(epoch: float) -> float:
        return _LEFT + (epoch - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    parts = [_text(_LEFT - 6, y(mark) + 4, f"{mark:g}", "end") + _grid(y(mark)) for mark in marks]
    ends = (records[0], records[-1]) if len(records) > 1 else (records[0],)
    parts += [_text(x(_number(one["epoch"])), _HEIGHT - 14, f"{one['epoch']}", "middle") for one in ends]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, "epoch", "middle"))
    place = float(_LEFT)
    every = -(-len(records) // _POINTS)
    for name, colour, dash in _LINES:
        points = [(_number(one.get("epoch")), _number(one.get(name))) for one in records]
        points = [*points[:-1:every], points[-1]]
        line = [(x(epoch), y(value)) if math.isfinite(value) else None for epoch, value in points]
        if any(line):
            parts.append(_line(line, colour, dash))
            parts.append(f'<path d="M{place:g} 10h20" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
            parts.append(_text(place + 26, 14, name, "start"))
            place += 100
    label = "loss by epoch" + (", logarithmic" if is_log else "")
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" '
        f'fill="none" font-family="sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def _line(points: Sequence[tuple[float, float] | None], colour: str, dash: str) -> str:
    path, is_on = "", False
    for point in points:
        if point is not None:
            path += f"{'L' if is_on else 'M'}{point[0]:.1f} {point[1]:.1f}"
        is_on = point is not None
    last = next(point for point in reversed(points) if point is not None)
    return (
        f'<path d="{path}" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>'
        f'<circle cx="{last[0]:.1f}" cy="{last[1]:.1f}" r="2.5" fill="{colour}"/>'
    )


def _grid(y: float) -> str:
    return f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" opacity=".2"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="currentColor" text-anchor="{anchor}">{html.escape(text)}</text>'


def _marks(low: float, high: float) -> list[float]:
    """Round numbers around the values: two to six of them."""
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    step = next(step * part for part in (0.2, 0.5, 1.0, 2.0) if span / (step * part) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _log_marks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, last + 1, -(-(last - first) // 5))]


def _number(value: Any) -> float:
    number = float(value) if isinstance(value, numbers.Real) else math.nan
    return number if abs(number) < 1e150 else math.nan  # larger ones cannot be drawn
