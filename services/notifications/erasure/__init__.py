"""Erasure: what was written to a member goes, and nothing is written to them any more."""
