"""Fields of a unit that JSON and CSV share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

WomenTarget = Annotated[float | None, Field(ge=0, le=1, description="Share of women aimed at, from 0 to 1.")]
