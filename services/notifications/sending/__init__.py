"""Sending: claims due notifications, composes their messages, hands them over and records the results."""
