"""The command line: parsing and printing only, one function per sub-command."""
