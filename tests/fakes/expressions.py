"""The part of MongoDB's query, update and expression language that messaging uses; anything else is
refused."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from services.shared.database import Document

MISSING: Any = object()
Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]

_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$in": lambda value, wanted: value in wanted,
    "$nin": lambda value, unwanted: value not in unwanted,
    "$ne": operator.ne,
    "$gt": lambda value, least: value is not None and value > least,
    "$gte": lambda value, least: value is not None and value >= least,
}


def matches(document: Document, query: Mapping[str, Any]) -> bool:
    return all(_fits(document.get(_name(field)), wanted) for field, wanted in query.items())


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(_TESTS[test](value, operand) for test, operand in wanted.items())
    return bool(value == wanted)


def _name(field: str) -> str:
    if field.startswith("$") or "." in field:
        raise NotImplementedError(field)
    return field


def project(document: Document, fields: Mapping[str, int] | None) -> Document:
    if not fields:
        return document
    if any(fields.values()):
        return {name: value for name, value in document.items() if fields.get(name, name == "_id")}
    return {name: value for name, value in document.items() if name not in fields}


def updated(document: Document, update: Update, now: datetime) -> Document:
    """The document after an update: `{"$set": ...}`, `{"$inc": ...}`, `{"$unset": ...}`, or a pipeline of
    `$set` and `$unset`."""
    if isinstance(update, Mapping):
        changed = dict(document)
        for name, fields in update.items():
            for field, value in fields.items():
                if name == "$unset":
                    changed.pop(_name(field), None)
                    continue
                changed[_name(field)] = {"$set": lambda _, v: v, "$inc": operator.add}[name](
                    changed.get(field, 0), value
                )
        return changed
    for stage in update:
        document = _stage(document, stage, now)
    return document


def _stage(document: Document, stage: Mapping[str, Any], now: datetime) -> Document:
    ((name, argument),) = stage.items()
    if name == "$unset":
        return {field: value for field, value in document.items() if field != argument}
    if name != "$set":
        raise NotImplementedError(name)
    values = {field: evaluate(expression, document, now) for field, expression in argument.items()}
    return {**document, **{field: value for field, value in values.items() if value is not MISSING}}


def evaluate(expression: Any, document: Document, now: datetime) -> Any:
    """The value of an aggregation expression; `now` is `$$NOW`. A missing field sorts before everything."""
    if isinstance(expression, str) and expression.startswith("$"):
        return now if expression == "$$NOW" else document.get(_name(expression[1:]), MISSING)
    if not isinstance(expression, dict):
        return expression
    ((name, operands),) = expression.items()
    return _OPERATORS[name](*(evaluate(operand, document, now) for operand in operands))


def _if_null(value: Any, otherwise: Any) -> Any:
    return otherwise if value is MISSING or value is None else value


_OPERATORS: dict[str, Callable[..., Any]] = {
    "$or": lambda *values: any(value is not MISSING and value for value in values),
    "$eq": lambda a, b: a is b or a == b,
    "$lt": lambda a, b: (b is not MISSING) and (a is MISSING or a < b),
    "$ifNull": _if_null,
    "$add": lambda moment, milliseconds: moment + timedelta(milliseconds=milliseconds),
    "$cond": lambda condition, then, otherwise: then if condition else otherwise,
}
