"""What the runner says when it cannot go on: one line for a person, never a traceback."""

from __future__ import annotations


class LocalError(Exception):
    """Something the person at the keyboard can mend; the message says what and how."""
