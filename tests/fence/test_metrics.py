"""The executor's events as Prometheus metrics: what is counted is what happened, and no label holds a secret."""

from __future__ import annotations

import dataclasses
import math
import threading

import pytest
import stage
from prometheus_client.parser import text_string_to_metric_families

from pmcompat.fence.metrics import Metrics
from pmcompat.model import Host, Operation, Options, Secret


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of the text, as a scraper reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"pmcompat_{name}", frozenset(labels.items())))


def heard(host: Host, operation: Operation, rack: stage.Rack, metrics: Metrics) -> None:
    async def scene() -> None:
        async with stage.executor(rack, on_event=metrics) as executor:
            async for _ in executor.amany(operation, [host]):
                pass

    stage.run(scene())


def test_a_restart_is_counted_with_every_command_it_gave() -> None:
    host, metrics = stage.dual("kv"), Metrics()
    rack = stage.rack_of(host)
    heard(host, Operation.RESTART, rack, metrics)
    executed = [action for _, action in stage.executed(rack)]
    for action in ("on", "off"):
        given = value(metrics, "commands_total", type="ipmilan", action=action, answer="accepted")
        assert given == executed.count(action) == 2
        assert value(metrics, "command_seconds_count", type="ipmilan", action=action) == 2
    assert value(metrics, "operations_total", operation="restart", result="succeeded") == 1
    assert value(metrics, "operation_seconds_count", operation="restart") == 1
    assert value(metrics, "operations_under_way", operation="restart") == 0
    assert value(metrics, "host_power", host="kv") == 1
    assert value(metrics, "agent_reached", host="kv", order="1", type="ipmilan") == 1


def test_a_dead_primary_is_seen_at_its_agent_and_among_the_remarks() -> None:
    host, metrics = stage.host(stage.agent("dead"), stage.agent("well", 2)), Metrics()
    rack = stage.rack_of(host)
    rack.break_device("dead", unreachable=True)
    heard(host, Operation.STOP, rack, metrics)
    assert value(metrics, "commands_total", type="ipmilan", action="status", answer="unreachable") == 1
    assert value(metrics, "remarks_total", conclusion="later agent used") == 1
    assert value(metrics, "agent_reached", host=host.name, order="1", type="ipmilan") == 0
    assert value(metrics, "agent_reached", host=host.name, order="2", type="ipmilan") == 1
    assert value(metrics, "host_power", host=host.name) == 0


def test_a_power_nobody_knows_is_neither_on_nor_off() -> None:
    host, metrics = stage.host(stage.agent("dead")), Metrics()
    rack = stage.rack_of(host)
    rack.break_device("dead", unreachable=True)
    heard(host, Operation.STATUS, rack, metrics)
    power = value(metrics, "host_power", host=host.name)
    assert power is not None
    assert math.isnan(power)
    assert value(metrics, "operations_total", operation="status", result="failed") == 1


def test_no_label_holds_what_an_agent_is_entered_with() -> None:
    agent = dataclasses.replace(
        stage.agent("bmc.secret.lab"), username="h1dden", password=Secret("s3cr3t"), options=Options("community=publ1c")
    )
    host, metrics = stage.host(agent), Metrics()
    heard(host, Operation.STATUS, stage.rack_of(host), metrics)
    text = metrics.text()
    assert "pmcompat_operations_total" in text
    for secret in ("bmc.secret.lab", "h1dden", "s3cr3t", "publ1c"):
        assert secret not in text


def test_executors_of_several_threads_share_one_count() -> None:
    metrics = Metrics()
    hosts = [stage.dual(f"h{i}") for i in range(8)]
    threads = [threading.Thread(target=heard, args=(host, Operation.STOP, stage.rack_of(host), metrics)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "operations_total", operation="stop", result="succeeded") == 8
    assert value(metrics, "operations_under_way", operation="stop") == 0


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path) -> None:
    metrics, path = Metrics(), tmp_path / "pmcompat.prom"
    metrics.write(path)
    assert path.read_text() == metrics.text()
    with pytest.raises(OSError, match="No such file"):
        metrics.write(tmp_path / "no" / "pmcompat.prom")
    assert [found.name for found in tmp_path.iterdir()] == ["pmcompat.prom"]
