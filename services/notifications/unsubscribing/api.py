"""The routes of the link in an e-mail: a page with one button, and the click itself, which mail programs
make without the page (RFC 8058). They take no token: the link is signed. A GET changes nothing, because
scanners of mail open every link.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse, Response

from services.notifications.core.unsubscribing import PATH
from services.notifications.unsubscribing.service import Unsubscribing
from services.shared.http.body import Route, problems

Token = Annotated[str, Path(max_length=200)]
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
_PAGE: Final = """<!doctype html>
<html lang="hi"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title></head><body><main>{content}</main></body></html>
"""
_ASK: Final = _PAGE.format(
    title="ई-मेल बंद करें · Stop e-mails",
    content=(
        "<h1>ई-मेल बंद करें</h1><p>क्या आप हमारे ई-मेल नहीं पाना चाहते?</p>"
        '<h2 lang="en">Stop e-mails</h2><p lang="en">Do you want no more e-mails from us?</p>'
        '<form method="post"><button>हाँ, बंद करें · <span lang="en">Yes, stop them</span></button></form>'
    ),
)
_DONE: Final = _PAGE.format(
    title="बंद · Stopped",
    content=(
        "<h1>ई-मेल बंद कर दिए गए हैं</h1><p>हम इस पते पर और संदेश नहीं भेजेंगे।</p>"
        '<p lang="en">E-mails are stopped: we send no more messages to this address.</p>'
    ),
)
_FORM: Final = {
    "requestBody": {
        "required": False,
        "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
    }
}


def unsubscribe_router(unsubscribing: Unsubscribing) -> APIRouter:
    router = APIRouter(prefix=PATH, route_class=Route)

    @router.get("/{token}", response_class=HTMLResponse, responses=problems(404))
    async def ask(token: Token) -> Response:
        """A page that asks whether e-mails are to stop, in Hindi and English."""
        await unsubscribing.check(token)
        return HTMLResponse(_ASK, headers=HEADERS)

    @router.post("/{token}", response_class=HTMLResponse, responses=problems(404), openapi_extra=_FORM)
    async def stop(token: Token) -> Response:
        """Stop e-mails to the address that the message went to; the body is not read."""
        await unsubscribing.stop(token)
        return HTMLResponse(_DONE, headers=HEADERS)

    return router
