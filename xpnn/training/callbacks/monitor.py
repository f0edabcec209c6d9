"""The log value that a callback watches, and whether lower or higher is better."""

from __future__ import annotations

import math
import numbers
import re

from xpnn.errors import InputError
from xpnn.training.history import Logs
from xpnn.validation import Problems, as_float, one_of

MODES = ("auto", "min", "max")
DOWN = re.compile(r"(loss|error|mae|mse|rmse)$")
UP = re.compile(r"(accuracy|precision|recall|f1|f1_score|r2|r2_score|auc)$|(^|_)top_\w+$")


class Monitor:
    """A log value that is watched, and its best value so far.

    Parameters
    ----------
    who : str
        The name of the callback, for messages.
    name : str
        The name of the log value.
    mode : {"auto", "min", "max"}
        Whether lower or higher is better. "auto" decides by the name: lower for a loss or an error, higher for an
        accuracy, precision, recall, F1 score, R², AUC or top-k accuracy.
    min_delta : float, default 0.0
        A value is an improvement only if it is better by more than this.

    Attributes
    ----------
    best : float
        The best value so far; ±∞ before there is one.

    Raises
    ------
    InputError
        If the mode or min_delta cannot be used, or if "auto" cannot decide by the name.
    """

    def __init__(self, who: str, name: str, mode: str, min_delta: float = 0.0) -> None:
        self.who, self.name = who, name
        problems = Problems()
        with problems:
            self.min_delta = as_float(f"{who}: min_delta", min_delta)
            if not self.min_delta >= 0:
                raise InputError(f"{who}: min_delta is {min_delta!r}; expected a number of at least 0")
        with problems:
            if one_of(f"{who}: mode", mode, MODES) == "auto":
                if not DOWN.search(name) and not UP.search(name):
                    raise InputError(
                        f"{who}: the name {name!r} does not show whether lower or higher is better; give mode='min' "
                        "or mode='max'"
                    )
                mode = "min" if DOWN.search(name) else "max"
        problems.raise_found()
        self._sign = 1 if mode == "max" else -1
        self.reset()

    def reset(self) -> None:
        """Forget the best value: the next number is an improvement."""
        self.best = -self._sign * math.inf

    def improves(self, logs: Logs) -> bool:
        """Whether this epoch is the best so far; if so, its value becomes the best. NaN is never an improvement.

        Raises InputError if the logs do not contain the name, or if its value is not a number.
        """
        if self.name not in logs:
            missing = self.name.startswith("val_") and not any(name.startswith("val_") for name in logs)
            hint = "; fit has no validation_data" if missing else ""
            raise InputError(f"{self.who}: {self.name!r} is not one of the logs {', '.join(logs)}{hint}")
        value = logs[self.name]
        if not isinstance(value, numbers.Real):
            raise InputError(f"{self.who}: {self.name!r} is not a number; watch a log value that is one")
        value = float(value)
        if not self._sign * value > self._sign * self.best + self.min_delta:
            return False
        self.best = value
        return True
