"""The texts that messages are made of: those as shipped, and over them those that operators have put.

A language in which a text has no version falls back to Hindi, which speakers of Bihar's other languages read.
The texts get data that people typed, so they run in Jinja2's sandbox; a missing variable is an error, not an
empty place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import css_inline
import structlog

from services.notifications.core.templates.catalogue import FALLBACK, TEST, is_test, known, samples
from services.notifications.core.templates.domain import (
    Rendered,
    TextVersion,
    Unfit,
    approved_of,
    is_exact,
    text_id,
    wording_faults,
)
from services.notifications.core.templates.grammar import Source, UnrenderableError
from services.notifications.core.templates.letters import as_letter, plain_of
from services.notifications.core.templates.store import TemplateStore
from services.shared.contracts.vocabulary import Channel

log = structlog.get_logger(__name__)

DIRECTORY: Final = Path(__file__).parent / "templates" / "texts"
VALUE_CHARACTERS: Final = 30
"""Characters that a place of a text registered with DLT takes, by custom."""
TESTED: Final = "[Test] "
"""Begins the subject of a test by e-mail; a text cannot be marked, for it must be as it was approved."""
Values: TypeAlias = Mapping[str, str | Mapping[str, str]]
"""By variable: the value, or the names of one thing by language."""
_INLINER: Final = css_inline.CSSInliner(load_remote_stylesheets=False)


@dataclass(frozen=True)
class Text:
    """A version, ready to be rendered."""

    version: TextVersion
    text: Source
    subject: Source | None
    html: Source | None

    @classmethod
    def of(cls, version: TextVersion) -> Text:
        """Raises: `ValueError` for what `wording_faults` finds."""
        wording = version.wording
        if found := [f"{of} {fault}" for of, fault in wording_faults(version.name, wording)]:
            raise ValueError(f"{version.id}: {'; '.join(found)}")
        subject = Source(wording.subject) if wording.subject else None
        html = Source(wording.html, html=True) if wording.html else None
        return cls(version, Source(wording.text), subject, html)

    def rendered(self, channel: str, values: Mapping[str, str]) -> Rendered:
        """Raises: `UnrenderableError`."""
        subject = html = text = None
        if channel == Channel.EMAIL:
            subject = self.subject.render(values) if self.subject else None
            if self.html is not None:
                rendered = self.html.render(values)
                html, text = inlined(rendered), plain_of(rendered)
        version = self.version
        text = text or self.text.render(values)
        return Rendered(version.version, version.language, text, subject=subject, html=html)


@dataclass
class Entry:
    """A name in a language: the newest version, and of each channel the newest that is approved there."""

    newest: Text
    approved: dict[str, Text] = field(default_factory=dict)


class Texts:
    """All texts, in memory; `refresh` reads those of operators again if any has changed.

    Raises: `ValueError` for a shipped text that is not valid, or has no Hindi version.
    """

    def __init__(
        self,
        store: TemplateStore | None = None,
        *,
        value_characters: int = VALUE_CHARACTERS,
        directory: Path = DIRECTORY,
    ) -> None:
        self._store = store
        self._value_characters = value_characters
        shipped = [_shipped(file) for file in sorted(directory.glob("*.j2"))]
        self._shipped = {(v.name, v.language): Text.of(v) for v in shipped}
        if orphans := {name for name, _ in self._shipped if (name, FALLBACK) not in self._shipped}:
            raise ValueError(f"without a {FALLBACK} version: {', '.join(sorted(orphans))}")
        self._entries = {key: Entry(text) for key, text in self._shipped.items()}
        self._revision = 0

    async def refresh(self) -> None:
        """Raises: `pymongo.errors.PyMongoError`; the texts then stay as they are."""
        if self._store is None:
            return
        revision = await self._store.revision()
        if revision == self._revision:
            return
        entries = {key: Entry(text) for key, text in self._shipped.items()}
        ready = {text.version.id: text for entry in self._entries.values() for text in _texts(entry)}
        seen: set[tuple[str, str]] = set()
        async for version in self._store.everything():
            key = version.name, version.language
            channels = [a.channel for a in version.approvals if version.is_approved(a.channel)]
            entry = entries.get(key)
            wanted = [c for c in channels if entry is None or c not in entry.approved]
            if key in seen and not wanted:
                continue
            text = _usable(version, ready)
            if text is None:
                continue
            if entry is None:
                entry = entries[key] = Entry(text)
            elif key not in seen:
                entry.newest = text
            seen.add(key)
            entry.approved |= dict.fromkeys(wanted, text)
        self._entries, self._revision = entries, revision

    def shipped(self, name: str, language: str) -> TextVersion | None:
        found = self._shipped.get((name, language))
        return found.version if found else None

    def entries(self) -> list[Entry]:
        """Each name in each of its languages, in their order."""
        return [self._entries[key] for key in sorted(self._entries)]

    def entry(self, name: str, language: str) -> Entry | None:
        return self._entries.get((name, language))

    def language_for(self, name: str, language: str) -> str:
        """The language in which `name` is sent to a member who speaks `language`, unless its approvals on a
        channel allow another one only."""
        return language if (name.removeprefix(TEST), language) in self._entries else FALLBACK

    def compose(
        self, name: str, language: str, channel: str, values: Values, *, approved: bool = False
    ) -> Rendered | Unfit:
        """The text as it goes on a channel, or why none can. `approved`: the channel takes approved templates
        only. A name that begins with `test_` is a test, with samples for missing values.

        Raises: `UnrenderableError` when there is no such text, or a value is missing.
        """
        tested, name = is_test(name), name.removeprefix(TEST)
        found = self._entry_for(name, language)
        if approved:
            fitting = [entry for entry in found if channel in entry.approved]
            if not fitting and not (known(name).answers and channel == Channel.WHATSAPP):
                return Unfit.NOT_APPROVED
            approved, found = bool(fitting), fitting or found
        text = found[0].approved[channel] if approved else found[0].newest
        spoken = text.version.language
        given = {variable: _in(value, spoken) for variable, value in values.items()}
        if tested:
            given = samples(name, spoken) | given
        rendered = text.rendered(channel, given)
        if tested:
            rendered = _marked(rendered)
        return self._as_approved(text.version, rendered, channel, given) if approved else rendered

    def _entry_for(self, name: str, language: str) -> list[Entry]:
        """In the language, and in the one that it falls back to."""
        keys = dict.fromkeys([(name, language), (name, FALLBACK)])
        if found := [self._entries[key] for key in keys if key in self._entries]:
            return found
        raise UnrenderableError(f"no text {name}")

    def _as_approved(
        self, version: TextVersion, rendered: Rendered, channel: str, values: Mapping[str, str]
    ) -> Rendered | Unfit:
        approval = version.approval(channel)
        assert approval is not None
        if approval.text is not None and not is_exact(rendered.text, approval.text, self._value_characters):
            return Unfit.NOT_EXACT
        try:
            return replace(rendered, approved=approved_of(approval, values))
        except KeyError as error:
            raise UnrenderableError(f"no value for {error.args[0]}") from None


def inlined(html: str) -> str:
    """With its styles at the elements that they are for: many readers of e-mail know no others.

    Raises: `UnrenderableError`.
    """
    try:
        return str(_INLINER.inline(html))
    except ValueError as error:
        raise UnrenderableError(f"styles: {type(error).__name__}") from None


def in_language(names: Mapping[str, str], language: str) -> str:
    """Pick a name by language: in `language`, else in Hindi, else in any language there is.

    Raises: `UnrenderableError` when there is none.
    """
    found = names.get(language) or names.get(FALLBACK) or next(iter(names.values()), "")
    if not found:
        raise UnrenderableError("no name")
    return found


def _in(value: str | Mapping[str, str], language: str) -> str:
    return value if isinstance(value, str) else in_language(value, language)


def _marked(rendered: Rendered) -> Rendered:
    return replace(rendered, subject=TESTED + (rendered.subject or rendered.text.partition("\n")[0]))


def _shipped(file: Path) -> TextVersion:
    name, language, _ = file.name.split(".")
    wording = as_letter(name, language, file.read_text(encoding="utf-8").strip())
    return TextVersion(
        id=text_id(name, language, 0), name=name, language=language, version=0, wording=wording
    )


def _texts(entry: Entry) -> list[Text]:
    return [entry.newest, *entry.approved.values()]


def _usable(version: TextVersion, ready: Mapping[str, Text]) -> Text | None:
    """Compiled already, or now. One that another release has taken and this one does not is passed over."""
    try:
        text = ready.get(version.id)
        return replace(text, version=version) if text else Text.of(version)
    except ValueError:
        log.error("template.unusable", template=version.id)
        return None
