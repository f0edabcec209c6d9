"""xpnn check: does this machine compute what the formulas state?"""

from __future__ import annotations

import contextlib
import json
from typing import Annotated

import typer
from rich.progress import Progress
from rich.text import Text

from xpnn.cli.terminal.console import (
    make_console,
    make_table,
    marks,
    print_line,
    print_result,
    print_stderr,
    print_table,
)
from xpnn.cli.terminal.imports import ended_by_ctrl_c
from xpnn.cli.terminal.options import Debug, Json
from xpnn.devices.libraries import LIBRARIES
from xpnn.testing import PlaceReport, Report
from xpnn.testing.places import label, usable_places
from xpnn.testing.report import GRADIENT, RUN, ULPS
from xpnn.training.history import to_json
from xpnn.validation import one_of
from xpnn.version import __version__


def check(
    only: Annotated[list[str] | None, typer.Option(help="A layer, loss or optimizer; can be repeated.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check that this machine computes what the formulas state.

    Compares every layer, loss and optimizer, on every library and device of this machine, with NumPy's float64 and with
    finite differences. The exit status is 1 if anything is out of tolerance.
    """
    with ended_by_ctrl_c():
        for library in LIBRARIES.values():
            with contextlib.suppress(Exception):  # absent or broken: `xpnn doctor` shows the reason
                library.enable_float64()
        from xpnn.testing.cases import CHECKS, SHORT_LIST

    names = [one_of("--only", name, CHECKS) for name in only or ()] or list(SHORT_LIST)
    console = make_console(stderr=True)
    reports, stopped = [], False
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=name)
            try:
                reports.append(CHECKS[name]())
            except KeyboardInterrupt:
                stopped = True
                break
            progress.advance(task)
    ok = all(report.ok for report in reports)
    if stopped:
        print_stderr(f"stopped by a signal after {len(reports)} of {len(names)} checks")
        names = names[: len(reports)]
    if as_json:
        print_result(json.dumps(to_json(_facts(names, reports))))
    else:
        _show(names, reports)
    raise typer.Exit(130 if stopped else int(not ok))


def _facts(names: list[str], reports: list[Report]) -> dict[str, object]:
    return {
        "schema_version": 1,
        "version": __version__,
        "ok": all(report.ok for report in reports),
        "places": [label(place) for place in usable_places()],
        "tolerances": {"ulps": ULPS, "gradient": GRADIENT, "run": RUN},
        "checks": [{"sample": name, **report.to_dict()} for name, report in zip(names, reports, strict=True)],
    }


def _show(names: list[str], reports: list[Report]) -> None:
    console = make_console()
    yes, no = marks(console)
    places = [label(place) for place in usable_places()]
    table = make_table()
    for title in ("", "gradient", "bits", "run", *places):
        table.add_column(title, no_wrap=True, justify="left" if title == "" else "right")
    for name, report in zip(names, reports, strict=True):
        here = {found.place: found for found in report.places}
        runs = [found.run for found in report.places if found.run is not None]
        bits = [found.bits for found in report.places if found.bits is not None]
        table.add_row(
            Text(f"{yes if report.ok else no} {name}", "green" if report.ok else "red"),
            "" if report.gradient is None else f"{report.gradient:.0e}",
            (yes if all(bits) else no) if bits else "",
            f"{max(runs):.0e}" if runs else "",
            *(_worst(here.get(place)) or no for place in places),
        )
    print_table(console, table, "the table of the checks")
    failed = [(name, line) for name, report in zip(names, reports, strict=True) for line in report.failures()]
    for name, line in failed:
        console.print(Text(f"{no} {name}: {line}", "red"))
    wrong = len({name for name, _ in failed})
    print_line(console, f"{len(names) - wrong} of {len(names)} compute what they should, on {', '.join(places)}.")
    for line in (
        f"gradient  against finite differences (at most {GRADIENT:.0e})",
        "bits      initial weights and random numbers are the same on every library",
        f"run       50 training steps against NumPy (at most {RUN['float64']:.0e})",
        f"others    units in the last place from NumPy's float64 (at most {ULPS:g})",
    ):
        print_line(console, line)


def _worst(found: PlaceReport | None) -> str:
    """The larger deviation of the two dtypes; "" if there is none."""
    return f"{max(found.ulps.values()):.1f}" if found is not None and found.ulps else ""
