"""Tracking: callers read which notifications there are, in which state, and why."""
