"""`/v1/ops/status` says whether events flow; `/readyz` only whether the API answers."""

from __future__ import annotations

from datetime import timedelta

from infra.local.keys import Keys
from services.analytics.app import build
from services.analytics.settings import AnalyticsSettings
from tests.fixtures.apps import base_settings, running


async def test_an_open_fuse_stops_events_and_not_the_api(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    settings = AnalyticsSettings(**base_settings(mongo_uri, kafka_bootstrap, database_name, keys))
    async with running(build, settings, keys=keys, admin_scopes=["ops:read", "ops:write"]) as app:

        async def flows() -> bool:
            return bool((await app.http.get("/v1/ops/status")).json()["flowing"])

        await app.until(flows, 20)
        await app.runtime.fuse.trip()

        async def stopped() -> bool:
            return not await flows()

        await app.until(stopped, 5)
        status = (await app.http.get("/v1/ops/status")).json()
        assert status["reasons"] == {"consumer": "fuse open: too many dead letters"}
        assert (status["outbox_rows"], status["dead_letters"]) == (0, 0)
        assert (await app.http.get("/readyz")).status_code == 200
        assert (await app.http.post("/v1/ops/fuse/reset")).status_code == 200
        await app.until(flows, 5)

        old = app.runtime.clock.now() - timedelta(minutes=5)
        await app.runtime.database["leases"].update_one(  # another process, which does not publish
            {"_id": "relay"}, {"$set": {"holder": "x", "expires_at": old + timedelta(hours=1)}}, upsert=True
        )

        async def follows() -> bool:
            return app.runtime.registry.get_sample_value("sangathan_relay_leader") == 0

        await app.until(follows, 20)
        row = {
            "_id": "1",
            "subject": "s",
            "sequence": 1,
            "topic": "t",
            "value": b"",
            "headers": {},
            "at": old,
        }
        await app.runtime.outbox.rows.insert_one(row)
        status = (await app.http.get("/v1/ops/status")).json()
        assert (status["flowing"], status["outbox_rows"]) == (False, 1)
        assert 299 < status["outbox_oldest_seconds"] < 330
        assert status["reasons"].keys() == {"outbox"}
        await app.runtime.outbox.rows.update_one({"_id": "1"}, {"$set": {"stuck": "too_large"}})
        status = (await app.http.get("/v1/ops/status")).json()
        assert (status["reasons"].keys(), status["outbox_oldest_seconds"]) == ({"relay"}, 0)
        assert (await app.http.get("/v1/ops/status", headers=app.auth("members:read"))).status_code == 403
