"""A plugin of pytest that reports each failure when it happens, for a run that may be stopped: -p failures_at_once."""

from __future__ import annotations

import os

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:  # the main process gets the reports of all workers
        print(f"\n____ {report.nodeid} ____\n{report.longreprtext}\n====", flush=True)
