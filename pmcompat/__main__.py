"""``python -m pmcompat`` is the ``pmcompat`` command."""

from pmcompat.cli import main

main()
