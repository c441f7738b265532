"""The field `within` of documents that belong to a unit: all units whose subtrees contain it, and `*`.

An index that begins with it and ends with the id finds a page of any subtree in the order of ids, however
many documents other units have.
"""

from __future__ import annotations

from typing import Final

from services.shared.contracts.vocabulary import lineage
from services.shared.database import Collection, Document
from services.shared.identity import ALL_UNITS

_PARTS: Final[Document] = {"$split": ["$unit", "-"]}
_JOINED: Final[Document] = {
    "$reduce": {
        "input": {"$slice": [_PARTS, "$$depth"]},
        "initialValue": "",
        "in": {"$concat": ["$$value", {"$cond": [{"$eq": ["$$value", ""]}, "", "-"]}, "$$this"]},
    }
}
_DEPTHS: Final[Document] = {"$range": [1, {"$add": [{"$size": _PARTS}, 1]}]}
_WITHIN: Final[Document] = {
    "$concatArrays": [[ALL_UNITS], {"$map": {"input": _DEPTHS, "as": "depth", "in": _JOINED}}]
}
"""`within` of the field `unit`, as an expression of MongoDB."""


def within(unit: str) -> list[str]:
    return [ALL_UNITS, *lineage(unit)]


async def fill_within(collection: Collection) -> None:
    """Add the field to documents that lack it. May be repeated."""
    await collection.update_many({"within": {"$exists": False}}, [{"$set": {"within": _WITHIN}}])
