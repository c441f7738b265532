"""Rows of a plan on their way into the store and back: JSON, sealed as a whole for each page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from services.members.imports.domain import PlannedRow, RefusedRow
from services.shared.encryption import Vault

PLAN: Final = "plan"
REFUSED: Final = "refused"
ASIDE: Final = "aside"
HEADER: Final = "header"


class Pages:
    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def seal(self, page_id: str, field: str, rows: Sequence[PlannedRow | RefusedRow]) -> bytes | None:
        """The content of one field of a page; None when there is none."""
        if not rows:
            return None
        content = orjson.dumps([_values(row) for row in rows])
        return await self._vault.seal_bytes(f"{page_id}/{field}", content)

    async def planned(self, page: dict[str, Any]) -> list[PlannedRow]:
        rows = await self._open(page, PLAN)
        lists = ("changed", "notes", "also")
        return [PlannedRow(**row | {name: tuple(row.get(name, ())) for name in lists}) for row in rows]

    async def refused(self, page: dict[str, Any], field: str = REFUSED) -> list[RefusedRow]:
        return [RefusedRow(**row) for row in await self._open(page, field)]

    async def seal_header(self, import_id: str, header: Sequence[str]) -> bytes:
        return await self._vault.seal_bytes(f"{import_id}/{HEADER}", orjson.dumps(list(header)))

    async def header(self, document: dict[str, Any]) -> list[str]:
        opened = await self._vault.open_bytes(f"{document['_id']}/{HEADER}", document[HEADER])
        return list(orjson.loads(opened))

    async def _open(self, page: dict[str, Any], field: str) -> list[dict[str, Any]]:
        if field not in page:
            return []
        return list(orjson.loads(await self._vault.open_bytes(f"{page['_id']}/{field}", page[field])))


def _values(row: PlannedRow | RefusedRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in type(row).__slots__}
