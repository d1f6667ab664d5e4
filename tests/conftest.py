"""What the project's own tests share beyond the plugin: how Hypothesis runs here."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

# the example database belongs to what git ignores, also where pytest is not started by make
set_hypothesis_home_dir(
    os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", Path(__file__).resolve().parent.parent / ".venv/hypothesis")
)

# no deadline: the machine may be busy; examples of databases and processes are slow to make
settings.register_profile("pmcompat", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pmcompat")
