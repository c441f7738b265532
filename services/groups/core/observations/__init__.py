"""Observations: who really is in a chat group, beside who should be."""
