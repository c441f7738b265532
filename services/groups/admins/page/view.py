"""The HTML of the page, and the headers that keep it to itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.groups.admins.page.people import MOST, Person
from services.groups.admins.page.words import LANGUAGES, SAID, WORDS
from services.groups.admins.store import Task
from services.groups.core.domain import Group

TEMPLATES: Final = Path(__file__).parent / "templates"
STYLE: Final = (TEMPLATES / "style.css").read_text(encoding="utf-8")
_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
"""Nothing but the one style sheet is loaded, run or framed; the address, which is the key, goes nowhere."""


class View:
    def __init__(self) -> None:
        machine = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        machine.globals["style"] = Markup(STYLE)  # noqa: S704 (a file of ours)
        self._group = machine.get_template("group.html.j2")
        self._notice = machine.get_template("notice.html.j2")

    def group(
        self,
        group: Group,
        tasks: Sequence[Task],
        people: Mapping[str, Person],
        observed: Mapping[str, Any],
        *,
        lang: str,
        path: str,
        form: str,
        said: str | None,
    ) -> str:
        words = WORDS[lang]
        counts = [
            (words["joined"], observed.get("joined", 0)),
            (words["never_came"], observed.get("never_came", 0)),
            (words["left"], observed.get("left", 0)),
            (words["out"], observed.get("two_groups", 0) + observed.get("no_seat", 0)),
            (words["strangers"], observed.get("strangers", 0)),
        ]
        return self._group.render(
            w=words,
            lang=lang,
            other=next(each for each in LANGUAGES if each != lang),
            name=group.name.get(lang) or group.unit,
            group=group,
            link=group.invite_link,
            tasks=[_task(each, people) for each in tasks[:MOST]],
            more=len(tasks) > MOST,
            observed={"at": None, **observed},
            counts=counts,
            path=path,
            form=form,
            said=words[f"said_{said}"] if said in SAID else None,
        )

    def notice(self, what: str) -> str:
        """In both languages: nobody knows whose link it is."""
        both = [{"title": WORDS[lang][f"{what}_title"], "text": WORDS[lang][what]} for lang in LANGUAGES]
        return self._notice.render(words=both, lang="hi")


def _task(task: Task, people: Mapping[str, Person]) -> dict[str, str | None]:
    person = people.get(task.member_id, Person())
    successor = people.get(task.successor, Person()) if task.successor else Person()
    return {
        "id": task.id,
        "kind": task.kind.value,
        "name": person.name,
        "phone": person.phone,
        "successor": successor.name,
    }
