"""Many hosts of which some have silent devices, under the real command: the good ones pay nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safety
from rig import Rig, needs_ipmi_sim, site_of

pytestmark = [pytest.mark.needs_ipmi_sim, needs_ipmi_sim]

#: of 40 devices 2 are silent: 5 %
HOSTS, SILENT = 20, 2


def test_silent_devices_cost_the_good_hosts_nothing(pm_database: Any, tmp_path: Path, record_property: Any) -> None:
    with Rig(tmp_path) as rig:
        hosts = [rig.dual(f"h{i}") for i in range(HOSTS)]
        site = site_of(pm_database("3.1.0", hosts=HOSTS, upgraded=True), rig, hosts)
        code, runs = site.run_many("stop", hosts)
        assert code == 0
        safety.check(runs)
        assert {power for host in hosts for power in host.powers()} == {"off"}
        assert site.run_many("start", hosts)[0] == 0
        code, runs = site.run_many("stop", hosts)
        without = slowest(runs)
        site.run_many("start", hosts)
        for host in hosts[:SILENT]:
            host.supplies[0].sim.freeze()
        code, runs = site.run_many("stop", hosts)
        safety.check(runs)
        assert code == 4, "unreachable, and nothing was sent"
        assert not any(run.succeeded or run.told() for run in runs[:SILENT])
        assert all(run.succeeded for run in runs[SILENT:])
        assert all(host.powers() == ["off", "off"] for host in hosts[SILENT:])
        record_property("slowest good host", f"{without:.3f} s without, {slowest(runs[SILENT:]):.3f} s with silent devices")
        assert slowest(runs[SILENT:]) < 1.5 * without + 0.5, "the half second is the noise of a machine that runs other tests"


def slowest(runs: list[safety.Run]) -> float:
    return max(run.report["seconds"] for run in runs if run.report is not None)
