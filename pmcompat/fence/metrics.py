"""The events of executors as Prometheus metrics: operations, commands, and what every host and agent said last.

What lives here: names, labels and numbers. A :class:`Metrics` is a listener like any other: nothing depends on it. Labels are
names of hosts, types of agents and words of the model; no label carries an address, a user or an option, so none can carry a
secret (law F10). Needs ``prometheus_client`` (``pip install 'pmcompat[serve]'``).
"""

from __future__ import annotations

import math
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, write_to_textfile

from pmcompat.fence.commands import Answer
from pmcompat.fence.events import Answered, Began, Event, Finished, Noticed
from pmcompat.model import AgentFault, Outcome, PowerStatus

#: upper ends of the histograms' buckets, seconds: a command is a packet or a login, an operation waits for a device
COMMAND_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
OPERATION_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_POWER = {PowerStatus.ON: 1.0, PowerStatus.OFF: 0.0, PowerStatus.UNKNOWN: math.nan}


class Metrics:
    """Hears events (``FenceExecutor(on_event=Metrics())``) and counts them.

    One may hear several executors, of several threads.

    :param registry: where the metrics are registered; None: a registry of their own, :attr:`registry`.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"pmcompat_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"pmcompat_{name}", text, labels, registry=self.registry)

        def seconds(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"pmcompat_{name}_seconds", text, labels, registry=self.registry, buckets=buckets)

        self._operations = counter("operations", "Operations that ended, by result.", "operation", "result")
        self._lasted = seconds("operation", "Acceptance to outcome of an operation.", OPERATION_SECONDS, "operation")
        self._under_way = gauge("operations_under_way", "Operations accepted and not ended.", "operation")
        self._commands = counter("commands", "Commands given to agents, by answer.", "type", "action", "answer")
        self._took = seconds("command", "Sending to answer of a command.", COMMAND_SECONDS, "type", "action")
        self._remarks = counter("remarks", "Conclusions: a level failed, a later agent used.", "conclusion")
        self._power = gauge("host_power", "Power of a host when last asked: 1 on, 0 off, NaN unknown.", "host")
        self._reached = gauge("agent_reached", "Whether an agent did what it was last asked.", "host", "order", "type")
        self._ended = gauge("host_operation_time_seconds", "When a host's last operation ended, Unix time.", "host")

    def __call__(self, event: Event) -> None:
        """Count *event*."""
        operation = event.request.operation.value
        match event:
            case Began():
                self._under_way.labels(operation).inc()
            case Answered(agent=agent, action=action, answer=answer, took=took):
                self._commands.labels(agent.type or "", action.value, _word(answer)).inc()
                self._took.labels(agent.type or "", action.value).observe(took)
            case Noticed(remark=remark):
                self._remarks.labels(remark.conclusion.value).inc()
            case Finished(outcome=outcome, at=at):
                self._under_way.labels(operation).dec()
                result = "degraded" if outcome.succeeded and outcome.degraded else outcome.word
                self._operations.labels(operation, result).inc()
                self._lasted.labels(operation).observe(at)
                self._note(event.request.host.name, outcome)

    def _note(self, host: str, outcome: Outcome) -> None:
        self._power.labels(host).set(_POWER[outcome.power])
        self._ended.labels(host).set_to_current_time()
        for result in outcome.agents:
            if result.asked is not None:
                self._reached.labels(host, str(result.agent.order), result.agent.type or "").set(result.reached)

    def text(self) -> str:
        """Return everything in Prometheus' text exposition format."""
        return generate_latest(self.registry).decode()

    def write(self, path: Path) -> None:
        """Write :meth:`text` to *path* in one step, for node_exporter's textfile collector.

        :raises OSError: it cannot be written; what was there is left as it was.
        """
        write_to_textfile(str(path), self.registry)


def _word(answer: Answer) -> str:
    match answer:
        case PowerStatus() as power:
            return power.value
        case AgentFault(kind=kind):
            return kind.value
        case _:
            return "accepted"
