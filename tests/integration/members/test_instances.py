"""Two instances on one database: what one process cannot decide alone."""

from __future__ import annotations

import asyncio
from collections import Counter

from infra.local.keys import Keys
from services.members.settings import MembersSettings
from tests.integration.members.conftest import a_person, serving


async def test_one_phone_registered_at_both_at_once(settings: MembersSettings, keys: Keys) -> None:
    async with serving(settings, keys) as one, serving(settings, keys) as other:
        for n in range(10):
            people = [a_person(phone=f"+91981234560{n}") for _ in range(20)]
            answers = await asyncio.gather(
                *((one, other)[i % 2].post(person) for i, person in enumerate(people))
            )
            assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 19}
        assert await one.db["members"].count_documents({}) == 10
        assert len(await one.events(10)) == 10


async def test_one_key_used_at_both_at_once(settings: MembersSettings, keys: Keys) -> None:
    async with serving(settings, keys) as one, serving(settings, keys) as other:
        for n in range(10):
            body = a_person()
            answers = await asyncio.gather(
                *((one, other)[i % 2].post(body, idempotency_key=f"key-{n}") for i in range(20))
            )
            assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
        assert await one.db["members"].count_documents({}) == 10
