"""Progress of a command: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_SECONDS: Final = 5.0
"""Pause between two lines without a terminal."""


class Meter:
    """Shows progress: `with Meter(console, "restoring") as meter: meter.show(3, 10)`."""

    def __init__(self, console: Console, what: str) -> None:
        self._console = console
        self._what = what
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=None)
        self._reached: tuple[int, int, str] | None = None
        self._said_at = time.monotonic()

    def show(self, done: int, total: int, note: str = "") -> None:
        """`note` says why it does not go on at the moment."""
        self._reached = done, total, note
        self._bar.update(self._task, completed=done, total=total, description=self._what + note)
        if time.monotonic() - self._said_at > EVERY_SECONDS:
            self._say()

    def _say(self) -> None:
        self._said_at = time.monotonic()
        if self._reached and not self._console.is_terminal:
            done, total, note = self._reached
            self._console.print(f"{self._what}: {done} of {total}{note}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._say()
