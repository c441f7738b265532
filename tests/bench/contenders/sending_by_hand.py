"""The baseline of the channels bench: find a batch, POST each message with httpx2, update its document; and a
route that writes what a callback tells into the document.

`python -m tests.bench.contenders.sending_by_hand`. It asks for no consent, keeps no record of what was handed
over, and publishes no events: a process that dies here sends again.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import parse_qs

import httpx2
import uvicorn
import uvloop
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

AT_ONCE = 20
BATCH = 200
ACCOUNT = "sangathan1"


async def main() -> None:
    messages: Any = AsyncMongoClient(os.environ["BENCH_MONGO"])[os.environ["BENCH_DATABASE"]]["messages"]

    async def callback(request: Request) -> Response:
        told = parse_qs((await request.body()).decode())
        await messages.update_one(
            {"_id": told["CustomField"][0].rpartition(".")[0]}, {"$set": {"status": told["Status"][0]}}
        )
        return Response()

    app = Starlette(
        routes=[
            Route("/webhooks/sms/exotel/{secret}", callback, methods=["POST"]),
            Route("/readyz", lambda _: Response()),
        ]
    )
    config = uvicorn.Config(app, port=int(os.environ["BENCH_PORT"]), log_config=None, lifespan="off")
    await asyncio.gather(uvicorn.Server(config).serve(), _send(messages))


async def _send(messages: Any) -> None:
    turns = asyncio.Semaphore(AT_ONCE)
    limits = httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    auth = ("sim-exotel-key", "sim-exotel-token")
    async with httpx2.AsyncClient(
        base_url=os.environ["BENCH_EXOTEL"], auth=auth, limits=limits, trust_env=False
    ) as client:

        async def one(message: dict[str, Any]) -> None:
            async with turns:
                form = {
                    "From": "SNGTHN",
                    "To": message["address"],
                    "Body": message["text"],
                    "EncodingType": "unicode",
                    "DltEntityId": "1101000000000000001",
                    "SmsType": "transactional_opt_in",
                    "CustomField": f"{message['_id']}.1",
                }
                answer = await client.post(f"/v1/Accounts/{ACCOUNT}/Sms/send.json", data=form)
                sid = answer.raise_for_status().json()["SMSMessage"]["Sid"]
                await messages.update_one(
                    {"_id": message["_id"]}, {"$set": {"state": "sent", "provider_id": sid}}
                )

        while True:
            batch = await messages.find({"state": "queued"}).limit(BATCH).to_list(BATCH)
            await asyncio.gather(*(one(message) for message in batch))
            if not batch:
                await asyncio.sleep(0.02)


if __name__ == "__main__":
    uvloop.run(main())
