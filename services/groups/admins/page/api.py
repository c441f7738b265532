"""The routes of the page. They take no bearer token: the signed link is the key.

Every link that does not work is answered alike, whatever the reason. A GET changes nothing; a POST carries
the token of its form, and is answered with a redirection, so that going back repeats nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import TypeAdapter, ValidationError

from services.groups.admins.page.forms import FormError, read_form
from services.groups.admins.page.limits import PageLimits
from services.groups.admins.page.people import MOST, People
from services.groups.admins.page.tokens import PageTokens
from services.groups.admins.page.view import HEADERS, View
from services.groups.admins.page.words import LANGUAGES
from services.groups.admins.service import AdminService
from services.groups.admins.store import Page
from services.groups.core.core import Core
from services.groups.core.domain import Group
from services.groups.core.schemas import InviteLink
from services.shared.contracts.vocabulary import parent_of
from services.shared.errors import ConflictError, InvalidError, StaleVersionError, TransientError
from services.shared.http.body import Route
from services.shared.identity import Identity

Lang = Annotated[Literal["hi", "en"], Query()]
LINK: Final = TypeAdapter[str](InviteLink)
_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": {"type": "object"}}},
    }
}


@dataclass(frozen=True, slots=True)
class Opened:
    page: Page
    group: Group

    @property
    def caller(self) -> Identity:
        """The holder of the link runs this one group, and no other."""
        return Identity(f"page:{self.page.id}", frozenset({"groups:write"}), self.group.unit)

    @property
    def neighbour(self) -> Identity:
        """For a roster, also the units beside: their members' numbers on it mean that it is another
        group's."""
        unit = parent_of(self.group.unit) or self.group.unit
        return Identity(f"page:{self.page.id}", frozenset({"groups:write"}), unit)


class AdminPage:
    def __init__(self, core: Core, admins: AdminService, tokens: PageTokens) -> None:
        self._core = core
        self._admins = admins
        self._tokens = tokens
        self._people = People(core.members)
        self._view = View()
        self._limits = PageLimits()

    async def open(self, token: str) -> Opened | Response:
        """The page, or the answer that there is none."""
        page_id = self._tokens.read(token)
        if page_id is None:
            return self._notice("gone", 404) if self._limits.admits_unknown() else self._notice("slow", 429)
        if not self._limits.admits(page_id):
            return self._notice("slow", 429)
        found = await self._admins.open_page(page_id)
        return Opened(*found) if found else self._notice("gone", 404)

    async def show(self, opened: Opened, token: str, lang: str, said: str | None) -> Response:
        group = opened.group
        tasks = await self._admins.tasks(group.id)
        people = await self._people.of(tasks[:MOST])
        [linked] = await self._core.links.opened([group])
        html = self._view.group(
            linked,
            tasks,
            people,
            await self._admins.observed(group.id),
            lang=lang,
            path=f"/admin/{token}",
            form=self._tokens.form_token(opened.page.id),
            said=said,
        )
        return HTMLResponse(html, headers=HEADERS)

    async def form(self, request: Request, opened: Opened) -> dict[str, bytes] | Response:
        """The fields of a form that this page has sent."""
        try:
            fields = read_form(request.headers.get("content-type", ""), await request.body())
        except FormError:
            return self._notice("gone", 400)
        sent = fields.get("form", b"").decode("ascii", "replace")
        return fields if self._tokens.is_form_token(opened.page.id, sent) else self._notice("gone", 403)

    async def set_link(self, opened: Opened, fields: dict[str, bytes]) -> str:
        try:
            link = LINK.validate_python(fields.get("link", b"").decode())
        except (ValidationError, UnicodeError):
            return "bad_link"
        try:
            await self._core.set_link(opened.caller, opened.group.id, link)
        except StaleVersionError:
            return "again"
        return "link"

    async def take_roster(self, opened: Opened, fields: dict[str, bytes]) -> str:
        content = fields.get("file") or fields.get("text", b"")
        try:
            await self._core.take_roster(
                opened.neighbour, opened.group.id, content, fields.get("complete") == b"yes"
            )
        except InvalidError:
            return "bad_roster"
        except (ConflictError, TransientError):
            return "again"
        return "roster"

    async def done(self, opened: Opened, fields: dict[str, bytes]) -> str:
        task_id = fields.get("task", b"").decode("ascii", "replace")
        task = await self._admins.find_task(opened.group.id, task_id)
        if task is None:  # done by another admin meanwhile
            return "done"
        try:
            await self._people.removed(task)
        except TransientError:
            return "again"
        await self._admins.done(opened.group.id, task_id)
        return "done"

    def _notice(self, what: str, status: int) -> Response:
        return HTMLResponse(self._view.notice(what), status, headers=HEADERS)


def page_router(page: AdminPage) -> APIRouter:
    router = APIRouter(prefix="/admin", route_class=Route, include_in_schema=False)

    @router.get("/{token}")
    async def get_page(
        token: str, lang: Lang = "hi", said: Annotated[str | None, Query(max_length=20)] = None
    ) -> Response:
        opened = await page.open(token)
        if isinstance(opened, Response):
            return opened
        return await page.show(opened, token, lang, said)

    @router.post("/{token}/{action}", openapi_extra=_FORM)
    async def post_form(request: Request, token: str, action: Literal["link", "roster", "done"]) -> Response:
        opened = await page.open(token)
        if isinstance(opened, Response):
            return opened
        fields = await page.form(request, opened)
        if isinstance(fields, Response):
            return fields
        do = {"link": page.set_link, "roster": page.take_roster, "done": page.done}[action]
        said = await do(opened, fields)
        asked = fields.get("lang", b"").decode("ascii", "replace")
        lang = asked if asked in LANGUAGES else LANGUAGES[0]
        return RedirectResponse(f"/admin/{token}?lang={lang}&said={said}", 303, headers=HEADERS)

    return router
