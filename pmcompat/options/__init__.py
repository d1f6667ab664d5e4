"""Option strings and what they mean per agent type.

What lives here, standard library only:

* :mod:`~pmcompat.options.text`: the string ⇄ pairs, without loss; edits by exact key;
* :mod:`~pmcompat.options.tables`: what each type is at each profile, or by a live engine's own settings;
* :mod:`~pmcompat.options.parameters`: an agent as a driver needs it; the wait it needs after ``on`` and ``off``;
* :mod:`~pmcompat.options.form`: shown keys, and the fields of the form.

No I/O; every value may be shared between threads.
"""

from __future__ import annotations

from pmcompat.options.form import Form, read_form, shown_fields, to_agent_keys, to_shown_keys, write_form
from pmcompat.options.parameters import DRIVERS, Parameters, boolean, minimum_wait, parameters
from pmcompat.options.tables import IPMI_TYPES, LEVELS, NEWEST, SETTINGS, Tables, is_type, tables_of, types
from pmcompat.options.text import (
    Pair,
    Pairs,
    canonical,
    field_of,
    get,
    is_secret_option,
    join,
    masked,
    parse,
    remove,
    set_option,
    with_default,
)

__all__ = [
    "DRIVERS",
    "IPMI_TYPES",
    "LEVELS",
    "NEWEST",
    "SETTINGS",
    "Form",
    "Pair",
    "Pairs",
    "Parameters",
    "Tables",
    "boolean",
    "canonical",
    "field_of",
    "get",
    "is_secret_option",
    "is_type",
    "join",
    "masked",
    "minimum_wait",
    "parameters",
    "parse",
    "read_form",
    "remove",
    "set_option",
    "shown_fields",
    "tables_of",
    "to_agent_keys",
    "to_shown_keys",
    "types",
    "with_default",
    "write_form",
]
