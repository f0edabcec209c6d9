"""Checks of layers, losses, penalties and optimizers, also of custom ones: the machinery of `xpnn check`.

`check_layer`, `check_loss`, `check_penalty` and `check_optimizer` compare a part with finite differences and with
itself on every array library and device of this machine. `xpnn.testing.cases` has an example of every public layer,
loss, penalty, optimizer, schedule and metric.
"""

from xpnn.testing.checks import check_layer, check_loss, check_optimizer, check_penalty
from xpnn.testing.report import PlaceReport, Report

__all__ = ["PlaceReport", "Report", "check_layer", "check_loss", "check_optimizer", "check_penalty"]
