"""Translate text."""
