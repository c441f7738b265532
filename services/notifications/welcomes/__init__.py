"""Welcomes: one message to each member who joined, made and kept in line with what the events say."""
