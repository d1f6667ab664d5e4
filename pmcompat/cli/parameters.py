"""Options that several commands share, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

DATABASE = "Database"
CREDENTIALS = "Credentials"

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="postgresql:// URL or key=value list, without a password; unset, libpq's PG* variables.",
        rich_help_panel=DATABASE,
    ),
]
Schema = Annotated[
    str,
    typer.Option("--schema", metavar="NAME", help="Schema that holds vds_static.", rich_help_panel=DATABASE),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on one line (one line per host or item).")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")]
Profile = Annotated[
    str,
    typer.Option("--profile", metavar="3.1|3.2|3.3|3.4|3.5|3.6", help="API version whose element order and rules hold."),
]
Cipher = Annotated[
    str | None,
    typer.Option(
        "--cipher",
        metavar="engine|fernet|plain",
        help="How agents' passwords are stored.",
        rich_help_panel=CREDENTIALS,
    ),
]
Cert = Annotated[
    str | None,
    typer.Option(
        "--cert", metavar="FILE", help="The engine's certificate: enough to store passwords.", rich_help_panel=CREDENTIALS
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The engine's private key or keystore, or a file of Fernet keys, newest first.",
        rich_help_panel=CREDENTIALS,
    ),
]
