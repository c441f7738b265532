"""Prices of messages, valid from a day on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

PriceChannel = Literal["sms", "whatsapp", "email"]


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a message (of SMS: of each part) from the day `since` on, until a later one. `category` is
    as in an approval; without it, the price is for all that have none of their own."""

    channel: PriceChannel
    since: date
    amount: Annotated[Decimal, Field(ge=0, le=10_000, max_digits=12, decimal_places=6)]
    category: Annotated[str, Field(max_length=40)] | None = None


def price_of(prices: Sequence[Price], channel: str, category: str | None, day: date) -> Decimal | None:
    """The price in force on a day; None if none is set."""
    valid = [p for p in prices if p.channel == channel and p.since <= day and p.category in (None, category)]
    best = max(valid, key=lambda p: (p.category is not None, p.since), default=None)
    return best.amount if best else None
