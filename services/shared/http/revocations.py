"""The list of revoked tokens: a JSON file that names subjects and token ids, read again when it changes.

    {"revoked": [{"sub": "asha"},
                 {"sub": "ravi", "issued_before": "2026-11-26T22:00:00Z"},
                 {"jti": "01988f6e-..."}]}

A document, and not a line for each entry, so that a file that is only half written is never a shorter list.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from services.shared.http.keys import FileVersion, version_of

_log = structlog.get_logger("sangathan.auth")

MAX_BYTES: Final = 1024 * 1024
MAX_ENTRIES: Final = 10_000
POLL_SECONDS: Final = 1.0
CLAIM: Final = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")
"""The form of `sub` and `jti`: 1 to 255 printable ASCII characters (OpenID Connect Core 1.0, section 2)."""
_FORMS: Final = ({"sub"}, {"jti"}, {"sub", "issued_before"})


class RevocationsError(Exception):
    """The file cannot be read, or is no list of revoked tokens. The message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Revocations:
    """`subjects` maps each to the time (seconds since 1970) before which its tokens were issued; infinity
    revokes all of them."""

    subjects: Mapping[str, float] = field(default_factory=dict)
    token_ids: frozenset[str] = frozenset()

    def cover(self, claims: Mapping[str, Any]) -> bool:
        """Whether the token with these verified claims is revoked. Without `iat` it counts as old."""
        before = self.subjects.get(claims["sub"])
        if before is not None and claims.get("iat", -math.inf) < before:
            return True
        return claims.get("jti") in self.token_ids

    def __len__(self) -> int:
        return len(self.subjects) + len(self.token_ids)


class RevocationList:
    """The list in a file. `current` is None until it has been read; afterwards, the last list that could be
    read stays in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: FileVersion | None = None
        self.current: Revocations | None = None
        self.unreadable = False
        """Whether the last attempt to read the file failed."""

    def refresh(self) -> bool:
        """Read the file if it has changed; whether another list is in force now."""
        try:
            version = version_of(self._path)
            if version == self._seen:
                return False
            self.current = parse_revocations(self._path.read_bytes())
        except (OSError, RevocationsError) as error:
            self._seen, self.unreadable = None, True
            reason = str(error) if isinstance(error, RevocationsError) else type(error).__name__
            _log.error("the list of revoked tokens could not be read", reason=reason, kept=len(self))
            return False
        self._seen, self.unreadable = version, False
        _log.info("the list of revoked tokens was read", entries=len(self))
        return True

    def __len__(self) -> int:
        return len(self.current or ())


def parse_revocations(document: bytes) -> Revocations:
    """Raises: `RevocationsError` for anything that is not exactly such a list."""
    if len(document) > MAX_BYTES:
        raise RevocationsError(f"it has more than {MAX_BYTES} bytes")
    try:
        whole = json.loads(document, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise RevocationsError("it is not JSON") from error
    if not isinstance(whole, dict) or whole.keys() != {"revoked"} or not isinstance(whole["revoked"], list):
        raise RevocationsError('it is not {"revoked": [...]}')
    return _revocations(whole["revoked"])


def _revocations(entries: Sequence[object]) -> Revocations:
    if len(entries) > MAX_ENTRIES:
        raise RevocationsError(f"it has more than {MAX_ENTRIES} entries")
    subjects: dict[str, float] = {}
    token_ids: set[str] = set()
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or entry.keys() not in _FORMS:
            raise RevocationsError(f"entry {number} has neither sub, jti nor sub and issued_before")
        before = _time(entry["issued_before"], number) if "issued_before" in entry else math.inf
        name = entry.get("sub", entry.get("jti"))
        if not isinstance(name, str) or not CLAIM.fullmatch(name):
            raise RevocationsError(f"entry {number} names no sub or jti that a token can have")
        if "jti" in entry:
            token_ids.add(name)
        else:
            subjects[name] = max(before, subjects.get(name, before))
    return Revocations(subjects, frozenset(token_ids))


def _time(value: object, number: int) -> float:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise RevocationsError(f"entry {number}: issued_before is no time such as 2026-11-26T22:00:00Z")
    return (time - datetime.fromtimestamp(0, UTC)).total_seconds()


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if any(count > 1 for count in Counter(name for name, _ in pairs).values()):
        raise ValueError("a name appears twice")
    return dict(pairs)
