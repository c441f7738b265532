"""The members service with an empty route, `POST /v1/bench/nothing`: it checks the token and parses the body.

`python -m tests.bench.server`, configured by the environment like the service itself.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.members.app import build
from services.members.registration.schemas import Registration
from services.members.settings import MembersSettings
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route
from services.shared.identity import Identity
from services.shared.runtime import Service, serve

nothing = APIRouter(prefix="/v1/bench", route_class=Route)


@nothing.post("/nothing", status_code=201)
async def do_nothing(
    caller: Annotated[Identity, Depends(require("members:write"))], body: Registration
) -> Response:
    return JSON({"unit": body.unit}, 201)


def with_baseline(settings: MembersSettings) -> Service:
    service = build(settings)
    service.app.router.routes[:0] = nothing.routes
    return service


if __name__ == "__main__":
    serve(MembersSettings.load(), with_baseline)
