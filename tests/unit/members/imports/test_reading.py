"""From bytes to rows: every encoding and delimiter, and each kind of broken file."""

from __future__ import annotations

import random

import pytest

from services.members.imports.reading import (
    MAX_ROW_BYTES,
    SAMPLE_BYTES,
    SLICE_ROWS,
    Form,
    Kind,
    Place,
    Row,
    UnreadableError,
    form_of,
    read_slice,
)

HEADER = "नाम,फोन"
LINES = (HEADER, *[f"आशा {n},98{n:08d}" for n in range(40)])


def read(content: bytes, kind: Kind = "csv", size: int = 128 * 1024) -> tuple[Form, list[Row]]:
    """All rows of a file that is read in slices of `size` bytes."""
    form = form_of(content[:SAMPLE_BYTES], kind)
    rows: list[Row] = []
    place, at_end = Place(form.start, form.line), False
    while not at_end:
        part = content[place.offset : place.offset + size]
        slice_ = read_slice(form, part, place, at_end=place.offset + len(part) >= len(content))
        assert slice_.at_end or slice_.then != place, "no progress"
        rows += slice_.rows
        place, at_end = slice_.then, slice_.at_end
    return form, rows


def problems(rows: list[Row]) -> dict[int, str]:
    return {row.line: row.problem for row in rows if row.problem}


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_every_form_of_a_file_is_recognised(encoding, mark, newline, delimiter) -> None:
    text = newline.join(LINES).replace(",", delimiter)
    form, rows = read(mark + text.encode(encoding), size=300)
    assert (form.encoding, form.delimiter, form.header) == (encoding, delimiter, ("नाम", "फोन"))
    assert [list(row.cells) for row in rows] == [line.split(",") for line in LINES[1:]]
    assert [row.line for row in rows] == list(range(2, len(LINES) + 1))


def test_utf_16_without_a_mark_is_recognised_by_its_zeros() -> None:
    text = "name,phone\n" + "".join(f"Asha {n},98{n:08d}\n" for n in range(20))
    assert read(text.encode("utf-16-le"))[0].encoding == "utf-16-le"
    assert read(text.encode("utf-16-be"))[0].encoding == "utf-16-be"


def test_windows_1252_is_recognised_on_a_sample() -> None:
    text = "name,phone\n" + "".join(f"José Fernandes – São {n},98{n:08d}\n" for n in range(50))
    form, rows = read(text.encode("cp1252"))
    assert form.encoding == "cp1252"
    assert rows[0].cells[0] == "José Fernandes – São 0"


def test_slices_of_any_size_give_the_same_rows() -> None:
    rng = random.Random(7)
    cells = ["Asha", '"Ram, Kumar"', '"two\nlines"', '""', "आशा", '"say ""no"""']
    text = "a,b\n" + "".join(f"{rng.choice(cells)},{rng.choice(cells)}\n" for _ in range(400))
    whole = read(text.encode())[1]
    assert len(whole) > 300
    assert not problems(whole)
    for size in (97, 250, 1013):
        # A row that goes on beyond a whole slice is refused: slices are far larger than rows.
        assert [r.cells for r in read(text.encode(), size=size)[1] if not r.problem] == [
            r.cells for r in whole if not r.problem
        ]


def test_a_slice_has_at_most_so_many_rows() -> None:
    content = b"a,b\n" + b"1,2\n" * (SLICE_ROWS + 5)
    form = form_of(content, "csv")
    slice_ = read_slice(form, content[form.start :], Place(form.start, form.line), at_end=True)
    assert (len(slice_.rows), slice_.at_end, slice_.then.line) == (SLICE_ROWS, False, SLICE_ROWS + 2)


def test_an_unclosed_quote_costs_its_own_line_alone() -> None:
    _, rows = read(b'a,b\n1,2\n"open,2\n3,4\n"also open,5\nx,"\n6,7\n')
    assert problems(rows) == {3: "not_csv", 5: "not_csv", 6: "not_csv"}
    assert [list(row.cells) for row in rows if not row.problem] == [["1", "2"], ["3", "4"], ["6", "7"]]


def test_a_line_of_ten_megabytes_costs_itself_alone() -> None:
    long = b"x" * 10_000_000
    _, rows = read(b"a,b\n1,2\n" + long + b",1\n3,4\n")
    assert problems(rows) == {3: "line_too_long"}
    assert rows[-1] == Row(4, ["3", "4"])
    _, rows = read(b'a,b\n1,2\n"' + b"y\n" * MAX_ROW_BYTES + b'",1\n')
    assert rows[0] == Row(2, ["1", "2"])
    assert problems(rows)[3] == "not_csv"


def test_bytes_that_are_no_text_cost_their_own_row() -> None:
    good = b"ok,1\n" * 30
    _, rows = read(b"a,b\n" + good + b"Ram\xe9,1\nnul\x00,2\n\xff\xfe\xfd,3\nbell\x07,4\n" + good)
    assert problems(rows) == {
        32: "encoding",
        33: "control_characters",
        34: "encoding",
        35: "control_characters",
    }


def test_a_row_with_more_cells_than_the_header_is_refused_unless_they_are_empty() -> None:
    _, rows = read(b"a,b\n1,2,,\n1\n1,2,3\n")
    assert problems(rows) == {4: "too_many_cells"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"\xef\xbb\xbf\r\n", "empty_file"),
        (b"\x00\x00\x00", "empty_file"),
        (b"PK\x03\x04" + b"\x00" * 50, "not_text"),
        (b"\xd0\xcf\x11\xe0 sheet", "not_text"),
        (b"\x1f\x8b\x08", "not_text"),
        (b"%PDF-1.7", "not_text"),
        (",".join(f"c{n}" for n in range(5000)).encode(), "too_many_columns"),
        ((";" * 5000).encode(), "too_many_columns"),
        (b'"name,phone\n1,2\n', "header"),
        (b"n" * 200_000, "header"),
        (bytes(range(128, 256)) * 50 + b"\n", "encoding"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        form_of(content[:SAMPLE_BYTES], "csv")
    assert refused.value.reason == reason


def test_json_lines_become_cells() -> None:
    lines = [
        '{"name": "Asha", "phone": 9812345678, "platforms": [{"platform": "x", "handle": "a"}]}',
        "",
        "{bad",
        "[1]",
        '{"name": "Ram", "extra": 1}',
        '{"name": null, "phone": "1"}',
    ]
    form, rows = read("\n".join(lines).encode() + b"\n\n", "ndjson")
    assert form.header == ("name", "phone", "platforms", "extra")
    assert list(rows[0].cells) == ["Asha", "9812345678", "x:a", ""]
    assert problems(rows) == {3: "not_json", 4: "not_an_object"}
    assert list(rows[-1].cells) == ["", "1", "", ""]
    with pytest.raises(UnreadableError, match="not_json"):
        form_of(b"name,phone\n1,2\n", "ndjson")


def test_a_key_that_the_first_rows_do_not_have_refuses_its_row() -> None:
    lines = ['{"phone": "1"}'] * 20_000
    rows = read("\n".join([*lines, '{"phone": "1", "aadhaar": "2"}']).encode(), "ndjson")[1]
    assert problems(rows) == {20_001: "unknown_key"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_recognised_in_hindi_too(encoding: str) -> None:
    text = "नाम,मोबाइल,इकाई\r\n" + "सीता देवी कुमारी,9876543210,BR-SARAN\r\n"
    form, rows = read(text.encode(encoding))
    assert (form.encoding, form.header, len(rows)) == (encoding, ("नाम", "मोबाइल", "इकाई"), 1)
    assert read(b"a,b\n1\x00,2\n")[0].encoding == "utf-8"


def test_windows_1252_with_few_foreign_lines_is_recognised() -> None:
    lines = ["Ram Singh,1\n"] * 40 + ["José Müller,2\n"] * 4
    form, rows = read(("name,phone\n" + "".join(lines)).encode("cp1252"))
    assert (form.encoding, rows[-1].cells[0], problems(rows)) == ("cp1252", "José Müller", {})
    some = b"name,phone\n" + "आशा,1\n".encode() * 40 + b"Jos\xe9,2\n" * 4
    form, rows = read(some)
    assert (form.encoding, set(problems(rows).values())) == ("utf-8", {"encoding"})


@pytest.mark.parametrize("mark", ["sep=;", '"sep=;"', "\ufeffsep=;"])
def test_the_line_that_names_the_delimiter_is_honoured(mark: str) -> None:
    form, rows = read(f"{mark}\r\nname;phone\r\nRam, Kumar;1\r\n".encode())
    assert (form.header, form.delimiter, rows) == (("name", "phone"), ";", [Row(3, ["Ram, Kumar", "1"])])


def test_a_header_may_have_lines_within_its_cells() -> None:
    _, rows = read(b'name,"Mobile\nNo.",unit\nRam,1,BR\n')
    assert rows == [Row(3, ["Ram", "1", "BR"])]
    with pytest.raises(UnreadableError, match="quote"):
        form_of(b'name,"Mobile,unit\n' + b"Ram,1,BR\n" * 30, "csv")


def test_each_object_of_json_is_a_row_with_the_kinds_of_its_values() -> None:
    lines = ['{"name": {"a": 1}, "phone": ["1"]}', "{}", '{"name": true, "phone": 1.5}', '{"name": null}']
    _, rows = read("\n".join(lines).encode(), "ndjson")
    assert [row.kinds for row in rows] == [{0: "other", 1: "other"}, {}, {0: "boolean"}, {}]
    assert [list(row.cells) for row in rows] == [['{"a":1}', '["1"]'], ["", ""], ["true", "1.5"], ["", ""]]
