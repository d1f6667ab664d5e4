"""What tests of pmcompat, and of programs that use it, share: databases, racks and BMCs as pytest fixtures.

The fixtures stand in :mod:`pmcompat.testing.plugin`, which pytest loads by itself where pmcompat is installed. Nothing here
imports pytest: the demo starts its BMCs from this package on machines that have none.
"""

#: for those who load the fixtures by name: ``pytest_plugins = ["pmcompat.testing"]``
pytest_plugins = ["pmcompat.testing.plugin"]
