"""Bytes of a file become rows, a slice at a time: encoding, delimiter, header and broken lines. Pure.

A slice begins at a byte offset and ends with a whole row, so a job can go on from there after any crash, and
memory does not depend on the size of the file. A row that cannot be read costs that line alone.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
_GUESS_BYTES: Final = 32 * 1024
_DELIMITERS: Final = (",", ";", "\t")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1f]")

Kind = Literal["csv", "ndjson"]


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
    """The cells of a row and the number of its first line. `problem` says why the cells cannot be used."""

    line: int
    cells: Sequence[str]
    problem: str | None = None


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
    whole = sample[: sample.rfind(b"\n") + 1] or sample
    good = sum(_is_utf8(line) for line in whole.split(b"\n"))
    lines = whole.count(b"\n") + 1
    if good * 10 >= lines * 9:  # the few other lines are refused one by one
        return 0, "utf-8"
    guess = from_bytes(whole[:_GUESS_BYTES], cp_isolation=["cp1252", "latin_1"]).best()
    if guess is None or guess.encoding not in ("cp1252", "latin_1"):
        raise UnreadableError("encoding", "neither UTF-8, UTF-16 nor Windows-1252: save it as UTF-8")
    return 0, "cp1252"


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
    for start, end, cells, problem in reader:
        used = end
        if problem or any(cells):
            flaw = problem or _flaw(form, lines[start:end], cells)
            rows.append(Row(first_line + start, _readable(cells) if flaw else cells, flaw))
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


Parsed = tuple[int, int, Sequence[str], str | None]
"""First line, line after the last, cells, problem."""


def _csv_rows(form: Form, lines: Sequence[str], at_end: bool) -> Iterator[Parsed]:
    """Rows of CSV. Of a faulty row only the first line is lost: an unclosed quote swallows no others."""
    at = 0
    while at < len(lines):
        feed = _Feed(lines, at)
        try:
            for cells in csv.reader(feed, delimiter=form.delimiter, strict=True):
                if feed.next - at > 1 and len(cells) != len(form.header):
                    break  # lines that a stray quote has joined
                yield at, feed.next, cells, None
                at = feed.row = feed.next
            else:
                return
        except csv.Error:
            if feed.ended and not at_end and at > 0 and sum(map(len, lines[at:])) < MAX_ROW_BYTES:
                return  # the row may end in the next slice
        yield at, at + 1, _split(form, lines[at]), "not_csv"
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
            yield at, at + 1, (), None
            continue
        try:
            document = orjson.loads(line)
        except ValueError:
            yield at, at + 1, empty, "not_json"
            continue
        if not isinstance(document, dict):
            yield at, at + 1, empty, "not_an_object"
            continue
        known = _flat(document)
        unknown = known.keys() - form.header
        yield at, at + 1, [known.get(name, "") for name in form.header], "unknown_key" if unknown else None


def _flat(document: Mapping[str, Any]) -> dict[str, str]:
    return {name: _cell(value) for name, value in document.items() if value is not None}


def _cell(value: Any) -> str:
    """A JSON value as a cell; a list of `{platform, handle}` as `platform:handle; ...`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        pairs = [f"{v.get('platform')}:{v.get('handle') or ''}" for v in value if isinstance(v, dict)]
        return "; ".join(pairs)
    if isinstance(value, dict):
        return ""
    return str(value)


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
    first = next(n for n, (line, _) in enumerate(lines) if line.strip())
    head = lines[first][0]
    delimiter = max(_DELIMITERS, key=head.count)
    _check_width(head.count(delimiter) + 1)
    if len(head) > MAX_ROW_BYTES:
        raise UnreadableError("header", "the first line is too long for a header")
    try:
        header = next(csv.reader([head], delimiter=delimiter, strict=True))
    except csv.Error:
        raise UnreadableError("header", "the header has an unclosed quote") from None
    start = form.start + sum(size for _, size in lines[: first + 1])
    return replace(form, delimiter=delimiter, header=tuple(_readable(header)), start=start, line=first + 2)


def _check_width(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise UnreadableError(
            "too_many_columns", f"more than {MAX_COLUMNS} columns: keep those of the members"
        )
