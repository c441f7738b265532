"""The mapping between aggregates and MongoDB documents: each field is declared once, in the dataclass, and
both directions are derived from it.

The codec is on the path of every request and event, so it decides as much as possible once, when it is built.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from services.shared.database.mongo import Document

A = TypeVar("A")
_Convert = Callable[[Any], Any]
_SCALARS: Final = (str, int, float, bool, bytes)


class Codec(Generic[A]):
    """Maps a frozen dataclass to its MongoDB document and back.

    The field `id_field` becomes `_id`. Enums are stored as their values, tuples as arrays, nested dataclasses
    as documents. Fields in `omit_none` are left out of the document while they are None, which keeps them out
    of sparse indexes. A field that a document lacks gets the dataclass's default. Fields in `exclude` are
    stored by other means: they need a default, or must be passed to `decode`.
    """

    def __init__(
        self,
        cls: type[A],
        *,
        id_field: str | None = None,
        omit_none: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> None:
        excluded = frozenset(exclude)
        hints = typing.get_type_hints(cls)
        fields = [f for f in dataclasses.fields(cls) if f.init and f.name not in excluded]  # type: ignore[arg-type]
        self._cls = cls
        self._names = tuple(f.name for f in fields)
        self._keys = tuple("_id" if name == id_field else name for name in self._names)
        self._read: Callable[[A], tuple[Any, ...]] = _getter(self._names)
        self._to: tuple[tuple[str, _Convert], ...] = _converters(self._keys, self._names, hints, _encoder)
        self._from: tuple[tuple[str, _Convert], ...] = _converters(self._names, self._names, hints, _decoder)
        self._omitted = tuple(omit_none)
        self._pairs = tuple(zip(self._names, self._keys, strict=True))

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields of the document, `_id` among them."""
        return self._keys

    @property
    def omitted(self) -> tuple[str, ...]:
        """Fields that are left out of a document while they are None."""
        return self._omitted

    def encode(self, aggregate: A) -> Document:
        document: Document = dict(zip(self._keys, self._read(aggregate), strict=True))
        for key, convert in self._to:
            if (value := document[key]) is not None:
                document[key] = convert(value)
        for key in self._omitted:
            if document[key] is None:
                del document[key]
        return document

    def decode(self, document: Mapping[str, Any], **given: Any) -> A:
        """Raises: `KeyError` or `TypeError` when a field without a default is missing."""
        values = {name: document[key] for name, key in self._pairs if key in document}
        for name, convert in self._from:
            if (value := values.get(name)) is not None:
                values[name] = convert(value)
        return self._cls(**values, **given)


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda aggregate: (get(aggregate),)


def _converters(
    keys: tuple[str, ...],
    names: tuple[str, ...],
    hints: Mapping[str, Any],
    converter: Callable[[Any], _Convert | None],
) -> tuple[tuple[str, _Convert], ...]:
    """The converters of the fields that need one."""
    found = ((key, converter(hints[name])) for key, name in zip(keys, names, strict=True))
    return tuple((key, convert) for key, convert in found if convert is not None)


def _bare(hint: Any) -> Any:
    """Reduce `X | None` to `X`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return hint


def _encoder(hint: Any) -> _Convert | None:
    hint = _bare(hint)
    if typing.get_origin(hint) is tuple:
        inner = _encoder(typing.get_args(hint)[0])
        return list if inner is None else lambda values: [inner(value) for value in values]
    if typing.get_origin(hint) in (Mapping, dict):
        return dict
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return Codec(hint, omit_none=_optional(hint)).encode
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return attrgetter("value")
    return None


def _decoder(hint: Any) -> _Convert | None:
    hint = _bare(hint)
    if typing.get_origin(hint) is tuple:
        inner = _decoder(typing.get_args(hint)[0])
        return tuple if inner is None else lambda values: tuple([inner(value) for value in values])
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return Codec(hint).decode
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    return None


def _optional(cls: type) -> list[str]:
    """Fields of a nested dataclass that default to None: nested documents leave them out instead of storing
    null."""
    return [f.name for f in dataclasses.fields(cls) if f.default is None]
