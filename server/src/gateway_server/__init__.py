"""The gateway between agents and prefabs."""

__version__ = "1.1.0"
