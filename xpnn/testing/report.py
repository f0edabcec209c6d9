"""What a check found, and what it may find: the tolerances."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from xpnn.testing.deviation_measures import H

ULPS = 64.0  # units in the last place, of values and gradients against NumPy's float64
GRADIENT = 1000 * H * H  # relative; H² is what truncation and rounding leave of a finite difference
RUN = {"float64": 1e-9, "float32": 1e-3}  # relative, of losses and weights over 50 steps


@dataclass(frozen=True)
class PlaceReport:
    """One library on one device.

    ulps:    {"float32": …, "float64": …}: the largest deviation from NumPy's float64 in units in the last place
    bits:    whether initial weights and random bits are those of NumPy, bit for bit
    run:     the largest relative deviation of a loss or a weight over 50 steps, computed in `run_dtype`
    problem: what went wrong before there were numbers, or ""
    """

    place: str
    ulps: dict[str, float] = field(default_factory=dict)
    bits: bool | None = None
    run: float | None = None
    run_dtype: str = ""
    problem: str = ""

    def failures(self) -> list[str]:
        """What is out of tolerance, a line each."""
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
    """What a check of one layer, loss or optimizer found.

    kind:     "layer", "loss" or "optimizer"
    gradient: the error of the hand-derived gradient against finite differences in float64; None where there is none
    gradient_of: which it is, the worst: of "x, in training", …
    problems: promises that are not kept
    """

    kind: str
    name: str
    gradient: float | None = None
    gradient_of: str = ""
    problems: tuple[str, ...] = ()
    places: tuple[PlaceReport, ...] = ()

    def failures(self) -> list[str]:
        """All that is wrong, a line each."""
        lines = list(self.problems)
        if self.gradient is not None and not self.gradient <= GRADIENT:
            line = (
                f"the gradient of {self.gradient_of} is {self.gradient:.1e} from finite differences "
                f"(at most {GRADIENT:.1e})"
            )
            if self.gradient_of == "x, in training":
                line += "; does y depend on x through a statistic of the batch that backward takes for a constant?"
            lines.append(line)
        return lines + [line for place in self.places for line in place.failures()]

    @property
    def ok(self) -> bool:
        """Whether all is within tolerance."""
        return not self.failures()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "ok": self.ok, "failures": self.failures()}
