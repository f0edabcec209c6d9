"""What some callbacks watch: one number of the logs, and which way it is better."""

from __future__ import annotations

import math
import numbers
import re

from xpnn.errors import InputError
from xpnn.training.history import Logs
from xpnn.validation import as_float, one_of

MODES = ("auto", "min", "max")
DOWN = re.compile(r"(loss|error|mae|mse|rmse)$")
UP = re.compile(r"(accuracy|precision|recall|f1|f1_score|r2|r2_score|auc)$|(^|_)top_\w+$")


class Monitor:
    """One log that is watched, and its best value so far.

    who        the callback, for the messages
    name       of the log
    mode       "min" or "max" is better; "auto": as the name says (a loss or an error down, an accuracy up)
    min_delta  a value is better only if it is by more than this

    Raises InputError for a mode that is none, and for a name that does not say which way is better.
    """

    def __init__(self, who: str, name: str, mode: str, min_delta: float = 0.0) -> None:
        self.who, self.name = who, name
        self.min_delta = as_float(f"{who}: min_delta", min_delta)
        if not self.min_delta >= 0:
            raise InputError(f"{who}: min_delta is {min_delta!r}; expected a number of at least 0")
        if one_of(f"{who}: mode", mode, MODES) == "auto":
            if not DOWN.search(name) and not UP.search(name):
                raise InputError(
                    f"{who}: whether more {name!r} is better, its name does not say; give mode='min' or 'max'"
                )
            mode = "min" if DOWN.search(name) else "max"
        self._sign = 1 if mode == "max" else -1
        self.forget()

    def forget(self) -> None:
        """Start afresh: any number is better."""
        self.best = -self._sign * math.inf

    def improves(self, logs: Logs) -> bool:
        """Whether this epoch is the best so far; its value is kept if so. NaN never is.

        Raises InputError where the logs do not hold the name, or hold no number under it.
        """
        if self.name not in logs:
            missing = self.name.startswith("val_") and not any(name.startswith("val_") for name in logs)
            hint = "; fit was given no validation_data" if missing else ""
            raise InputError(f"{self.who}: {self.name!r} is not one of the logs {', '.join(logs)}{hint}")
        value = logs[self.name]
        if not isinstance(value, numbers.Real):
            raise InputError(f"{self.who}: {self.name!r} is not one number, so there is no best of it")
        value = float(value)
        if not self._sign * value > self._sign * self.best + self.min_delta:
            return False
        self.best = value
        return True
