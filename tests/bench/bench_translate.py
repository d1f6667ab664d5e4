"""Measure the translator beside lxml's parse and serialize, and beside XSLT through lxml, in one run.

``python tests/bench/bench_translate.py`` takes about two minutes; ``--full`` adds the 600 MB document and a million hosts
(2 GB of temporary files, 8 GB of memory for the tree tools; without them ``--no-peers``). Every figure of a large document
is a whole process: start-up, reading and writing included. Peers run in turn with us, and the median of the ratios counts:
the machine may be busy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pmcompat

#: beside what make installed: nothing is left in the checkout
PLOT = Path(__file__).resolve().parents[2] / ".venv/bench_translate.png"
HOST = (
    '  <host id="{i}" href="/api/hosts/{i}">\n    <name>h{i}</name><address>h{i}.lab</address>\n'
    '    <status><state>up</state></status><cluster id="c1" href="/api/clusters/c1"/><port>54321</port><type>rhel</type>\n'
    '    <storage_manager priority="5">false</storage_manager>\n'
    '    <power_management type="apc"><enabled>true</enabled><address>pdu{i}</address><username>op</username>\n'
    '      <options><option name="port" value="7"/><option name="secure" value="false"/></options></power_management>\n'
    "    <ksm><enabled>true</enabled></ksm><transparent_hugepages><enabled>true</enabled></transparent_hugepages>\n"
    "{rest}"
    "    <summary><active>1</active><migrating>0</migrating><total>3</total></summary>\n  </host>\n"
)
STATISTIC = (
    '      <statistic id="s{n}" href="/api/hosts/x/statistics/s{n}"><name>memory.{n}</name><values type="INTEGER"><value>'
    "<datum>8589934592</datum></value></values><type>GAUGE</type><unit>BYTES</unit></statistic>\n"
)
REST = "    <statistics>\n" + "".join(STATISTIC.format(n=n) for n in range(10)) + "    </statistics>\n"
#: a straightforward style sheet from flat to agents; it preserves no bytes
XSLT = """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:template match="@*|node()"><xsl:copy><xsl:apply-templates select="@*|node()"/></xsl:copy></xsl:template>
<xsl:template match="host/power_management[address|username|password|options][not(agents/agent)]">
 <xsl:copy><xsl:apply-templates select="@*|enabled|status|pm_proxies"/>
  <agents><agent><xsl:copy-of select="@type"/><xsl:copy-of select="address|username|password|options"/>
   <order>1</order></agent></agents>
  <xsl:apply-templates select="automatic_pm_enabled|kdump_detection"/></xsl:copy>
</xsl:template></xsl:stylesheet>"""
TREE = (
    "import sys\nfrom lxml import etree as E\n"
    "E.parse(sys.argv[1], E.XMLParser(huge_tree=True)).write(sys.argv[2], encoding='UTF-8', xml_declaration=True)"
)
STYLE = (
    "import sys\nfrom lxml import etree as E\nsheet = E.XSLT(E.XML(sys.argv[3]))\n"
    "sheet(E.parse(sys.argv[1], E.XMLParser(huge_tree=True))).write(sys.argv[2], encoding='UTF-8', xml_declaration=True)"
)


def document(path: Path, hosts: int, rest: str = REST) -> int:
    """Write a <hosts> document; return its size in bytes."""
    with path.open("w") as stream:
        stream.write('<?xml version="1.0" encoding="UTF-8"?>\n<hosts>\n')
        for i in range(hosts):
            stream.write(HOST.format(i=i, rest=rest))
        stream.write("</hosts>\n")
    return path.stat().st_size


def run(*command: object) -> tuple[float, float]:
    """Return the seconds and the peak megabytes of one process."""
    begun = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def ours(source: Path, target: Path) -> tuple[float, float]:
    program = "from pmcompat.cli import main; main()"
    return run(sys.executable, "-c", program, "xml", "translate", "--to", "agents", source, "-o", target)


def large(work: Path, hosts: int, *, peers: bool, rounds: int = 3) -> dict[str, object]:
    """Whole processes over one document, in turn."""
    source, target = work / "in.xml", work / "out.xml"
    size = document(source, hosts) / 1e6
    seconds: dict[str, list[float]] = {"pmcompat": [], "lxml": [], "xslt": []}
    peak: dict[str, float] = {}
    for _ in range(rounds):
        for name, wall, megabytes in (
            ("pmcompat", *ours(source, target)),
            *((("lxml", *run(sys.executable, "-c", TREE, source, target)),) if peers else ()),
            *((("xslt", *run(sys.executable, "-c", STYLE, source, target, XSLT)),) if peers else ()),
        ):
            seconds[name].append(wall)
            peak[name] = max(peak.get(name, 0), megabytes)
    figures = {
        name: {
            "seconds": round(statistics.median(walls), 2),
            "MB/s": round(size / statistics.median(walls)),
            "peak MB": round(peak[name]),
        }
        for name, walls in seconds.items()
        if walls
    }
    ratios = {
        f"x {name}": _ratio(walls, seconds["pmcompat"]) for name, walls in seconds.items() if walls and name != "pmcompat"
    }
    return {"MB": round(size), "hosts": hosts, **figures, **ratios}


def _ratio(peer: list[float], own: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(peer, own, strict=True)), 2)


def small(rounds: int = 3000) -> dict[str, object]:
    """One host of about 3 kB, within a process: milliseconds at p50 and p99."""
    from lxml import etree

    raw = HOST.format(i=1, rest=REST).strip().encode()
    sheet = etree.XSLT(etree.XML(XSLT))
    ways: dict[str, Callable[[], object]] = {
        "pmcompat": lambda: pmcompat.translate(raw, to="agents"),
        "lxml": lambda: etree.tostring(etree.fromstring(raw), encoding="UTF-8"),
        "xslt": lambda: etree.tostring(sheet(etree.fromstring(raw)), encoding="UTF-8"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter_ns()
            way()
            times[name].append((time.perf_counter_ns() - begun) / 1e6)
    figures: dict[str, object] = {"bytes": len(raw)}
    for name, found in times.items():
        cuts = statistics.quantiles(found, n=100)
        figures[name] = {"p50 ms": round(cuts[49], 4), "p99 ms": round(cuts[98], 4)}
    figures["x xslt"] = round(statistics.median(times["xslt"]) / statistics.median(times["pmcompat"]), 2)
    return figures


def linear(work: Path, counts: list[int]) -> list[dict[str, float]]:
    """Cost over the number of hosts; small hosts, so that their number counts."""
    found = []
    for count in counts:
        size = document(work / "in.xml", count, rest="")
        wall, megabytes = min(ours(work / "in.xml", work / "out.xml") for _ in range(2))
        found.append({"hosts": count, "MB": round(size / 1e6, 1), "seconds": round(wall, 2), "peak MB": round(megabytes)})
    return found


def plot(found: list[dict[str, float]], target: Path) -> bool:
    """Draw the linearity; False where no matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib import pyplot as plt

    plt.loglog([row["hosts"] for row in found], [row["seconds"] for row in found], "o-")
    plt.xlabel("hosts")
    plt.ylabel("seconds, whole process")
    plt.savefig(target)
    return True


def main() -> None:
    """Run what was asked for and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="600 MB and a million hosts as well")
    parser.add_argument("--no-peers", action="store_true", help="leave lxml out of the 600 MB run")
    parser.add_argument("--png", type=Path, default=PLOT, help=f"where the plot goes (default {PLOT})")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pmcompat-bench-") as name:
        work = Path(name)
        print(json.dumps({"one host": small()}), flush=True)
        print(json.dumps({"60 MB": large(work, 22_000, peers=True)}), flush=True)
        if chosen.full:
            print(json.dumps({"600 MB": large(work, 220_000, peers=not chosen.no_peers, rounds=1)}), flush=True)
        found = linear(work, [1000, 10_000, 100_000, *([1_000_000] if chosen.full else [])])
        print(json.dumps({"linear": found}), flush=True)
        if chosen.png and not plot(found, chosen.png):
            print("no plot: matplotlib is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
