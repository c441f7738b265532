"""The child process: one command starts the three gateways, and its control API steers and reads them."""

from __future__ import annotations

import asyncio
import json
import smtplib
import sys
from pathlib import Path
from typing import Any

import httpx2

from tests.unit.simulators.conftest import Receiver

ASHA = "+919876543210"


async def test_the_command_serves_is_steered_and_stops(
    tmp_path: Path, receiver: Receiver, client: httpx2.AsyncClient
) -> None:
    config = tmp_path / "simulators.json"
    config.write_text(
        json.dumps(
            {
                "whatsapp": {
                    "token": "t",
                    "templates": [{"name": "hello", "language": "hi", "body": "{{1}}"}],
                },
                "exotel": {"templates": [{"id": "1107", "text": "नमस्ते {#var#}"}]},
            }
        ),
        encoding="utf-8",
    )
    options = ["--config", str(config), "--preset", "clean", "--pace", "0"]
    options += ["--whatsapp-webhooks-to", receiver.url, "--exotel-callbacks-to", receiver.url]
    options += ["--exotel-missed-calls-to", receiver.url, "--no-limits"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.simulators", *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        at = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        control = at["control"]
        assert (await client.get(f"{control}/healthz")).json() == {
            name: address for name, address in at.items() if name != "control"
        }

        await client.post(f"{control}/whatsapp/steer", json={"recipient": ASHA, "next": 1, "error": 131056})
        parameters = [{"type": "text", "text": "आशा"}]
        template = {"name": "hello", "language": {"code": "hi"}}
        body: dict[str, Any] = {"messaging_product": "whatsapp", "to": ASHA, "type": "template"}
        body |= {"template": template | {"components": [{"type": "body", "parameters": parameters}]}}
        body |= {"biz_opaque_callback_data": "d:1"}
        url, headers = f"{at['whatsapp']}/v26.0/900000000000002/messages", {"authorization": "Bearer t"}
        codes = [(await client.post(url, json=body, headers=headers)).status_code for _ in range(2)]
        assert codes == [400, 200]
        settled = (await client.post(f"{control}/whatsapp/settle", json={"seconds": 10})).json()
        assert (settled["taken"], settled["refused"]) == (1, {"131056": 1})
        assert [each["status"] for each in receiver.statuses] == ["sent", "delivered"]
        (taken,) = (await client.get(f"{control}/whatsapp/taken", params={"reference": "d:1"})).json()[
            "taken"
        ]
        assert (taken["recipient"], taken["text"]) == (ASHA, "आशा")
        lost = await client.post(f"{control}/whatsapp/lost", json={"references": ["d:1", "d:2"]})
        assert lost.json() == {"lost": ["d:2"]}
        await client.post(f"{control}/whatsapp/do/inbound_text", json={"who": ASHA, "text": "STOP"})
        verified = await client.post(f"{control}/whatsapp/do/verify")
        assert verified.json() == {"result": [200, True]}
        await client.post(f"{control}/exotel/do/missed_call", json={"caller": ASHA})
        for name in ("whatsapp", "exotel"):
            await client.post(f"{control}/{name}/settle")
        assert receiver.got[-1].query["CallFrom"] == ASHA

        host, _, port = at["smtp"].partition(":")

        def mail() -> None:
            with smtplib.SMTP(host, int(port), local_hostname="test") as line:
                line.sendmail("a@x.org", ["b@x.org"], "Message-ID: <1@x>\r\nSubject: hi\r\n\r\nhi\r\n")

        await asyncio.to_thread(mail)
        mails = (await client.get(f"{control}/smtp/mails", params={"message_id": "<1@x>"})).json()["mails"]
        assert [each["subject"] for each in mails] == ["hi"]

        for path, content in (
            ("whatsapp/steer", b'{"colour":"red"}'),
            ("exotel/do/__init__", b"{}"),
            ("whatsapp/preset", b'{"name":"none"}'),
            ("smtp/steer", b"nonsense"),
        ):
            assert (await client.post(f"{control}/{path}", content=content)).status_code == 400
        assert (await client.get(f"{control}/fax/summary")).status_code == 404
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
