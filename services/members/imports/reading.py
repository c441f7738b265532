"""Bytes of a file become rows, a slice at a time: encoding, delimiter, header and broken lines. Pure.

A slice begins at a byte offset and ends with a whole row, so a job can go on from there after any crash, and
memory does not depend on the size of the file. A row that cannot be read costs that line alone.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import orjson
from charset_normalizer import from_bytes

SAMPLE_BYTES: Final = 256 * 1024
"""The beginning of a file, from which its form is told."""
SLICE_BYTES: Final = 128 * 1024
SLICE_ROWS: Final = 1000
MAX_ROW_BYTES: Final = 64 * 1024
"""A longer line, or a quoted cell that goes on for longer, is refused."""
MAX_ROW_LINES: Final = 20
MAX_COLUMNS: Final = 200

_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_SIGNATURES: Final = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet (.xlsx, .ods)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet (.xls)"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"%PDF", "a PDF"),
    (b"{\\rtf", "a text document (.rtf)"),
)
_FOREIGN_LINES: Final = 4
"""Lines that speak for another encoding than UTF-8, when none speaks for it."""
_GUESS_BYTES: Final = 32 * 1024
_DELIMITERS: Final = (",", ";", "\t")
_SEPARATOR_LINE: Final = re.compile(r'"?sep=([,;\t|])"?')
"""By which spreadsheets say what separates the cells of a file."""
_TITLE_LINES: Final = 10
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1f]")

Kind = Literal["csv", "ndjson"]
JsonKind = Literal["boolean", "handles", "other"]
"""`handles` is a list of `{platform, handle}`."""


class UnreadableError(Exception):
    """The file as a whole cannot be imported. `reason` is a word, `detail` says what to do; neither quotes
    it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is to be read. `start` is the offset of the first row after the header, `line` its number;
    `newline` the character that ends lines. `header` is the file's own, for NDJSON the keys that rows
    may have."""

    kind: Kind
    encoding: str
    delimiter: str
    newline: str
    start: int
    line: int
    header: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of a newline."""
        return 2 if self.encoding.startswith("utf-16") else 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next slice begins. `skipping`: within a line that is too long and was refused."""

    offset: int
    line: int
    skipping: bool = False


class Row(NamedTuple):
    """The cells of a row and the number of its first line. `problem` says why the cells cannot be used.
    `kinds` are those of the cells of JSON that are neither text nor number, by their place."""

    line: int
    cells: Sequence[str]
    problem: str | None = None
    kinds: Mapping[int, JsonKind] = MappingProxyType({})


class Slice(NamedTuple):
    rows: Sequence[Row]
    then: Place
    at_end: bool


def form_of(sample: bytes, kind: Kind) -> Form:
    """The form of the file that begins with `sample`.

    Raises: `UnreadableError`.
    """
    if not sample.strip(b"\x00\t\r\n \xef\xbb\xbf\xff\xfe"):
        raise UnreadableError("empty_file", "the file is empty")
    for signature, what in _SIGNATURES:
        if sample.startswith(signature):
            raise UnreadableError("not_text", f"the file is {what}: save it as CSV, and send that")
    start, encoding = _encoding(sample)
    text = _decoded(sample[start:], encoding)
    newline = "\r" if "\n" not in text and "\r" in text else "\n"
    form = Form(kind, encoding, ",", newline, start, 1, ())
    if kind == "ndjson":
        return replace(form, header=_json_keys(form, sample))
    return _with_header(form, sample)


def read_slice(form: Form, content: bytes, place: Place, *, at_end: bool, most: int = SLICE_ROWS) -> Slice:
    """At most `most` rows of `content`, which begins at `place`; `at_end` says that the file ends with it.

    Raises: nothing; what cannot be read is a row with a problem.
    """
    lines = _lines(form, content, at_end)
    if not lines:
        return _no_line(form, content, place, at_end)
    if place.skipping:
        place = replace(place, offset=place.offset + lines[0][1], line=place.line + 1, skipping=False)
        lines = lines[1:]
    texts = [text for text, _ in lines]
    rows, used = _rows(form, texts, place.line, at_end, most)
    offset = place.offset + sum(size for _, size in lines[:used])
    return Slice(rows, Place(offset, place.line + used), at_end and used == len(lines))


def _no_line(form: Form, content: bytes, place: Place, at_end: bool) -> Slice:
    """Not even one whole line: a line that is too long, or nothing is left."""
    after = Place(place.offset + len(content), place.line, skipping=True)
    if place.skipping or not content:
        return Slice((), after, at_end)
    return Slice((Row(place.line, (), "line_too_long"),), after, at_end)


def _encoding(sample: bytes) -> tuple[int, str]:
    """The length of the byte order mark, and the encoding.

    Raises: `UnreadableError`.
    """
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return len(mark), name
    if len(sample) >= 4 and 0.3 < sample.count(0) / len(sample) < 0.7:
        evens = sample[::2].count(0)
        return 0, "utf-16-be" if evens > len(sample) // 4 else "utf-16-le"
    if (wide := _wide(sample)) is not None:
        return 0, wide
    whole = sample[: sample.rfind(b"\n") + 1] or sample
    lines = whole.split(b"\n")
    bad = sum(not _is_utf8(line) for line in lines)
    beyond_ascii = sum(not line.isascii() for line in lines)
    # The few other lines are refused one by one; unless no line is UTF-8 that could be told from ASCII.
    if bad * 10 <= len(lines) and (bad < beyond_ascii or bad < _FOREIGN_LINES):
        return 0, "utf-8"
    guess = from_bytes(whole[:_GUESS_BYTES], cp_isolation=["cp1252", "latin_1"]).best()
    if guess is None or guess.encoding not in ("cp1252", "latin_1"):
        raise UnreadableError("encoding", "neither UTF-8, UTF-16 nor Windows-1252: save it as UTF-8")
    return 0, "cp1252"


def _wide(sample: bytes) -> str | None:
    """UTF-16 without a mark in another script than Latin: the zeros are those of commas, digits and ends of
    lines, all on one side."""
    zeros = sample[::2].count(0), sample[1::2].count(0)
    if max(zeros) * 100 < len(sample) or min(zeros) * 10 > max(zeros):
        return None
    name = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    try:
        text = sample[: len(sample) // 2 * 2].decode(name)
    except UnicodeDecodeError:
        return None
    return name if "\n" in text and any(mark in text for mark in _DELIMITERS) else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(content: bytes, encoding: str) -> str:
    """The text, with bytes that are none as lone surrogates, so that their row can be refused."""
    if encoding.startswith("utf-16"):
        return content[: len(content) // 2 * 2].decode(encoding, "surrogatepass")
    return content.decode(encoding, "surrogateescape")


def _lines(form: Form, content: bytes, at_end: bool) -> list[tuple[str, int]]:
    """The whole lines with their lengths in bytes."""
    if form.row_bytes == 1:
        mark = form.newline.encode()
        end = len(content) if at_end else content.rfind(mark) + 1
        pieces = content[:end].split(mark)
        tail = pieces.pop()
        lines = [piece + mark for piece in pieces] + ([tail] if tail else [])
        return [(_decoded(line, form.encoding), len(line)) for line in lines]
    text = _decoded(content, form.encoding)
    if not at_end:
        text = text[: text.rfind(form.newline) + 1]
    parts = text.split(form.newline)
    last = parts.pop()
    whole = [part + form.newline for part in parts] + ([last] if last else [])
    return [(line, len(line.encode(form.encoding, "surrogatepass"))) for line in whole]


def _rows(
    form: Form, lines: Sequence[str], first_line: int, at_end: bool, most: int
) -> tuple[list[Row], int]:
    """Rows of whole lines, and how many lines they took."""
    rows: list[Row] = []
    used = 0
    reader = _json_rows(form, lines) if form.kind == "ndjson" else _csv_rows(form, lines, at_end)
    for start, end, cells, problem, kinds in reader:
        used = end
        if problem or any(cells) or (form.kind == "ndjson" and cells):
            flaw = problem or _flaw(form, lines[start:end], cells)
            rows.append(Row(first_line + start, _readable(cells) if flaw else cells, flaw, kinds))
        if len(rows) == most:
            break
    return rows, used


def _flaw(form: Form, lines: Sequence[str], cells: Sequence[str]) -> str | None:
    """Why a row that was parsed must not be used."""
    text = "".join(lines)
    if len(text) > MAX_ROW_BYTES:
        return "line_too_long"
    if not text.isascii() and _SURROGATE.search(text):
        return "encoding"
    if _CONTROL.search(text):
        return "control_characters"
    if form.kind == "csv" and len(cells) != len(form.header):
        # Spreadsheets leave out the empty cells at the end of a row, or add some.
        extra = cells[len(form.header) :]
        return "too_many_cells" if any(extra) else None
    return None


def _readable(cells: Sequence[str]) -> list[str]:
    """The cells for a report, with a mark for each byte that is no text."""
    return [_SURROGATE.sub("\ufffd", cell) for cell in cells]


class Parsed(NamedTuple):
    """A row and where it stands: its first line, and the line after its last. An object of JSON is a row
    even if all its cells are blank; a blank line is none."""

    start: int
    end: int
    cells: Sequence[str]
    problem: str | None = None
    kinds: Mapping[int, JsonKind] = MappingProxyType({})


def _csv_rows(form: Form, lines: Sequence[str], at_end: bool) -> Iterator[Parsed]:
    """Rows of CSV. Of a faulty row only the first line is lost: an unclosed quote swallows no others."""
    at = 0
    while at < len(lines):
        feed = _Feed(lines, at)
        try:
            for cells in csv.reader(feed, delimiter=form.delimiter, strict=True):
                if feed.next - at > 1 and len(cells) != len(form.header):
                    break  # lines that a stray quote has joined
                yield Parsed(at, feed.next, cells)
                at = feed.row = feed.next
            else:
                return
        except csv.Error:
            if feed.ended and not at_end and at > 0 and sum(map(len, lines[at:])) < MAX_ROW_BYTES:
                return  # the row may end in the next slice
        yield Parsed(at, at + 1, _split(form, lines[at]), "not_csv")
        at += 1


class _Feed:
    """Lines for a CSV reader, and how far it has read. A row has at most `MAX_ROW_LINES`; `ended` says that
    it would have gone on after the last line."""

    def __init__(self, lines: Sequence[str], start: int) -> None:
        self._lines = lines
        self.row = self.next = start
        self.ended = False

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        self.ended = self.next >= len(self._lines)
        if self.ended or self.next >= self.row + MAX_ROW_LINES:
            raise StopIteration
        self.next += 1
        return self._lines[self.next - 1]


def _split(form: Form, line: str) -> Sequence[str]:
    """The cells of a broken line, for the report."""
    return line.rstrip("\r\n")[:MAX_ROW_BYTES].split(form.delimiter)[:MAX_COLUMNS]


def _json_rows(form: Form, lines: Sequence[str]) -> Iterator[Parsed]:
    empty = ("",) * len(form.header)
    for at, line in enumerate(lines):
        if not line.strip():
            yield Parsed(at, at + 1, ())
            continue
        try:
            document = orjson.loads(line)
        except ValueError:
            yield Parsed(at, at + 1, empty, "not_json")
            continue
        if not isinstance(document, dict):
            yield Parsed(at, at + 1, empty, "not_an_object")
            continue
        problem = "unknown_key" if document.keys() - form.header else None
        values = [document.get(name) for name in form.header]
        kinds = {n: kind for n, value in enumerate(values) if (kind := _kind(value)) is not None}
        yield Parsed(at, at + 1, [_cell(v, kinds.get(n)) for n, v in enumerate(values)], problem, kinds)


def _kind(value: Any) -> JsonKind | None:
    if value is None or type(value) in (str, int, float):
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, list) and all(
        isinstance(v, dict) and isinstance(v.get("platform"), str) for v in value
    ):
        return "handles"
    return "other"


def _cell(value: Any, kind: JsonKind | None) -> str:
    """A JSON value as a cell; `handles` as `platform:handle; ...`, what has no kind of its own as JSON."""
    if kind == "handles":
        return "; ".join(f"{each['platform']}:{each.get('handle') or ''}" for each in value)
    if kind is None:
        return "" if value is None else str(value)
    return orjson.dumps(value).decode()


def _json_keys(form: Form, sample: bytes) -> tuple[str, ...]:
    """The keys of the rows in the sample, in the order of their first use.

    Raises: `UnreadableError` when no line is a JSON object.
    """
    keys: dict[str, None] = {}
    objects = 0
    for text, _ in _lines(form, sample[form.start :], at_end=len(sample) < SAMPLE_BYTES):
        try:
            document = orjson.loads(text)
        except ValueError:
            continue
        if isinstance(document, dict):
            objects += 1
            keys |= dict.fromkeys(list(document)[: MAX_COLUMNS + 1])
    if not objects:
        raise UnreadableError("not_json", "no line is a JSON object")
    _check_width(len(keys))
    return tuple(keys)


def _with_header(form: Form, sample: bytes) -> Form:
    """The form with its delimiter and header.

    Raises: `UnreadableError`.
    """
    lines = _lines(form, sample[form.start :], at_end=True)
    texts = [text for text, _ in lines]
    first = next(n for n, text in enumerate(texts) if text.strip())
    named = _SEPARATOR_LINE.fullmatch(texts[first].strip())
    if named:
        first = next((n for n in range(first + 1, len(texts)) if texts[n].strip()), first)
    delimiter = named[1] if named else _delimiter(texts[first : first + _TITLE_LINES])
    _check_width(texts[first].count(delimiter) + 1)
    if len(texts[first]) > MAX_ROW_BYTES:
        raise UnreadableError("header", "the first line is too long for a header")
    feed = _Feed(texts, first)
    try:
        header = next(csv.reader(feed, delimiter=delimiter, strict=True))
    except csv.Error:
        raise UnreadableError(
            "header", "a quote in the header is not closed, or stands within a cell"
        ) from None
    _check_width(len(header))
    start = form.start + sum(size for _, size in lines[: feed.next])
    return replace(
        form, delimiter=delimiter, header=tuple(_readable(header)), start=start, line=feed.next + 1
    )


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter of the first line that has any: one without may be a title."""
    for line in lines:
        if most := max(map(line.count, _DELIMITERS)):
            return next(mark for mark in _DELIMITERS if line.count(mark) == most)
    return _DELIMITERS[0]


def _check_width(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise UnreadableError(
            "too_many_columns", f"more than {MAX_COLUMNS} columns: keep those of the members"
        )
