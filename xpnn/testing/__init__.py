"""Checks of layers, losses and optimizers, one's own among them: the machinery of `xpnn check`."""

from xpnn.testing.checks import check_layer, check_loss, check_optimizer
from xpnn.testing.report import PlaceReport, Report

__all__ = ["PlaceReport", "Report", "check_layer", "check_loss", "check_optimizer"]
