"""The command line of a service, `python -m services.<name>`: serve, `dump`, `restore` and, if the service
supports them, `rebuild` and `republish`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pymongo.errors import PyMongoError
from rich.console import Console

from services.shared.config.settings import ServiceSettings
from services.shared.errors import TransientError
from services.shared.observability.logs import configure_logs
from services.shared.operations.backup import BackupError, Manifest
from services.shared.operations.backup import dump as take_dump
from services.shared.operations.backup import restore as fill
from services.shared.operations.rebuild import Plan, Rebuild, RebuildError
from services.shared.operations.republish import Republish
from services.shared.runtime import Runtime, Service, Source, serve

S = TypeVar("S", bound=ServiceSettings)

ONLY_RESTORED = 3
"""Exit status of a rebuild that only restored: run it again once the service is stopped."""


def commands(
    load: Callable[[], S],
    build: Callable[..., Service],
    *,
    plan: Callable[[Runtime], Plan] | None = None,
    sources: Sequence[Source] = (),
) -> typer.Typer:
    """The command line of a service. `plan` adds `rebuild`, `sources` adds `republish`."""
    cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @cli.callback(invoke_without_command=True)
    def default(context: typer.Context) -> None:
        """Serve, unless another command is given."""
        if context.invoked_subcommand is None:
            serve(load(), build)

    @cli.command("serve")
    def serve_command() -> None:
        """Serve until SIGTERM."""
        serve(load(), build)

    _add_dump(cli, load)
    _add_restore(cli, load)
    if plan:
        _add_rebuild(cli, load, build, plan)
    if sources:
        _add_republish(cli, load, sources)
    return cli


Directory = Annotated[Path, typer.Argument(help="Directory of the dump.")]
NewDatabase = Annotated[str, typer.Option(help="Name of a new database.")]
NewGroup = Annotated[str, typer.Option(help="Name of a new consumer group.")]


def _add_dump(cli: typer.Typer, load: Callable[[], S]) -> None:
    @cli.command()
    def dump(
        directory: Directory,
        behind: Annotated[
            bool,
            typer.Option(
                "--behind",
                help="The database is older than its consumer group's offsets, such as a restored volume.",
            ),
        ] = False,
    ) -> None:
        """Dump the database at one instant, with its offsets in the log, into a new directory."""
        console, settings = Console(), load()
        with _one_line_errors(settings):
            _print_manifest(console, take_dump(settings, directory, console, behind=behind))


def _add_restore(cli: typer.Typer, load: Callable[[], S]) -> None:
    @cli.command()
    def restore(
        directory: Directory,
        database: NewDatabase,
        group: NewGroup,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the dump; write nothing.")] = False,
    ) -> None:
        """Fill a new database from a dump. Then run `rebuild --resume` to bring it up to date."""
        console, settings = Console(), load()
        with _one_line_errors(settings):
            manifest = fill(
                settings, directory, console, database_name=database, group=group, dry_run=dry_run
            )
            _print_manifest(console, manifest)
        if not dry_run:
            console.print(f"Next: rebuild --database {database} --group {group} --resume")


@contextmanager
def _one_line_errors(settings: ServiceSettings) -> Iterator[None]:
    """Report expected failures in one line, and exit."""
    _log_warnings_only(settings)
    try:
        yield
    except (BackupError, TransientError) as refused:
        raise SystemExit(f"error: {refused}") from None
    except PyMongoError as refused:  # its message may quote a document
        said = getattr(refused, "details", None) or {}
        raise SystemExit(
            f"error: MongoDB: {type(refused).__name__} {said.get('codeName', '')}".rstrip()
        ) from None


def _print_manifest(console: Console, manifest: Manifest) -> None:
    taken = f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"{manifest.service}: {manifest.documents} documents as of {taken}", highlight=False)


def _add_rebuild(
    cli: typer.Typer, load: Callable[[], S], build: Callable[..., Service], plan: Callable[[Runtime], Plan]
) -> None:
    @cli.command()
    def rebuild(
        database: NewDatabase,
        group: NewGroup,
        resume: Annotated[
            bool, typer.Option("--resume", help="Continue an earlier rebuild or restore.")
        ] = False,
        accept_cut_off: Annotated[
            bool,
            typer.Option(
                "--accept-cut-off",
                help="Continue although the service's own topic lacks its first records; "
                "snapshots in it replace them.",
            ),
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Count records; write nothing.")] = False,
    ) -> None:
        """Rebuild the state from the log, in a new database. Publishes and sends nothing."""
        console = Console()
        settings = load()
        _log_warnings_only(settings)

        async def run() -> bool:
            work = Rebuild(settings, build, plan, console, database_name=database, group=group)
            try:
                if not dry_run:
                    return await work.run(resume=resume, accept_cut_off=accept_cut_off)
                for topic, records in (await work.look()).items():
                    console.print(f"{topic}: {records} records")
                return True
            finally:
                work.close()

        try:
            finished = asyncio.run(run())
        except RebuildError as refused:
            raise SystemExit(f"error: {refused}") from None
        except KeyboardInterrupt:
            raise SystemExit("interrupted; continue with --resume") from None
        if not finished:
            raise SystemExit(ONLY_RESTORED)


def _add_republish(cli: typer.Typer, load: Callable[[], S], sources: Sequence[Source]) -> None:
    @cli.command()
    def republish(
        unit: Annotated[str | None, typer.Option(help="Only this unit and all units below it.")] = None,
        after: Annotated[
            str, typer.Option(help="Continue after this id, printed by an interrupted run.")
        ] = "",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Count documents; stage nothing.")] = False,
    ) -> None:
        """Publish the state of this service again as snapshots, for consumers that have lost theirs. The
        running service publishes them."""
        console = Console()
        settings = load()
        _log_warnings_only(settings)
        runtime = Runtime(settings)
        try:
            work = Republish(runtime.database, runtime.outbox, sources, console, unit=unit, after=after)
        except ValueError:
            raise SystemExit("error: --after must be a value printed by an interrupted run") from None
        try:
            counts = asyncio.run(work.count() if dry_run else work.run())
        except BaseException:
            if work.reached:
                console.print(f"To continue: --after {work.reached}")
            raise
        finally:
            runtime.close()
        for name, count in counts.items():
            console.print(f"{name}: {count}")


def _log_warnings_only(settings: ServiceSettings) -> None:
    """Log only warnings and errors: the command prints its own progress."""
    configure_logs(
        service=settings.service, instance=settings.instance, level="WARNING", fmt=settings.log_format
    )
