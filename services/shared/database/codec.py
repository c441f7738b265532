"""Aggregates and their documents: each field is declared once, in the dataclass; both directions are derived.

The codec sits on the path of every request and event. So, as dataclasses do with `__init__`, it writes the
code of both directions field by field when it is built: that takes half the time of looping over the fields.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeVar

from services.shared.database.mongo import Document

A = TypeVar("A")
_Convert = Callable[[Any], Any]


class Codec(Generic[A]):
    """Maps a frozen dataclass to its MongoDB document and back.

    The field `id_field` becomes `_id`. Enums are stored as their values, tuples as arrays, nested dataclasses
    as documents. Fields named in `omit_none` are left out of the document while they are None, which keeps
    them out of sparse indexes; any field that a document lacks gets the dataclass's default. `exclude` names
    fields that are stored by other means and must have a default or be given to `decode`.
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
        names = tuple(f.name for f in fields)
        self._keys = tuple("_id" if name == id_field else name for name in names)
        self._write: Callable[[A], Document] = _writer(names, self._keys, _converters(names, hints, _encoder))
        self._read: Callable[..., A] = _reader(cls, fields, self._keys, _converters(names, hints, _decoder))
        self._omitted = tuple(omit_none)

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields of the document, `_id` among them."""
        return self._keys

    @property
    def omitted(self) -> tuple[str, ...]:
        """Fields that a document has only while they are not None."""
        return self._omitted

    def encode(self, aggregate: A) -> Document:
        document = self._write(aggregate)
        for key in self._omitted:
            if document[key] is None:
                del document[key]
        return document

    def decode(self, document: Mapping[str, Any], **given: Any) -> A:
        """`given` are values of excluded fields.

        Raises: `KeyError` or `TypeError` when a field without a default is missing.
        """
        return self._read(document, given)


def as_dict(cls: type[A]) -> Callable[[A], dict[str, Any]]:
    """A function that gives the fields of a `cls` by name, with values as they are (`asdict` copies them)."""
    names = tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]
    return _writer(names, names, {})


def _writer(
    names: Sequence[str], keys: Sequence[str], converters: Mapping[str, _Convert]
) -> Callable[[Any], Document]:
    items = (
        f"{key!r}: {_converted(name, f'aggregate.{name}', converters)}"
        for name, key in zip(names, keys, strict=True)
    )
    return _compiled(f"lambda aggregate: {{{', '.join(items)}}}", _named("convert", converters))


def _reader(
    cls: type[A],
    fields: Sequence[dataclasses.Field[Any]],
    keys: Sequence[str],
    converters: Mapping[str, _Convert],
) -> Callable[..., A]:
    defaults: dict[str, Any] = {}
    arguments = []
    for field, key in zip(fields, keys, strict=True):
        value = _converted(field.name, f"document[{key!r}]", converters)
        if field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory
            value = f"{value} if {key!r} in document else default_{field.name}()"
        elif field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
            value = f"{value} if {key!r} in document else default_{field.name}"
        arguments.append(f"{field.name}=({value})")
    scope = {"cls": cls, **_named("convert", converters), **_named("default", defaults)}
    return _compiled(f"lambda document, given={{}}: cls({', '.join(arguments)}, **given)", scope)


def _converted(name: str, value: str, converters: Mapping[str, _Convert]) -> str:
    if name not in converters:
        return value
    return f"(None if (value := {value}) is None else convert_{name}(value))"


def _named(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def _compiled(source: str, scope: dict[str, Any]) -> Callable[..., Any]:
    function: Callable[..., Any] = eval(source, scope)  # noqa: S307 (made of the names of fields alone)
    return function


def _converters(
    names: Iterable[str], hints: Mapping[str, Any], converter: Callable[[Any], _Convert | None]
) -> dict[str, _Convert]:
    """By name, for the fields that need one."""
    found = {name: converter(hints[name]) for name in names}
    return {name: convert for name, convert in found.items() if convert is not None}


def _bare(hint: Any) -> Any:
    """`X` of `X | None`."""
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
        codec = Codec(hint, omit_none=_optional(hint))
        return codec.encode if codec.omitted else codec._write
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return attrgetter("value")
    return None


def _decoder(hint: Any) -> _Convert | None:
    hint = _bare(hint)
    if typing.get_origin(hint) is tuple:
        inner = _decoder(typing.get_args(hint)[0])
        return tuple if inner is None else lambda values: tuple([inner(value) for value in values])
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return Codec(hint)._read
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    return None


def _optional(cls: type) -> list[str]:
    """Fields of a nested dataclass that default to None: absent rather than null, as they always were."""
    return [f.name for f in dataclasses.fields(cls) if f.default is None]
