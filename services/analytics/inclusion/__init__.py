"""Inclusion: how many women are connected, how that has changed, and where the next effort gains most."""
