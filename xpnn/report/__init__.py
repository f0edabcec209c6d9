"""Figures of a training run, drawn by matplotlib: curves of loss and error, and predictions for sample images."""

from xpnn.report.curves import history_figure, plot_history
from xpnn.report.pictures import check_drawable
from xpnn.report.predictions import choose_samples, plot_samples, samples_figure

__all__ = ["check_drawable", "choose_samples", "history_figure", "plot_history", "plot_samples", "samples_figure"]
