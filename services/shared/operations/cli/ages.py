"""Ages as operators write them: `90s`, `15m`, `2h`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta

_AGE = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def age(text: str) -> timedelta:
    """Parse an age. Raises: `ValueError` for anything else."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise ValueError("an age is a number and s, m, h or d, such as 90s or 2h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
