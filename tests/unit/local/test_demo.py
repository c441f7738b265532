"""The parts of the demo that need no running stack."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.books import balance
from infra.local.demo.latency import percentile, waits
from infra.local.demo.people import people
from infra.local.demo.tree import SAMPLE, codes, read_tree
from infra.local.errors import LocalError
from services.groups.tree.csv_rows import check_rows, read_rows
from services.members.registration.schemas import Registration

CHAIN = """district_lgd,subdivision_hi,block_lgd,block_hi,panchayat_hi,ac_no,ac_name_hi,ps_no,ps_name_hi
218,छपरा,2061,अमनौर,क,120,अमनौर,1,"विद्यालय, क"
218,छपरा,2061,अमनौर,क,120,अमनौर,2,"विद्यालय, ख"
218,छपरा,2062,गड़खा,ख,121,परसा,,पंचायत भवन
218,छपरा,2062,गड़खा,ख,121,परसा,,सामुदायिक भवन
"""


class TestTree:
    def test_the_sample_passes_as_it_is(self) -> None:
        assert read_tree() == SAMPLE.read_text(encoding="utf-8")

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_chain_of_stations_becomes_units_that_groups_takes(self, tmp_path: Path, packed: bool) -> None:
        file = tmp_path / "chain"
        file.write_bytes(gzip.compress(CHAIN.encode()) if packed else CHAIN.encode())
        tree = read_tree(file)
        assert codes(tree) == [
            "BR",
            "BR-218",
            "BR-218-2061",
            "BR-218-2061-AC120PS1",
            "BR-218-2061-AC120PS2",
            "BR-218-2062",
            "BR-218-2062-AC121PSX1",
            "BR-218-2062-AC121PSX2",
        ]
        units, errors, _ = check_rows(read_rows(tree.encode()))
        assert errors == []
        assert [unit.name["hi"] for unit in units.values()][3] == "विद्यालय, क"

    @pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"", b"\xff\xfe", b"\x1f\x8bgarbage"])
    def test_an_invalid_tree_is_refused_with_its_file_name(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "units.csv"
        file.write_bytes(content)
        with pytest.raises(LocalError, match=r"units\.csv"):
            read_tree(file)

    def test_a_missing_file_is_refused_with_a_message(self, tmp_path: Path) -> None:
        with pytest.raises(LocalError, match="cannot read"):
            read_tree(tmp_path / "none.csv")


class TestPeople:
    units = codes(read_tree())

    def test_the_same_seed_makes_the_same_people(self) -> None:
        assert list(people(50, self.units, 7)) == list(people(50, self.units, 7))
        assert list(people(50, self.units, 7)) != list(people(50, self.units, 8))

    def test_members_accepts_every_person(self) -> None:
        for person in people(300, self.units, 1):
            assert Registration(**person).phone == person["phone"]

    def test_every_person_has_a_different_number(self) -> None:
        numbers = [p["phone"] for p in (*people(500, self.units, 1), *people(500, self.units, 2, first=500))]
        assert len(set(numbers)) == 1000

    def test_people_are_varied_and_some_give_no_consent(self) -> None:
        crowd = list(people(2000, self.units, 1))
        assert 0.04 < sum(not p["consents"] for p in crowd) / 2000 < 0.12
        assert set(Counter(p["gender"] for p in crowd)) == {"female", "male", "other", "undisclosed"}
        assert {p["unit"].count("-") for p in crowd} == {0, 1, 2, 3}
        assert all(("email" in p) == any(c["channel"] == "email" for c in p["consents"]) for p in crowd)

    def test_a_tree_of_one_unit_will_do(self) -> None:
        assert {p["unit"] for p in people(20, ["XX"], 1)} == {"XX"}


class TestLatency:
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def at(self, seconds: float) -> datetime:
        return self.begin + timedelta(seconds=seconds)

    def test_arrivals_are_paired_with_counts_in_order(self) -> None:
        looks = [(self.at(0), 10), (self.at(2), 11), (self.at(3), 11), (self.at(5), 13)]
        assert waits([self.at(1), self.at(1.5), self.at(4)], looks) == [1.0, 3.5, 1.0]

    def test_an_arrival_that_is_never_counted_is_infinite(self) -> None:
        assert waits([self.at(1), self.at(2)], [(self.at(0), 0), (self.at(3), 1)]) == [2.0, math.inf]

    def test_percentiles_are_of_the_nearest_rank(self) -> None:
        hundred = [float(n) for n in range(100, 0, -1)]
        assert [percentile(hundred, p) for p in (50, 99, 100)] == [50.0, 99.0, 100.0]
        assert percentile([7.0], 50) == 7.0
        assert percentile([], 50) is None


class TestBooks:
    def books(self) -> dict[str, Any]:
        genders = ["female", "male", "undisclosed"]
        asked = {"consents": [{"purpose": "group", "state": "given"}], "unit": "BR-A-B"}
        return {
            "members": [{"id": str(n), "gender": gender, **asked} for n, gender in enumerate(genders)],
            "groups": [
                {"members": 2, "kind": "general"},
                {"members": 1, "kind": "general"},
                {"members": 1, "kind": "women"},
            ],
            "welcomes": [
                {"member_id": "0", "state": "sent"},
                {"member_id": "1", "state": "sent"},
                {"member_id": "2", "state": "suppressed"},
            ],
            "overview": {
                "members": {"total": 3, "women_share": 0.5},
                "groups": {"total": 3, "taken": 4},
                "notifications": {"by_state": {"sent": 2, "suppressed": 1}},
            },
        }

    def wrong(self, books: dict[str, Any]) -> set[str]:
        return {line.label for line in balance(**books, women=True) if not line.balances}

    def test_correct_books_balance(self) -> None:
        assert self.wrong(self.books()) == set()

    def test_messages_that_are_no_welcomes_are_counted_and_nobody_s_welcome(self) -> None:
        books = self.books()
        books["overview"]["notifications"]["by_state"]["sent"] = 3
        assert self.wrong(books) == {"messages sent"}
        assert self.wrong({**books, "others": [{"member_id": "0", "state": "sent"}]}) == set()

    def test_a_missing_welcome_shows(self) -> None:
        books = self.books()
        del books["welcomes"][0]
        assert self.wrong(books) >= {
            "one seat, welcome, count each",
            "members with a welcome",
            "messages sent",
        }

    def test_two_welcomes_for_one_and_none_for_another_show(self) -> None:
        books = self.books()
        books["welcomes"][0]["member_id"] = "1"
        assert self.wrong(books) == {"members with a welcome"}

    def test_a_welcome_still_queued_shows(self) -> None:
        books = self.books()
        books["welcomes"][0]["state"] = "queued"
        assert "one seat, welcome, count each" in self.wrong(books)

    @pytest.mark.parametrize(
        ("path", "label"),
        [
            (("members", "total"), "one seat, welcome, count each"),
            (("members", "women_share"), "women's share"),
            (("groups", "taken"), "seats taken"),
            (("groups", "total"), "groups"),
            (("notifications", "by_state", "suppressed"), "messages suppressed"),
        ],
    )
    def test_a_figure_of_analytics_that_is_off_shows(self, path: tuple[str, ...], label: str) -> None:
        books = self.books()
        *above, last = path
        figures = books["overview"]
        for key in above:
            figures = figures[key]
        figures[last] += 1
        assert self.wrong(books) == {label}

    def test_a_seat_too_many_shows(self) -> None:
        books = self.books()
        books["groups"][0]["members"] += 1
        assert self.wrong(books) == {"one seat, welcome, count each", "seats taken"}

    @pytest.mark.parametrize(
        "change",
        [{"gender": "other"}, {"unit": "BR-A"}, {"consents": [{"purpose": "group", "state": "withdrawn"}]}],
    )
    def test_a_seat_in_a_womens_group_that_nobody_asked_for_shows(self, change: dict[str, Any]) -> None:
        books = self.books()
        books["members"][0] |= change
        assert "women who asked, in a women's group" in self.wrong(books)
