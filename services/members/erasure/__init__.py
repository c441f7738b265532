"""Erasure of members across the four services, its certificate, and retention of those who left."""
