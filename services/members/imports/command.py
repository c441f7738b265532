"""`python -m services.members imports FILE`: sends a file to the running service, shows the plan, asks, and
applies it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final, Protocol

import httpx2
import stamina
from rich.console import Console
from rich.table import Table

from services.members.imports.domain import OUTCOMES

PIECE: Final = 256 * 1024
POLL_SECONDS: Final = 0.2
SECONDS: Final = 60.0
PATIENCE: Final = 60.0
"""Seconds for which an outage of the service is waited for while an import is followed."""
_AWAY: Final = frozenset({502, 503, 504})
DISTRICTS_SHOWN: Final = 10
_LIVE: Final = frozenset({"planning", "applying", "paused"})


class Shown(Protocol):
    """A progress bar: `show(3, 10)`; `note` says why it stands still."""

    def show(self, done: int, total: int, note: str = "") -> None: ...


Bar = Callable[[str], AbstractContextManager[Shown]]


class CommandError(Exception):
    """A failure whose message is the one line that the operator sees."""


class AwayError(CommandError):
    """The service does not answer now."""


@dataclass(frozen=True, slots=True)
class ImportCommand:
    """One run of the command against the service at `url`."""

    url: str
    token: str
    console: Console
    bar: Bar
    transport: httpx2.BaseTransport | None = None
    patience: float = PATIENCE

    def run(
        self, file: Path, query: Mapping[str, str], *, only_plan: bool, agreed: Callable[[str], bool]
    ) -> bool:
        """Import `file`; `agreed` is asked before the plan is applied. Whether no row was refused or set
        aside.

        Raises: `CommandError`.
        """
        with self._client() as http:
            sent = self._send(http, file, query)
            return self._finish(http, sent["id"], file, only_plan=only_plan, agreed=agreed)

    def follow(self, import_id: str, file: Path, *, only_plan: bool, agreed: Callable[[str], bool]) -> bool:
        """Go on with an import that was sent before, as `run` does. The rows to mend are written beside
        `file`.

        Raises: `CommandError`.
        """
        with self._client() as http:
            return self._finish(http, import_id, file, only_plan=only_plan, agreed=agreed)

    def _finish(
        self,
        http: httpx2.Client,
        import_id: str,
        file: Path,
        *,
        only_plan: bool,
        agreed: Callable[[str], bool],
    ) -> bool:
        try:
            found = self._wait(http, import_id, "planning")
            self._show_plan(found)
            writes = found["plan"]["new"] + found["plan"]["changed"]
            begun = found["state"] == "applied"
            if begun or (writes and not only_plan and agreed(f"Write {writes} members?")):
                if not begun:
                    self._again(http, "POST", f"/imports/{import_id}/apply")  # twice is once
                found = self._wait(http, import_id, "applying")
                applied = found["applied"]
                self.console.print(
                    f"created {applied['created']}, updated {applied['updated']},"
                    f" set aside {applied['set_aside']}",
                    highlight=False,
                )
            bad = found["plan"]["refused"] + found["plan"]["duplicate"] + found["applied"]["set_aside"]
            if bad:
                self._save_errors(http, import_id, file)
            return not bad
        except AwayError as error:
            raise CommandError(f"{error}; to go on: imports --follow {import_id}") from None

    def _client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=f"{self.url}/v1",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=SECONDS,
            trust_env=False,
            transport=self.transport,
        )

    def _send(self, http: httpx2.Client, file: Path, query: Mapping[str, str]) -> dict[str, Any]:
        ndjson = file.suffix.lower() in (".ndjson", ".jsonl")
        kind = "application/x-ndjson" if ndjson else "text/csv"
        try:
            size = file.stat().st_size
            with self.bar("sending") as bar:
                headers = {"Content-Type": kind, "Content-Length": str(size)}
                return self._call(
                    http, "POST", "/imports", params=query, content=_pieces(file, size, bar), headers=headers
                )
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}") from None

    def _wait(self, http: httpx2.Client, import_id: str, doing: str) -> dict[str, Any]:
        """The import once that is done, with a bar until then."""
        with self.bar(doing) as bar:
            while (found := self._again(http, "GET", f"/imports/{import_id}"))["state"] in _LIVE:
                progress, waits = found["progress"], ""
                if progress["waits_until"]:
                    waits = f", goes on at {progress['waits_until']}: as many welcomes as an hour may have"
                bar.show(progress["done"], progress["total"] or 0, waits)
                time.sleep(POLL_SECONDS)
            bar.show(found["progress"]["done"], found["progress"]["total"] or 0)
        if found["state"] not in ("planned", "applied"):
            raise CommandError(f"import {import_id} is {found['state']}: {found['reason'] or 'by a request'}")
        return found

    def _again(self, http: httpx2.Client, method: str, path: str) -> dict[str, Any]:
        """The answer to a request that may be repeated, also after an outage of up to a minute.

        Raises: `AwayError`, `CommandError`.
        """
        for attempt in self._attempts():
            with attempt:
                return self._call(http, method, path)
        raise AssertionError  # the last attempt raises

    def _attempts(self) -> Iterable[stamina.Attempt]:
        return stamina.retry_context(
            on=AwayError, attempts=None, timeout=self.patience, wait_initial=0.2, wait_max=2.0
        )

    def _call(self, http: httpx2.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = http.request(method, path, **options)
            document = answer.json()
        except (httpx2.TransportError, ValueError) as error:
            raise AwayError(f"members at {self.url} does not answer: {type(error).__name__}") from None
        if answer.status_code in _AWAY:
            raise AwayError(f"members at {self.url} does not answer: status {answer.status_code}")
        if not answer.is_success:
            said = document.get("detail") or document.get("title")
            errors = "".join(f"; {each['pointer']} {each['detail']}" for each in document.get("errors", ()))
            raise CommandError(f"members refuses: {answer.status_code} {said}{errors}")
        return dict(document)

    def _show_plan(self, found: Mapping[str, Any]) -> None:
        plan = found["plan"]
        columns = ", ".join(column or "(ignored)" for column in found["columns"])
        self.console.print(f"import {found['id']}, columns: {columns}", highlight=False)
        table = Table("district", *OUTCOMES, box=None, pad_edge=False)
        for where, counts in [*_largest(plan["by_district"]), ("all", plan)]:
            table.add_row(where, *(f"{counts.get(word, 0):,}" for word in OUTCOMES))
        self.console.print(table)
        if plan["welcomed"]:
            hours = timedelta(seconds=plan["welcoming_seconds"])
            self.console.print(f"welcomes: {plan['welcomed']:,}, which take {hours}", highlight=False)
        for what in ("fields", "reasons", "notes"):
            if plan[what]:
                said = ", ".join(f"{word} {n}" for word, n in sorted(plan[what].items()))
                self.console.print(f"{what}: {said}", highlight=False)

    def _save_errors(self, http: httpx2.Client, import_id: str, file: Path) -> None:
        """Write the rows to mend beside the file, readable by its owner alone."""
        target = file.with_name(f"{file.stem}.errors.csv")
        for attempt in self._attempts():
            with attempt, _private(target) as out:
                try:
                    with http.stream("GET", f"/imports/{import_id}/errors") as answer:
                        answer.raise_for_status()
                        for part in answer.iter_bytes():
                            out.write(part)
                except httpx2.TransportError as error:
                    raise AwayError(f"{target} is incomplete: {type(error).__name__}") from None
                except httpx2.HTTPStatusError:
                    kind = AwayError if answer.status_code in _AWAY else CommandError
                    raise kind(f"the rows to mend: status {answer.status_code}") from None
        self.console.print(f"rows to mend: {target}", highlight=False)


def _largest(districts: Mapping[str, Mapping[str, int]]) -> list[tuple[str, Mapping[str, int]]]:
    """The districts with the most rows, by code, and the sum of the others."""
    ranked = sorted(districts.items(), key=lambda each: (-sum(each[1].values()), each[0]))
    shown, others = sorted(ranked[:DISTRICTS_SHOWN]), ranked[DISTRICTS_SHOWN:]
    if not others:
        return shown
    rest: Counter[str] = Counter()
    for _, counts in others:
        rest.update(counts)
    return [*shown, (f"{len(others)} others", rest)]


def _private(target: Path) -> IO[bytes]:
    """The emptied file, which nobody but its owner may read, also if it was there before."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(handle, 0o600)
    return os.fdopen(handle, "wb")


def _pieces(file: Path, size: int, bar: Shown) -> Iterator[bytes]:
    """The content of a file that has `size` bytes.

    Raises: `CommandError`, before the last byte is sent, for a file that has grown or shrunk meanwhile.
    """
    sent = 0
    with file.open("rb") as content:
        while sent < size:
            piece = content.read(min(PIECE, size - sent))
            sent += len(piece)
            if not piece or (sent == size and os.fstat(content.fileno()).st_size != size):
                raise CommandError(f"{file} changed while it was sent: send it when it is whole")
            yield piece
            bar.show(sent, size)
