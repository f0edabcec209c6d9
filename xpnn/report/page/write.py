"""Write the page of a report."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from xpnn.errors import InputError
from xpnn.experiments.experiment import DownloadProgress
from xpnn.report.page.charts import COLOURS, marker
from xpnn.report.page.figures import curve_charts
from xpnn.report.page.run_view import run_view
from xpnn.report.page.sweep_view import sweep_view
from xpnn.report.page.tables import NOTHING, as_table
from xpnn.report.pictures import check_drawable
from xpnn.report.runs.subject import Source, Subject, SweepSubject, is_unvalidated, read_all
from xpnn.training.history import Logs
from xpnn.training.saving.atomic_write import write_whole
from xpnn.version import __version__

_IN_DETAIL = 12  # runs; of more, the others are in the comparison and the curves alone
#: The markers of matplotlib as polygons around (17, 6).
_POLYGONS = {
    "o": "o",
    "s": "13.5,2.5 20.5,2.5 20.5,9.5 13.5,9.5",
    "^": "17,2 21,10 13,10",
    "v": "17,10 21,2 13,2",
    "D": "17,1.5 21.5,6 17,10.5 12.5,6",
    "P": "15.5,2 18.5,2 18.5,4.5 21,4.5 21,7.5 18.5,7.5 18.5,10 15.5,10 15.5,7.5 13,7.5 13,4.5 15.5,4.5",
    "X": "13,3 14,2 17,4.8 20,2 21,3 18.2,6 21,9 20,10 17,7.2 14,10 13,9 15.8,6",
}


def check_reportable(path: str | Path) -> None:
    """Check that a report can be written to a path.

    Parameters
    ----------
    path : str or Path
        The file.

    Raises
    ------
    InputError
        If its name does not end in .html or .htm, if it exists, or if jinja2 or matplotlib cannot be imported.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{str(path)!r}: a report is a page; give it a name that ends in .html")
    if path.exists() or path.is_symlink():
        raise InputError(f"`output`: {str(path)!r} already exists; name another file, or delete it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"`output`: {str(path.parent)!r} is not a folder; make it, or name another file")
    check_drawable()
    try:
        import jinja2  # noqa: F401
    except Exception as error:
        raise InputError(
            f"jinja2 is needed to write a report and cannot be imported ({error}); install it with: pip install "
            'jinja2, or in a clone of xpnn: pip install ".[report]"'
        ) from error


def write_report(
    runs: Source | Sequence[Source],
    path: str | Path,
    *,
    data_dir: str | None = None,
    download_progress: DownloadProgress | None = None,
) -> list[str]:
    """Write a page that shows one or several runs: what `xpnn report` does.

    Parameters
    ----------
    runs : str, Path, RunResult, or sequence of them
        Folders of runs or of sweeps, or results of `xpnn.experiments.run`.
    path : str or Path
        A new file whose name ends in .html.
    data_dir : str, optional
        Folder with the MNIST files.
    download_progress : callable, optional
        Called as ``download_progress(file name, bytes so far, bytes in all or 0)`` if the data must be downloaded.

    Returns
    -------
    list of str
        What the page lacks, and why.

    Raises
    ------
    InputError
        If the file exists, if a folder contains neither a run nor a sweep, or if jinja2 or matplotlib cannot be
        imported.
    DataFormatError
        If a file of a run is damaged.
    SaveError
        If the file cannot be written.

    Notes
    -----
    The page is one file: it loads nothing, and its content security policy forbids it. Figures and predictions are
    those of the test rows; of a run that was not tested, as in a sweep, those of the validation rows.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from xpnn.experiments import Settings, run
    >>> from xpnn.report import write_report
    >>> result = run(Settings(dataset="xor", hidden="4", epochs=20), device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     remarks = write_report(result, f"{folder}/report.html")
    ...     text = Path(f"{folder}/report.html").read_text(encoding="utf-8")
    >>> "Confusion matrix" in text, remarks
    (True, ['run 1: This run has no validation set, so that the figures of its epochs are those of training.'])
    """
    given = [runs] if isinstance(runs, (str, Path)) or not isinstance(runs, Sequence) else list(runs)
    if not given:
        raise InputError("no runs to report; expected at least one")
    check_reportable(path)
    subjects = read_all(given, data_dir, download_progress)
    context = _context(subjects)
    write_whole(path, _render(context).encode())
    return [f"{run['name']}: {remark}" for run in context["runs"] for remark in run["remarks"]]


def _render(context: dict[str, Any]) -> str:
    import jinja2

    files = {name: _file(name) for name in ("page.html", "page.css", "page.js", "draw.js")}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(files), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    has_field = any(run["network"] for run in context["runs"])
    scripts = {"page": files["page.js"], "draw": files["draw.js"] if has_field else ""}
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts.values()
        if text
    ]
    template = environment.get_template("page.html")
    return template.render(**context, css=files["page.css"], scripts=scripts, hashes=hashes, version=__version__)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("files", name).read_text(encoding="utf-8")


def _context(subjects: Sequence[Subject | SweepSubject]) -> dict[str, Any]:
    """All values of the template."""
    runs: list[Subject] = []
    curves: dict[str, list[Logs]] = {}
    sweeps: list[dict[str, Any]] = []
    for subject in subjects:
        if isinstance(subject, Subject):
            runs.append(subject)
            curves[subject.name] = subject.records
            continue
        sweeps.append(sweep_view(subject, len(sweeps)))
        curves |= {
            label if len(subjects) == 1 else f"{subject.name}: {label}": records
            for label, records in subject.curves.items()
        }
        if subject.best is not None:
            runs.append(subject.best)
    views: list[dict[str, Any]] = []
    for i, run in enumerate(runs[:_IN_DETAIL]):
        views.append(run_view(run, i + 1, draw=not any("network" in view for view in views)))
    sections = [{"id": "curves", "name": "Curves"}, *({"id": s["id"], "name": f"Sweep: {s['name']}"} for s in sweeps)]
    if len(views) > 1:
        sections.insert(0, {"id": "comparison", "name": "Comparison"})
    more = len(runs) - len(views)
    title = subjects[0].name if len(subjects) == 1 else f"{len(subjects)} runs"
    left = [f"There are {more:,} more runs, which are in the curves alone."] if more else []
    return {
        "title": f"Report: {title}",
        "subtitle": f"Written on {datetime.now().astimezone():%Y-%m-%d %H:%M} by xpnn {__version__}.",
        "sections": [*sections, *({"id": view["id"], "name": view["name"]} for view in views)],
        "comparison": _comparison(views) if len(views) > 1 else None,
        "legend": _legend(curves),
        "curves": curve_charts(curves) if curves else [],
        "curve_remarks": [] if curves else ["No epoch has ended."],
        "sweeps": sweeps,
        "runs": [{**dict.fromkeys(_PARTS), **view} for view in views],
        "remarks": left,
    }


#: What a run need not have.
_PARTS = (
    "rows", "network", "no_network", "matrix", "matrix_picture", "confusions", "class_table", "calibration", "numbers",
    "samples", "weights", "layers", "command", "options",
)  # fmt: skip


def _legend(curves: dict[str, list[Logs]]) -> list[dict[str, Any]]:
    """The colours and markers of the runs, and the styles of training and validation."""
    validated = any(not is_unvalidated(records) for records in curves.values())
    ink = "--c0" if len(curves) == 1 else "--muted"
    styles = [{"name": "training", "colour": ink, "dashed": False, "marker": ""}]
    if validated:
        styles.append({"name": "validation", "colour": ink, "dashed": True, "marker": ""})
    if len(curves) < 2:
        return styles
    named = [
        {"name": name, "colour": f"--c{i % COLOURS}", "dashed": False, "marker": _POLYGONS[marker(i)]}
        for i, name in enumerate(curves)
    ]
    return [*named, *styles]


def _comparison(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row for each run, with its tiles."""
    names = list(dict.fromkeys(label for view in views for label, _ in view["tiles"]))
    rows = [(view["name"], *(dict(view["tiles"]).get(name, NOTHING) for name in names)) for view in views]
    return as_table(("run", *names), rows)
