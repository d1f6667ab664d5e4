"""Fencing: the pure flow, the drivers that reach devices, the executor that runs one with the others."""
