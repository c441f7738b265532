"""The runner's own error, shown as one line for a person, never as a traceback."""

from __future__ import annotations


class LocalError(Exception):
    """A problem that the user can fix; the message says what and how."""
