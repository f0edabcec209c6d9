"""The report: one page that shows runs, without scripts from elsewhere and without the network."""

from xpnn.report.page.write import write_report

__all__ = ["write_report"]
