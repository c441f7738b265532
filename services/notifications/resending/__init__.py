"""Resending what has failed: one notification, or all of a unit that failed for one reason."""
