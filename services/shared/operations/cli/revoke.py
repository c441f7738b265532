"""`ops revoke`: adds to the list of revoked tokens that the services read."""

from __future__ import annotations

import json
import os
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.shared.clock import SystemClock
from services.shared.http.revocations import RevocationsError, parse_revocations
from services.shared.operations.cli import show

EMPTY: Final = b'{"revoked": []}'

File = Annotated[Path, typer.Option(help="The list of revoked tokens; made if it does not exist.")]
Sub = Annotated[str | None, typer.Option("--sub", help="Revoke the tokens of this subject.")]
Jti = Annotated[str | None, typer.Option("--jti", help="Revoke the one token with this id.")]
Until = Annotated[
    bool, typer.Option("--until-now", help="With --sub: only tokens issued before now, not later ones.")
]


def revoke(file: File, sub: Sub = None, jti: Jti = None, until_now: Until = False) -> None:
    """Revoke all tokens of a subject, or one token. Services that read the file refuse them within two
    seconds."""
    if (sub is None) == (jti is None) or (until_now and sub is None):
        raise typer.BadParameter("give --sub, --sub and --until-now, or --jti")
    entry = {"sub": sub} if sub is not None else {"jti": jti}
    if until_now:
        entry["issued_before"] = SystemClock().now().astimezone(UTC).isoformat(timespec="seconds")
    try:
        count = _add(file, entry)
    except RevocationsError as error:
        show.err.print(f"error: {file}: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except OSError as error:
        show.err.print(f"error: {file}: {error.strerror}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    show.out.print(f"{count} entries")


def _add(file: Path, entry: dict[str, Any]) -> int:
    """The number of subjects and ids, with that of `entry`. The file is replaced at once, so no service reads
    a half of it.

    Raises: `RevocationsError` when the old or the new list is none; `OSError`.
    """
    before = file.read_bytes() if file.exists() else EMPTY
    parse_revocations(before)
    entries = json.loads(before)["revoked"]
    if entry not in entries:
        entries.append(entry)
    lines = ",\n ".join(json.dumps(each) for each in entries)
    after = f'{{"revoked": [\n {lines}\n]}}\n'.encode()
    revoked = parse_revocations(after)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_bytes(after)
    draft.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
    draft.replace(file)
    return len(revoked)
