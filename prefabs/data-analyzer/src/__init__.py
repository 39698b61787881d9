"""Describe tables of data."""
