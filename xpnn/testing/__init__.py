"""Checks of layers, losses and optimizers, also of custom ones: the machinery of `xpnn check`.

`check_layer`, `check_loss` and `check_optimizer` compare a part with finite differences and with itself on every array
library and device of this machine. `xpnn.testing.cases` has an example of every public layer, loss, optimizer, schedule
and metric.
"""

from xpnn.testing.checks import check_layer, check_loss, check_optimizer
from xpnn.testing.report import PlaceReport, Report

__all__ = ["PlaceReport", "Report", "check_layer", "check_loss", "check_optimizer"]
