"""The errors of imports; none repeats what the file holds."""

from __future__ import annotations

from services.members.imports.reading import UnreadableError
from services.shared.errors import ConflictError, InvalidError


def refused_file(error: UnreadableError) -> InvalidError:
    return InvalidError(
        reason=f"import-{error.reason.replace('_', '-')}",
        detail=error.detail,
        title="The file cannot be imported",
    )


def not_planned(state: str) -> ConflictError:
    return ConflictError(
        "import-not-planned", "the import has no plan that can be applied", extra={"state": state}
    )
