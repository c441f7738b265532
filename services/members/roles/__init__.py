"""Roles: who holds which one in which unit, since when and until when; and the officers of a unit."""
