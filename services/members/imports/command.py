"""`python -m services.members imports FILE`: sends a file to the running service, shows the plan, asks, and
applies it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import httpx2
from rich.console import Console
from rich.table import Table

from services.members.imports.domain import OUTCOMES

PIECE: Final = 256 * 1024
POLL_SECONDS: Final = 0.2
SECONDS: Final = 60.0
DISTRICTS_SHOWN: Final = 10
_LIVE: Final = frozenset({"planning", "applying", "paused"})


class Shown(Protocol):
    """A progress bar: `show(3, 10)`."""

    def show(self, done: int, total: int) -> None: ...


Bar = Callable[[str], AbstractContextManager[Shown]]


class CommandError(Exception):
    """A failure whose message is the one line that the operator sees."""


@dataclass(frozen=True, slots=True)
class ImportCommand:
    """One run of the command against the service at `url`."""

    url: str
    token: str
    console: Console
    bar: Bar
    transport: httpx2.BaseTransport | None = None

    def run(
        self, file: Path, query: Mapping[str, str], *, only_plan: bool, agreed: Callable[[str], bool]
    ) -> bool:
        """Import `file`; `agreed` is asked before the plan is applied. Whether no row was refused or set
        aside.

        Raises: `CommandError`.
        """
        with self._client() as http:
            found = self._send(http, file, query)
            found = self._follow(http, found["id"], "planning")
            self._show_plan(found)
            writes = found["plan"]["new"] + found["plan"]["changed"]
            if writes and not only_plan and agreed(f"Write {writes} members?"):
                self._call(http, "POST", f"/imports/{found['id']}/apply")
                found = self._follow(http, found["id"], "applying")
                applied = found["applied"]
                self.console.print(
                    f"created {applied['created']}, updated {applied['updated']},"
                    f" set aside {applied['set_aside']}",
                    highlight=False,
                )
            bad = found["plan"]["refused"] + found["plan"]["duplicate"] + found["applied"]["set_aside"]
            if bad:
                self._save_errors(http, found["id"], file)
            return not bad

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

    def _follow(self, http: httpx2.Client, import_id: str, doing: str) -> dict[str, Any]:
        """The import once that is done, with a bar until then."""
        with self.bar(doing) as bar:
            while (found := self._call(http, "GET", f"/imports/{import_id}"))["state"] in _LIVE:
                bar.show(found["progress"]["done"], found["progress"]["total"] or 0)
                time.sleep(POLL_SECONDS)
            bar.show(found["progress"]["done"], found["progress"]["total"] or 0)
        if found["state"] not in ("planned", "applied"):
            raise CommandError(f"import {import_id} is {found['state']}: {found['reason'] or 'by a request'}")
        return found

    def _call(self, http: httpx2.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = http.request(method, path, **options)
            document = answer.json()
        except (httpx2.TransportError, ValueError) as error:
            raise CommandError(f"members at {self.url} does not answer: {type(error).__name__}") from None
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
        target.touch(mode=0o600)
        with http.stream("GET", f"/imports/{import_id}/errors") as answer, target.open("wb") as out:
            for part in answer.iter_bytes():
                out.write(part)
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


def _pieces(file: Path, size: int, bar: Shown) -> Iterator[bytes]:
    sent = 0
    with file.open("rb") as content:
        while piece := content.read(PIECE):
            yield piece
            sent += len(piece)
            bar.show(sent, size)
