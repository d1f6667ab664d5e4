"""Read the engine's own settings (``vdc_options``) that pmcompat follows. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pmcompat.errors import ConfigurationError

#: option name → field of FenceTimings (database facts §6.1)
FENCE_OPTIONS = {
    "FenceStartStatusRetries": "start_retries",
    "FenceStartStatusDelayBetweenRetriesInSec": "start_delay",
    "FenceStopStatusRetries": "stop_retries",
    "FenceStopStatusDelayBetweenRetriesInSec": "stop_delay",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FenceTimings:
    """How often and how long the engine waits for a confirmation; delays in seconds.

    The defaults are those of oVirt 3.3 (18 queries, 10 s apart), used where an option is absent.
    """

    start_retries: int = 18
    start_delay: int = 10
    stop_retries: int = 18
    stop_delay: int = 10


def fence_timings(conn: psycopg.Connection[Any], *, schema: str = "public") -> FenceTimings:
    """Return the four ``Fence*`` options of version ``general``; of several rows for one option the oldest counts.

    :raises ConfigurationError: a value is not a positive whole number.
    """
    query = sql.SQL(
        "SELECT DISTINCT ON (option_name) option_name, option_value FROM {} "
        "WHERE option_name = ANY(%s) AND version = 'general' ORDER BY option_name, option_id"
    ).format(sql.Identifier(schema, "vdc_options"))
    found: dict[str, int] = {}
    for name, value in conn.execute(query, [list(FENCE_OPTIONS)]):
        if not value.strip().isascii() or not value.strip().isdigit() or int(value) < 1:
            raise ConfigurationError(
                f"the engine's option {name} is not a positive whole number",
                why=f"vdc_options holds {value!r}",
                state="nothing was done",
                fix="correct the row in vdc_options, or give --retries and --delay",
            )
        found[FENCE_OPTIONS[name]] = int(value)
    return FenceTimings(**found)


def quiet_time(conn: psycopg.Connection[Any], *, schema: str = "public") -> float:
    """Return the engine's ``FenceQuietTimeBetweenOperationsInSec``, seconds; 0 where the option is absent.

    :raises ConfigurationError: the value is not a whole number.
    """
    query = sql.SQL(
        "SELECT option_value FROM {} WHERE option_name = 'FenceQuietTimeBetweenOperationsInSec' AND version = 'general' "
        "ORDER BY option_id LIMIT 1"
    ).format(sql.Identifier(schema, "vdc_options"))
    found = conn.execute(query).fetchone()
    if found is None:
        return 0.0
    if not found[0].strip().isascii() or not found[0].strip().isdigit():
        raise ConfigurationError(
            "the engine's option FenceQuietTimeBetweenOperationsInSec is not a whole number",
            why=f"vdc_options holds {found[0]!r}",
            state="nothing was done",
            fix="correct the row in vdc_options, or give --quiet-time",
        )
    return float(found[0])
