"""Placement: which group each member has a seat in, and who waits for a unit."""
