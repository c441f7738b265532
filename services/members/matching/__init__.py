"""Matching: which members the numbers of a chat group's roster belong to."""
