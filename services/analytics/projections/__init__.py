"""Projections: each kind of subject has one, which turns events into facts and facts into counters."""
