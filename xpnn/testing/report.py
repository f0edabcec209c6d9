"""The result of a check, and its tolerances."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from xpnn.testing.deviation_measures import H

ULPS = 64.0  # units in the last place, of values and gradients against NumPy's float64
GRADIENT = 1000 * H * H  # relative; truncation and rounding leave about H² in a finite difference
RUN = {"float64": 1e-9, "float32": 1e-3}  # relative, of losses and weights over 50 steps


@dataclass(frozen=True)
class PlaceReport:
    """The result on one library and device.

    Attributes
    ----------
    place : str
        "torch", "torch cuda:0", …
    ulps : dict
        {"float32": …, "float64": …}: the largest deviation from NumPy's float64, in units in the last place.
    bits : bool or None
        Whether initial weights and random bits are those of NumPy, bit for bit.
    run : float or None
        The largest relative deviation of a loss or a weight over 50 steps, computed in `run_dtype`.
    run_dtype : str
        The dtype of the run.
    problem : str
        The error that ended the check on this place, or "".
    """

    place: str
    ulps: dict[str, float] = field(default_factory=dict)
    bits: bool | None = None
    run: float | None = None
    run_dtype: str = ""
    problem: str = ""

    def failures(self) -> list[str]:
        """Return what is out of tolerance, one line each."""
        if self.problem:
            return [f"{self.place}: {self.problem}"]
        lines = [
            f"{self.place}: {dtype} is {apart:.3g} units in the last place from NumPy's float64 (at most {ULPS:g})"
            for dtype, apart in self.ulps.items()
            if not apart <= ULPS
        ]
        if self.bits is False:
            lines.append(f"{self.place}: the random bits or the initial weights are not NumPy's")
        if self.run is not None and not self.run <= RUN[self.run_dtype]:
            lines.append(
                f"{self.place}: a {self.run_dtype} run of 50 steps is {self.run:.1e} from NumPy's "
                f"(at most {RUN[self.run_dtype]:g})"
            )
        return lines


@dataclass(frozen=True)
class Report:
    """The result of checking one layer, loss, penalty or optimizer.

    Attributes
    ----------
    kind : str
        "layer", "loss", "penalty" or "optimizer".
    name : str
        The name of its class.
    gradient : float or None
        The largest error of the hand-derived gradients against finite differences in float64; None without gradients.
    gradient_of : str
        Which gradient that is: "x, in training", "parameters.weight, in inference", "the prediction", …
    problems : tuple of str
        The promises that are broken.
    places : tuple of PlaceReport
        The result on each library and device.
    """

    kind: str
    name: str
    gradient: float | None = None
    gradient_of: str = ""
    problems: tuple[str, ...] = ()
    places: tuple[PlaceReport, ...] = ()

    def failures(self) -> list[str]:
        """Return everything that is wrong, one line each."""
        lines = list(self.problems)
        if self.gradient is not None and not self.gradient <= GRADIENT:
            line = (
                f"the gradient of {self.gradient_of} is {self.gradient:.1e} from finite differences "
                f"(at most {GRADIENT:.1e})"
            )
            if self.gradient_of == "x, in training":
                line += "; does y depend on x through a statistic of the batch that backward treats as a constant?"
            lines.append(line)
        return lines + [line for place in self.places for line in place.failures()]

    @property
    def ok(self) -> bool:
        """Whether everything is within tolerance."""
        return not self.failures()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as dicts and lists, for JSON."""
        return {**asdict(self), "ok": self.ok, "failures": self.failures()}
