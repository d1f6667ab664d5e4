"""XML forms of power management: documents ⇄ values and bytes. No sockets, no database."""
