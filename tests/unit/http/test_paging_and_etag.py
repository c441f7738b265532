"""Cursors survive the round trip and nothing else does; versions in `If-Match`."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.shared.errors import StaleVersionError
from services.shared.http.etag import etag, expected_version
from services.shared.http.pagination import PageParams, _encode
from services.shared.http.problem import Problem, problem_of
from tests.unit.http.test_problem import assert_problem


async def test_walking_a_listing(anonymous):
    seen, url = [], "/v1/things?limit=3"
    cursor: str | None = ""
    while cursor is not None:
        page = (await anonymous.get(url + (f"&cursor={cursor}" if cursor else ""))).json()
        seen += page["items"]
        cursor = page["next"]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_defaults_and_bounds(anonymous):
    assert (await anonymous.get("/v1/things")).json() == {"items": [1, 2, 3, 4, 5, 6, 7], "next": None}
    for limit in (0, 501, "x", -1):
        assert_problem(await anonymous.get(f"/v1/things?limit={limit}"), 422, "invalid-fields")
    assert (await anonymous.get("/v1/things?limit=500")).status_code == 200


async def test_a_cursor_of_other_filters(anonymous):
    cursor = (await anonymous.get("/v1/things?limit=3")).json()["next"]
    assert (await anonymous.get(f"/v1/things?limit=5&cursor={cursor}")).status_code == 200
    response = await anonymous.get(f"/v1/things?cursor={cursor}&unit=UP")
    assert_problem(response, 400, "invalid-cursor")


def raw(document) -> str:
    return urlsafe_b64encode(orjson.dumps(document)).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "",
        "%20",
        "=",
        "é",
        "A" * 5000,
        raw([]),
        raw(None),
        raw({}),
        raw(["x"]),
        raw([7, 7]),
        raw(["0" * 16, 3]),
        urlsafe_b64encode(b"[" * 1400).decode(),
        urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
async def test_foreign_cursors_are_refused(anonymous, cursor):
    assert_problem(await anonymous.get("/v1/things", params={"cursor": cursor}), 400, "invalid-cursor")


LISTING = ("members", {"unit": "BR"})


def cursor_at(position, route=LISTING[0], filters=LISTING[1]) -> str:
    shape = tuple(type(value) for value in position)
    rows = [position, None]
    _, cursor = PageParams(1).window(route, filters, shape).cut(rows, lambda row: row)
    assert cursor is not None
    return cursor


POSITIONS = st.lists(
    st.text() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    min_size=1,
    max_size=4,
)


@given(POSITIONS.map(tuple))
def test_a_position_survives_the_trip(position):
    shape = tuple(type(value) for value in position)
    window = PageParams(10, cursor_at(position)).window(*LISTING, shape)
    assert window.after == position


@given(POSITIONS.map(tuple), st.integers(0, 10_000), st.characters(codec="ascii"))
@example(("a",), 3, "A")
def test_a_changed_character_is_noticed(position, at, char):
    cursor = cursor_at(position)
    at %= len(cursor)
    changed = cursor[:at] + char + cursor[at + 1 :]
    shape = tuple(type(value) for value in position)
    if changed == cursor:
        return
    with pytest.raises(Problem) as refusal:
        PageParams(10, changed).window(*LISTING, shape)
    assert refusal.value.slug == "invalid-cursor"


@given(st.text())
def test_no_text_breaks_the_decoder(text):
    with pytest.raises(Problem):
        PageParams(10, text).window(*LISTING, (str,))


def test_a_cursor_of_another_route_or_shape():
    cursor = cursor_at(("a",))
    for route, filters, shape in [
        ("groups", {"unit": "BR"}, (str,)),
        (*LISTING, (int,)),
        (*LISTING, (str, str)),
    ]:
        with pytest.raises(Problem):
            PageParams(10, cursor).window(route, filters, shape)


@pytest.mark.parametrize("number", [2**63, 2**63 + 1, 2**64 - 1])
def test_a_forged_cursor_of_a_number_that_no_store_holds(number):
    listing = PageParams().window("things", {}, (int,))._listing
    with pytest.raises(Problem, match="400"):
        PageParams(cursor=_encode(listing, (number,))).window("things", {}, (int,))
    assert PageParams(cursor=_encode(listing, (2**63 - 1,))).window("things", {}, (int,)).after == (
        2**63 - 1,
    )


def test_none_in_a_position():
    assert PageParams(10, cursor_at((None, "a"))).window(*LISTING, (str, str)).after == (None, "a")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_last_page_has_no_next(count):
    rows, cursor = PageParams(2).window(*LISTING, (int,)).cut(list(range(count)), lambda row: (row,))
    assert len(rows) == count
    assert cursor is None


@given(st.integers(0, 10**17))
def test_etag_round_trip(version):
    assert expected_version(etag(version)) == version


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 428),
        ("", 428),
        ("*", 428),
        ('W/"7"', 412),
        ('"abc"', 412),
        ('"007"', 412),
        ('"-1"', 412),
        ('"' + "9" * 30 + '"', 412),
        ("7", 400),
        ('"7', 400),
        ('"7", "8"', 400),
        ("٧", 400),
    ],
)
def test_other_if_match_values_are_refused(header, status):
    with pytest.raises((Problem, StaleVersionError)) as refusal:
        expected_version(header)
    error = refusal.value
    problem = error if isinstance(error, Problem) else problem_of(StaleVersionError())
    assert problem.status == status


async def test_if_match_on_a_route(client):
    assert (
        await client.patch("/v1/things/1", json={"name": "Asha"}, headers={"If-Match": '"7"'})
    ).json() == {"version": 7}
    assert_problem(await client.patch("/v1/things/1", json={"name": "Asha"}), 428, "if-match-required")
