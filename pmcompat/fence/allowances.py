"""How long the commands of each driver may take: one table, and the patience an executor has unless told otherwise.

What lives here: numbers per driver. Waiting for devices to reach a state is not here: that is the agent's own minimum
(:func:`pmcompat.options.minimum_wait`) and the timing of DESIGN §3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pmcompat.errors import PmcompatError
from pmcompat.fence.flow import Patience, Timing
from pmcompat.fence.remembered import Remembered
from pmcompat.model import Agent
from pmcompat.options import minimum_wait, parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """Seconds that commands of one driver may take."""

    #: one command, login included
    command: float
    #: the first status read: whoever takes longer counts as not answering, and its level is put behind those that do
    look: float


ALLOWANCES: dict[str, Allowance] = {
    # a session over a lossy network needs several tries; a BMC that answers at all does so within a second
    "ipmi": Allowance(command=8.0, look=1.5),
    # an interpreter has to start, and a PDU's telnet or ssh login takes seconds (facts §8.4)
    "fence_agents": Allowance(command=20.0, look=5.0),
    "simulated": Allowance(command=8.0, look=1.5),
}
_UNKNOWN_DRIVER = Allowance(command=20.0, look=5.0)


def driver_name(agent: Agent) -> str:
    """Return the name of the driver that reaches *agent*.

    :raises ModelError: the agent's type or options are not clear, or its wait is none: a driver never sees that one, and an
        off that is looked at too soon may be followed by an on of the device's own (field failure B-46).
    """
    minimum_wait(agent)
    return parameters(agent).driver


def _minimum(agent: Agent) -> float:
    try:
        return minimum_wait(agent)
    except PmcompatError:  # driver_name says what is wrong with its options
        return 0.0


def patience(
    *,
    start: Timing | None = None,
    stop: Timing | None = None,
    fixed_polls: bool = False,
    keep_order: bool = False,
    choose: Callable[[Agent], str] = driver_name,
) -> Patience:
    """Return the patience that fits the drivers of this installation."""

    def allowance(agent: Agent) -> Allowance:
        try:
            return ALLOWANCES.get(choose(agent), _UNKNOWN_DRIVER)
        except PmcompatError:
            return _UNKNOWN_DRIVER

    known = Remembered(allowance)
    return Patience(
        start=start or Timing(),
        stop=stop or Timing(),
        fixed_polls=fixed_polls,
        keep_order=keep_order,
        minimum=Remembered(_minimum),
        command=lambda agent: known(agent).command,
        look=lambda agent: known(agent).look,
    )
