"""Operate a running deployment: a service's dead letters and fuse, repairs, revoked tokens, and the doctor.

Dead letters and the fuse are reached through the service's API, because a replay needs the service's
handlers. Exit codes: 0 done; 1 it failed, or letters stay dead after a replay; 2 the command was wrong.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.progress import Progress

from services.shared.clock import SystemClock
from services.shared.operations.cli import show
from services.shared.operations.cli.ages import age
from services.shared.operations.cli.client import Client, Query
from services.shared.operations.cli.options import LOCAL, Directory, Json, Service, Url, consumer
from services.shared.operations.cli.repair import repair
from services.shared.operations.cli.revoke import revoke
from services.shared.operations.doctor.command import doctor

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
letters_app = typer.Typer(no_args_is_help=True, help="Records that could not be applied.")
fuse_app = typer.Typer(
    no_args_is_help=True, help="The fuse, which stops a consumer after too many dead letters."
)
app.add_typer(letters_app, name="dead-letters")
app.add_typer(fuse_app, name="fuse")
app.command()(doctor)
app.command()(repair)
app.command()(revoke)


def _age(text: str) -> timedelta:
    try:
        return age(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Type = Annotated[str | None, typer.Option("--type", help="Only letters of this event type.")]
Reason = Annotated[str | None, typer.Option(help="Only letters with this reason.")]
Older = Annotated[
    timedelta | None,
    typer.Option(parser=_age, metavar="AGE", help="Only letters dead for longer than this, such as 2h."),
]
Newer = Annotated[
    timedelta | None,
    typer.Option(parser=_age, metavar="AGE", help="Only letters dead for less than this, such as 30m."),
]
State = Annotated[
    str | None, typer.Option(help="Only letters in this state: dead, replayed, discarded or set_aside.")
]
Letter = Annotated[str | None, typer.Argument(metavar="ID", help="topic:partition:offset")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the letters; change nothing.")]


@letters_app.command("list")
def list_(
    service: Service,
    type_: Type = None,
    reason: Reason = None,
    older_than: Older = None,
    newer_than: Newer = None,
    state: State = "dead",
    json: Json = False,
    url: Url = None,
    directory: Directory = LOCAL,
) -> None:
    """List letters in the order of the log, without their values."""
    with consumer(service, url, directory) as client:
        query = _query(type_, reason, older_than, newer_than) | ({"state": state} if state else {})
        found = client.letters(query)
        shown = show.lines(found) if json else show.table(found, show.LETTER_COLUMNS)
        if not shown:
            _explain_nothing(client, query)


@letters_app.command()
def summary(
    service: Service,
    type_: Type = None,
    reason: Reason = None,
    older_than: Older = None,
    newer_than: Newer = None,
    json: Json = False,
    url: Url = None,
    directory: Directory = LOCAL,
) -> None:
    """Count the dead letters by type and reason, with the times of the oldest and the newest."""
    with consumer(service, url, directory) as client:
        query = _query(type_, reason, older_than, newer_than)
        found = client.summary(query)
        if not found["total"]:
            _explain_nothing(client, query)
        if json:
            show.lines(found["items"])
        else:
            show.table(found["items"], show.KIND_COLUMNS)
            show.out.print(f"{found['total']} dead")


@letters_app.command("show")
def show_(
    service: Service,
    id_: Annotated[str, typer.Argument(metavar="ID", help="topic:partition:offset")],
    json: Json = False,
    url: Url = None,
    directory: Directory = LOCAL,
) -> None:
    """Show one letter, without its value."""
    with consumer(service, url, directory) as client:
        letter = client.letter(id_)
        if json:
            show.lines([letter])
        else:
            show.facts(letter)


@letters_app.command()
def replay(
    service: Service,
    id_: Letter = None,
    type_: Type = None,
    reason: Reason = None,
    older_than: Older = None,
    newer_than: Newer = None,
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
    url: Url = None,
    directory: Directory = LOCAL,
) -> None:
    """Replay one letter, or all that match, in order. Safe to repeat."""
    query = _query(type_, reason, older_than, newer_than)
    _choose(id_, query, everything)
    with consumer(service, url, directory) as client:
        if dry_run:
            _would(client, id_, query, "replayed", json)
        elif id_:
            _show(client.replay(id_), json)
        else:
            _replay_all(client, query, json)


@letters_app.command()
def discard(
    service: Service,
    why: Annotated[str, typer.Option(help="Reason, kept with the letters; nothing personal.")],
    id_: Letter = None,
    type_: Type = None,
    reason: Reason = None,
    older_than: Older = None,
    newer_than: Newer = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    json: Json = False,
    url: Url = None,
    directory: Directory = LOCAL,
) -> None:
    """Discard one letter, or all that match, for good."""
    query = _query(type_, reason, older_than, newer_than)
    _choose(id_, query, everything)
    with consumer(service, url, directory) as client:
        if dry_run:
            _would(client, id_, query, "discarded", json)
        elif id_:
            _show(client.discard(id_, why), json)
        else:
            _discard_all(client, query, why, yes, json)


@fuse_app.command("show")
def show_fuse(service: Service, json: Json = False, url: Url = None, directory: Directory = LOCAL) -> None:
    """Show whether the fuse is open, since when and why."""
    with consumer(service, url, directory) as client:
        _show(client.fuse(), json)


@fuse_app.command()
def reset(service: Service, json: Json = False, url: Url = None, directory: Directory = LOCAL) -> None:
    """Close the fuse: the consumer continues where it stopped."""
    with consumer(service, url, directory) as client:
        _show(client.reset_fuse(), json)


def _query(
    type_: str | None, reason: str | None, older_than: timedelta | None, newer_than: timedelta | None
) -> dict[str, str]:
    now = SystemClock().now()
    given = {
        "type": type_,
        "reason": reason,
        "until": (now - older_than).isoformat() if older_than else None,
        "since": (now - newer_than).isoformat() if newer_than else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _choose(id_: str | None, query: Query, everything: bool) -> None:
    """Require exactly one way of selecting letters, so that a slip never selects all of them."""
    if [id_ is not None, bool(query), everything].count(True) != 1:
        raise typer.BadParameter("give either one letter's ID, or filters (--type, --reason, ages), or --all")


def _would(client: Client, id_: str | None, query: Query, what: str, json: bool) -> None:
    is_open = id_ is not None and client.letter(id_)["state"] in ("dead", "set_aside")
    total = int(is_open) if id_ else client.summary(query)["total"]
    if not (total or id_):
        _explain_nothing(client, query)
    if json:
        show.lines([{"would_be": what, "letters": total}])
    else:
        show.out.print(f"{total} would be {what}")


def _explain_nothing(client: Client, query: Query) -> None:
    """Tell on standard error which types and reasons exist, when a filter by them selects nothing."""
    if not {"type", "reason"} & query.keys():
        return
    kinds = client.summary({"state": query.get("state", "dead")})["items"]
    for name in ("type", "reason"):
        there = sorted({str(kind[name] or "-") for kind in kinds})
        if (wanted := query.get(name)) is not None and wanted not in there:
            show.err.print(
                f"no letter has the {name} {wanted!r}; there are: {', '.join(there) or 'none'}", markup=False
            )


def _show(document: dict[str, Any], json: bool) -> None:
    if json:
        show.lines([document])
    else:
        show.facts(document)


def _replay_all(client: Client, query: Query, json: bool) -> None:
    counts: Counter[str] = Counter(replayed=0, failed=0, withheld=0, held=0)
    failures: list[dict[str, Any]] = []
    with Progress(console=show.err, transient=True) as progress:
        task = progress.add_task("replaying", total=None)
        for answer in client.replay_all(query):
            counts.update({name: answer[name] for name in counts})
            failures += answer["failures"]
            done = counts.total()
            progress.update(task, completed=done, total=done + answer["remaining"])
    if json:
        show.lines([*failures, counts])
    else:
        if failures:
            show.table(failures, ("id", "reason", "detail"))
        show.out.print(", ".join(f"{n} {name}" for name, n in counts.items()))
    if not counts.total():
        _explain_nothing(client, query)
    if counts.total() > counts["replayed"]:
        raise typer.Exit(1)


def _discard_all(client: Client, query: Query, why: str, yes: bool, json: bool) -> None:
    total = client.summary(query)["total"]
    if not total:
        _explain_nothing(client, query)
    if total and not yes:
        typer.confirm(f"Discard {total} dead letters for good?", abort=True, err=True)
    discarded = sum(answer["discarded"] for answer in client.discard_all(query, why, total))
    if json:
        show.lines([{"discarded": discarded}])
    else:
        show.out.print(f"{discarded} discarded")


if __name__ == "__main__":
    app()
