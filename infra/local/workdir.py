"""The directory of one running stack, held by a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.errors import LocalError


@contextmanager
def hold(directory: Path, *, or_sibling: bool = False) -> Iterator[Path]:
    """Hold `directory` (created if missing, for its owner only) for the length of the block.

    If another live run holds it: with `or_sibling`, hold the first free of `<directory>-2`, `<directory>-3`,
    ...

    :raises LocalError: another run holds it, and `or_sibling` is false
    """
    for path in _candidates(directory):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _locked(lock):
                os.ftruncate(lock, 0)
                os.write(lock, str(os.getpid()).encode())
                yield path
                return
            holder = os.read(lock, 20).decode()
        finally:
            os.close(lock)
        if not or_sibling:
            raise LocalError(f"{path} is in use by another run (process {holder}); give another --dir")


def _candidates(directory: Path) -> Iterator[Path]:
    yield directory
    for number in itertools.count(2):
        yield directory.with_name(f"{directory.name}-{number}")


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
