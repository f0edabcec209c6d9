"""Pictures of a run: how its loss and error went, and what it makes of sample images; drawn by matplotlib, if asked."""

from xpnn.report.curves import history_figure, plot_history
from xpnn.report.pictures import check_drawable
from xpnn.report.predictions import choose_samples, plot_samples, samples_figure

__all__ = ["check_drawable", "choose_samples", "history_figure", "plot_history", "plot_samples", "samples_figure"]
