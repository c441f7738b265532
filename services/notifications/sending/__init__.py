"""Sending: takes notifications that are due, composes their messages, hands them to a sender, records the result."""
