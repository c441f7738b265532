"""Fairness between files of units: one of each caller at a time, few long ones, and all are checked by turns.

A file is in memory until it has been checked, and the check takes processor time from everything else. So a
caller may have one file on its way, however many requests it sends; of long files few are in memory, one of
them is checked at a time, and after each slice of one file the next file has its turn.
"""

from __future__ import annotations

import asyncio
import codecs
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Final, TypeVar

from services.shared.errors import TooManyError

MAX_FILES: Final = 32
MAX_LONG_FILES: Final = 3
SHORT_BYTES: Final = 1024 * 1024
"""A longer file is a long one; any other body may have as much."""
RETRY_SECONDS: Final = 5
T = TypeVar("T")


class ImportFile:
    """A file on its way from its caller."""

    def __init__(self, become_long: Callable[[], None]) -> None:
        self._content = io.BytesIO()
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._become_long = become_long
        self.is_long = False

    def add(self, piece: bytes) -> None:
        """Raises: `UnicodeDecodeError`; `TooManyError` when the file has become long and too many are."""
        self._text.decode(piece)  # what is no text is refused as such, whatever its first rows say
        self._content.write(piece)
        self.expect(self._content.tell())

    def expect(self, length: int) -> None:
        """The file has at least so many bytes. Raises: `TooManyError`."""
        if length > SHORT_BYTES and not self.is_long:
            self._become_long()
            self.is_long = True

    def take(self) -> bytes:
        """The whole content, which the file then forgets. Raises: `UnicodeDecodeError`."""
        self._text.decode(b"", final=True)
        content = self._content.getvalue()
        self._content = io.BytesIO()
        return content


class Files:
    """The files on their way in this process."""

    def __init__(self) -> None:
        self._callers: set[str] = set()
        self._long = 0
        self._long_check = asyncio.Lock()
        self._turn = asyncio.Lock()

    @contextmanager
    def receive(self, subject: str, length: int) -> Iterator[ImportFile]:
        """A new file of this caller, for as long as it is read, checked and loaded; `length` is its number of
        bytes, 0 if unknown.

        Raises: `TooManyError` when the caller has another, or there are too many.
        """
        if subject in self._callers:
            raise TooManyError("import-in-progress", "your last file is not yet loaded", RETRY_SECONDS)
        if len(self._callers) >= MAX_FILES:
            raise _too_many()
        file = ImportFile(self._one_more_long)
        self._callers.add(subject)
        try:
            file.expect(length)
            yield file
        finally:
            self._callers.remove(subject)
            self._long -= file.is_long

    @asynccontextmanager
    async def checking(self, file: ImportFile) -> AsyncIterator[None]:
        """Wait until no other long file is checked, if this is one."""
        async with self._long_check if file.is_long else nullcontext():
            yield

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Work in a thread when all who wait already have had a turn; a turn is a few milliseconds."""
        async with self._turn:
            return await asyncio.to_thread(work)

    def _one_more_long(self) -> None:
        if self._long >= MAX_LONG_FILES:
            raise _too_many()
        self._long += 1


def _too_many() -> TooManyError:
    return TooManyError("too-many-imports", "others are importing; try again shortly", RETRY_SECONDS)
