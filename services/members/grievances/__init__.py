"""Grievances: what somebody complains of, and by when they have an answer."""
