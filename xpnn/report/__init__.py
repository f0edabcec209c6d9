"""Figures of runs, and a page that shows everything about them.

Figures are drawn by matplotlib: loss and error; predictions for sample images, or against true numbers.
"""

from xpnn.report.curves import history_figure, plot_history
from xpnn.report.numbers import numbers_figure, plot_numbers
from xpnn.report.page import write_report
from xpnn.report.pictures import check_drawable
from xpnn.report.predictions import choose_samples, plot_samples, samples_figure

__all__ = [
    "check_drawable",
    "choose_samples",
    "history_figure",
    "numbers_figure",
    "plot_history",
    "plot_numbers",
    "plot_samples",
    "samples_figure",
    "write_report",
]
