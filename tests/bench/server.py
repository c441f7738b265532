"""The members service plus the route `POST /v1/bench/nothing`: checks the same token, parses the same body,
does nothing.

`python -m tests.bench.server`, configured by the environment like the service itself.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Response

from services.members.app import build
from services.members.schemas import Registration
from services.members.settings import MembersSettings
from services.shared.http.auth import Identity, require
from services.shared.http.body import JSON, Route
from services.shared.runtime import serve

nothing = APIRouter(prefix="/v1/bench", route_class=Route)


@nothing.post("/nothing", status_code=201)
async def do_nothing(
    caller: Annotated[Identity, Depends(require("members:write"))], body: Registration
) -> Response:
    return JSON({"unit": body.unit}, 201)


def with_baseline(settings: MembersSettings) -> FastAPI:
    app = build(settings)
    app.router.routes[:0] = nothing.routes
    return app


if __name__ == "__main__":
    serve(MembersSettings.load(), with_baseline)
