"""Duplicates: pairs of members who may be one person, suggested in the background for somebody to decide."""
