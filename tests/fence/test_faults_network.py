"""A dual-supply restart through networks that drop, duplicate, delay and reorder, under the real command.

One process restarts a host for each weather, side by side. Never a false success; what is said is so; and once the weather is
fair again, everything can be put right. Judged by :mod:`safety`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safety
from peers.udp_proxy import UdpProxy, Weather, udp_proxy
from rig import Rig, RigHost, Site, needs_ipmi_sim, rig, site_of  # noqa: F401 - a fixture too

pytestmark = [pytest.mark.needs_ipmi_sim, needs_ipmi_sim]

SHARES = (0.01, 0.10, 0.30)
KINDS = ("drop", "duplicate", "delay", "reorder")
WEATHERS = {f"{kind}-{share:.0%}": Weather(**{kind: share}) for kind in KINDS for share in SHARES}
#: copies of one command that the driver sends where no answer comes, beyond the first
RESENDS = 2


def restart_in_all_weathers(database: Any, rig: Rig, seed: int, *settings: str) -> list[str]:  # noqa: F811 - the fixture
    """Restart one host per weather, then put right what failed; return a line for each."""
    with contextlib.ExitStack() as stack:
        hosts, proxies = [], []
        for number, (name, weather) in enumerate(WEATHERS.items()):
            host = rig.dual(name.replace("%", ""), settle=0.1)
            for supply in host.supplies:
                proxy = stack.enter_context(udp_proxy(supply.sim.port, replace(weather), seed=1000 * seed + number))
                supply.port = proxy.port
                proxies.append(proxy)
            hosts.append(host)
        site = site_of(database, rig, hosts)
        code, runs = site.run_many("restart", hosts, *settings)
        for run in runs:
            safety.check(run, resends=RESENDS)
        failed = [run for run in runs if not run.succeeded]
        assert (code == 0) == (not failed), f"exit {code}\n" + "\n".join(map(str, failed))
        put_right(site, hosts, runs, proxies)
        return [told(host, run) for host, run in zip(hosts, runs, strict=True)]


def told(host: RigHost, run: safety.Run) -> str:
    assert run.report is not None
    how = "done" if run.succeeded else f"{run.report['stage']}, power {run.report['power']}, {run.report.get('ended_by')}"
    return f"{host.name}: {how} after {run.report['seconds']:.2f} s, {[entry.power for entry in run.told()]}"


def put_right(site: Site, hosts: list[RigHost], runs: list[safety.Run], proxies: list[UdpProxy]) -> None:
    """In fair weather ``host resume`` gives every host its power back, ``host start`` those that were said to be degraded."""
    for proxy in proxies:
        proxy.weather = Weather()
    dark = [(host, run) for host, run in zip(hosts, runs, strict=True) if "off" in host.powers()]
    for verb, succeeded in (("resume", False), ("start", True)):
        left = [(host, run) for host, run in dark if run.succeeded is succeeded]
        assert all(run.report and run.report["degraded"] for _, run in left if succeeded), "\n".join(
            str(run) for _, run in left
        )
        if left:
            _, righting = site.run_many(verb, [host for host, _ in left])
            for run in righting:
                safety.check(run)
            told_first = "\n".join(str(run) for _, run in left)
            assert all(host.powers() == ["on", "on"] for host, _ in left), told_first + "\n".join(map(str, righting))


def test_bad_weather_delays_a_restart_but_never_makes_it_lie(
    pm_database: Any,
    rig: Rig,  # noqa: F811 - the fixture
    record_property: Any,
) -> None:
    """Twelve weathers once."""
    database = pm_database("3.1.0", hosts=12, upgraded=True)
    lines = restart_in_all_weathers(database, rig, 1, "--retries", "21", "--deadline", "7")
    record_property("restarts", lines)
    assert sum(": done" in line for line in lines) >= 9, "\n".join(lines)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 120))
def test_bad_weather_never_makes_a_restart_lie(pm_database: Any, tmp_path: Path, seed: int, record_property: Any) -> None:
    with Rig(tmp_path) as many:
        database = pm_database("3.1.0", hosts=12, upgraded=True)
        lines = restart_in_all_weathers(database, many, seed, "--retries", "61", "--deadline", "60")
        record_property("restarts", lines)
