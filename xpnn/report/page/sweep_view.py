"""What the page shows of a sweep, as values that its template writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xpnn.report.page.figures import parallel_chart
from xpnn.report.page.tables import as_cell, as_number, as_seconds, as_table
from xpnn.report.runs.command import sweep_command
from xpnn.report.runs.subject import SweepSubject

_LINES = 200  # combinations in the parallel coordinates
_SHOWN = ("accuracy", "r2_score", "log_loss")


def sweep_view(sweep: SweepSubject, number: int) -> dict[str, Any]:
    """Return what the page shows of a sweep."""
    facts, monitor = sweep.facts, as_cell(sweep.facts.get("monitor"))
    combinations: Sequence[Mapping[str, Any]] = facts["combinations"]
    names = list(dict.fromkeys(name for one in combinations for name in one["values"]))
    runs = [run for one in combinations for run in one["runs"]]
    lines = [
        (tuple(_plain(one["values"].get(name)) for name in names), float(one["mean"]))
        for one in combinations[:_LINES]
        if isinstance(one.get("mean"), (int, float))
    ]
    failed = [(run.get("folder"), run.get("error")) for run in runs if run.get("status") == "failed"]
    test = (facts.get("best") or {}).get("test") or {}
    shown = ", ".join(f"{name.replace('_', ' ')} {as_number(test[name])}" for name in _SHOWN if name in test)
    summary = (
        f"{len(combinations):,} combinations, {len(runs):,} runs, {as_cell(facts.get('status'))}. They are compared by "
        f"{monitor} on the validation rows{', and the best run alone is tested: ' + shown if shown else ''}."
    )
    head = ("rank", *names, f"{monitor}, mean", "deviation", "finished", "time")
    rows = [(i, *_row(one, names)) for i, one in enumerate(combinations, 1)]
    return {
        "id": f"sweep-{number + 1}",
        "name": sweep.name,
        "summary": summary,
        "table": as_table(head, rows, best=0 if test else None),
        "parallel": parallel_chart(names, lines, monitor) if names and lines else None,
        "failed": as_table(("run", "error"), failed, text=(1,)) if failed else None,
        "command": sweep_command(facts) or "",
    }


def _row(one: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """One combination: its values, its figure, how many of its runs finished, and how long they took."""
    seconds = [run["seconds"] for run in one["runs"] if isinstance(run.get("seconds"), (int, float))]
    done = sum(run.get("status") == "finished" for run in one["runs"])
    figures = (as_number(one.get("mean")), as_number(one.get("std")))
    values = (as_cell(one["values"].get(name)) for name in names)
    return [*values, *figures, f"{done} of {len(one['runs'])}", as_seconds(sum(seconds))]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) or value is None else str(value)
