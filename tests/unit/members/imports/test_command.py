"""The command `imports`: asks before it writes, saves the rows to mend, and fails in one line."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console

from services.members.imports.command import CommandError, ImportCommand

ID = "01a20901-0000-7000-8000-000000000001"
PLAN = {
    "new": 2,
    "changed": 1,
    "unchanged": 0,
    "duplicate": 0,
    "refused": 1,
    "fields": {"name": 1},
    "reasons": {"spreadsheet_number": 1},
    "notes": {},
    "by_district": {"BR-SARAN": {"new": 2, "changed": 1}, "none": {"refused": 1}},
    "welcomed": 2,
    "welcoming_seconds": 5400,
}


class Members:
    """A service that plans at the second look; it applies when asked to."""

    def __init__(
        self, *, refuses: bool = False, fails: bool = False, away: int = 0, waits_until: str | None = None
    ) -> None:
        self.calls: list[str] = []
        self.sent = b""
        self._refuses = refuses
        self._fails = fails
        self._away = away
        self._waits_until = waits_until
        """How many requests nobody answers, once the file is sent."""

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        line = f"{request.method} {request.url.path}"
        if self.calls and self._away:
            self._away -= 1
            if self._away % 2:
                return httpx2.Response(503, json={"title": "x"})
            raise httpx2.ConnectError("refused", request=request)
        self.calls.append(line)
        if line == "POST /v1/imports":
            self.sent = request.read()
            if self._refuses:
                return httpx2.Response(422, json={"detail": "the file is empty", "title": "x"})
            return httpx2.Response(202, json=self._shown("planning"))
        if line.endswith("/errors"):
            return httpx2.Response(200, content=b"name,line,error\n")
        if line.endswith("/apply"):
            return httpx2.Response(202, json=self._shown("applying"))
        looks = self.calls.count(line)
        state = "failed" if self._fails else "planning" if looks == 1 else "planned"
        return httpx2.Response(200, json=self._shown("applied" if "apply" in str(self.calls) else state))

    def _shown(self, state: str) -> dict[str, Any]:
        applied = {"created": 2, "updated": 1, "set_aside": 0} if state == "applied" else {}
        return {
            "id": ID,
            "state": state,
            "reason": "no_progress" if state == "failed" else None,
            "columns": ["name", None],
            "progress": {"done": 1, "total": None, "waits_until": self._waits_until},
            "plan": PLAN,
            "applied": {"created": 0, "updated": 0, "set_aside": 0} | applied,
        }


NOTES: list[str] = []


class Bar:
    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, done: int, total: int, note: str = "") -> None:
        NOTES.append(note)


def run(
    members: Members,
    file: Path,
    *,
    only_plan: bool = False,
    agrees: bool = True,
    patience: float = 60,
    follow: str | None = None,
) -> tuple[bool, str]:
    out = io.StringIO()
    console = Console(file=out, width=200)
    command = ImportCommand("http://members", "token", console, Bar, httpx2.MockTransport(members), patience)
    asked: list[str] = []

    def agreed(question: str) -> bool:
        asked.append(question)
        return agrees

    if follow is not None:
        clean = command.follow(follow, file, only_plan=only_plan, agreed=agreed)
    else:
        clean = command.run(file, {"unit": "BR-SARAN"}, only_plan=only_plan, agreed=agreed)
    assert asked == ([] if only_plan else ["Write 3 members?"])
    return clean, out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_bytes(b"name,phone\nAsha,1\n")
    return path


def test_a_plan_alone_writes_nothing(file: Path) -> None:
    members = Members()
    clean, said = run(members, file, only_plan=True)
    assert not clean
    assert members.sent == file.read_bytes()
    assert not any(call.endswith("/apply") for call in members.calls)
    assert "BR-SARAN" in said
    assert "spreadsheet_number 1" in said
    assert "welcomes: 2, which take 1:30:00" in said


def test_an_import_that_waits_for_its_welcomes_says_until_when(file: Path) -> None:
    NOTES.clear()
    run(Members(waits_until="2026-11-27T15:00:00Z"), file, only_plan=True)
    assert any("goes on at 2026-11-27T15:00:00Z" in note for note in NOTES)
    NOTES.clear()
    run(Members(), file, only_plan=True)
    assert set(NOTES) == {""}


def test_who_says_no_writes_nothing(file: Path) -> None:
    members = Members()
    run(members, file, agrees=False)
    assert not any(call.endswith("/apply") for call in members.calls)


def test_what_is_agreed_to_is_applied_and_the_rest_saved_to_mend(file: Path) -> None:
    _, said = run(Members(), file)
    assert "created 2, updated 1, set aside 0" in said
    errors = file.with_name("people.errors.csv")
    assert errors.read_bytes() == b"name,line,error\n"
    assert stat.S_IMODE(errors.stat().st_mode) == 0o600


def test_failures_are_one_line(file: Path) -> None:
    with pytest.raises(CommandError, match="members refuses: 422 the file is empty"):
        run(Members(refuses=True), file)
    with pytest.raises(CommandError, match=f"import {ID} is failed: no_progress"):
        run(Members(fails=True), file)
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        run(Members(), file.with_name("absent.csv"))


def test_the_rows_to_mend_are_private_also_where_they_were_not(file: Path) -> None:
    errors = file.with_name("people.errors.csv")
    errors.write_bytes(b"longer than the rows that are to come")
    errors.chmod(0o644)
    run(Members(), file)
    assert errors.read_bytes() == b"name,line,error\n"
    assert stat.S_IMODE(errors.stat().st_mode) == 0o600


def test_an_outage_is_waited_for_while_the_import_is_followed(file: Path) -> None:
    members = Members(away=3)
    _, said = run(members, file)
    assert "created 2" in said
    assert members.calls.count("POST /v1/imports") == 1


def test_after_a_long_outage_the_import_can_be_followed_again(file: Path) -> None:
    members = Members(away=1000)
    with pytest.raises(CommandError, match=f"does not answer: .*; to go on: imports --follow {ID}"):
        run(members, file, patience=0.3, only_plan=True)
    back = Members()
    _, said = run(back, file, follow=ID)
    assert "created 2" in said
    assert "POST /v1/imports" not in back.calls


@pytest.mark.parametrize("change", [b"more\n", b""])
def test_a_file_that_changes_while_it_is_sent_is_not_imported(file: Path, change: bytes) -> None:
    class Writer(Bar):
        def __enter__(self) -> Writer:
            file.write_bytes(file.read_bytes() + change if change else b"name")
            return self

    members = Members()
    transport = httpx2.MockTransport(members)
    command = ImportCommand("http://members", "token", Console(file=io.StringIO()), Writer, transport)
    with pytest.raises(CommandError, match="changed while it was sent"):
        command.run(file, {}, only_plan=True, agreed=lambda _: False)
    assert members.sent == b""
