"""What the project's own tests share beyond the plugin: how Hypothesis runs here, and that nothing skips in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

# the example database belongs to what git ignores, also where pytest is not started by make
set_hypothesis_home_dir(
    os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", Path(__file__).resolve().parent.parent / ".venv/hypothesis")
)

# a shell that starts the tests in the background hands down an ignored SIGINT, and every child would inherit it;
# a handler of our own becomes the default again at exec
signal.signal(signal.SIGINT, signal.default_int_handler)

# no deadline: the machine may be busy; examples of databases and processes are slow to make
settings.register_profile("pmcompat", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pmcompat")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what skips for a part that could be installed, where ``PMCOMPAT_NOTHING_SKIPS`` says that all parts are here."""
    report = yield
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    if report.skipped and "PMCOMPAT_NOTHING_SKIPS" in os.environ and ("apt-get install" in reason or "pip install" in reason):
        report.outcome = "failed"
        report.longrepr = f"{reason} -- nothing may skip here: .ci/run installs it"
    return report
