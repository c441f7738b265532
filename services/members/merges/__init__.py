"""Merges: two records of one person become one member, and can be parted again."""
