"""Runs the functions of one prefab version in processes of their own. Standard library only."""

__version__ = "1.1.0"
