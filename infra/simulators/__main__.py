"""`python -m infra.simulators`: the three gateways and their control API in one process, until SIGTERM or
Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from infra.simulators.control import control, register, template_of
from infra.simulators.exotel import ExotelSimulator
from infra.simulators.gateway import Gateway
from infra.simulators.presets import PRESETS, preset_named
from infra.simulators.serving import HttpServer
from infra.simulators.smtp import SmtpSimulator
from infra.simulators.steering import SteeringError
from infra.simulators.whatsapp import WhatsAppSimulator

Port = Annotated[int, typer.Option(min=0, max=65_535, help="0 is any free port.")]
Url = Annotated[str | None, typer.Option(help="An address on this machine.")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve(
    control_port: Port = 0,
    exotel_port: Port = 0,
    whatsapp_port: Port = 0,
    smtp_port: Port = 0,
    whatsapp_webhooks_to: Url = None,
    exotel_callbacks_to: Url = None,
    exotel_missed_calls_to: Url = None,
    exotel_inbound_to: Url = None,
    bounces_to: Url = None,
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = "demo",
    seed: Annotated[int, typer.Option(help="The same seed, the same people.")] = 1,
    pace: Annotated[float | None, typer.Option(min=0, max=3600, help="Seconds between statuses.")] = None,
    limits: Annotated[bool, typer.Option(help="Enforce the gateways' rates and budgets.")] = True,
    strict: Annotated[bool, typer.Option(help="Refuse templates and texts that are not registered.")] = True,
    config: Annotated[
        Path | None, typer.Option(help="JSON: templates and credentials by gateway, see README.md.")
    ] = None,
) -> None:
    """Serve until stopped; the first line of the output is JSON with every address."""
    try:
        settings = json.loads(config.read_text(encoding="utf-8")) if config else {}
        chosen = preset_named(preset, pace=pace)
        exotel_settings = dict(settings.get("exotel", {}))
        whatsapp_settings = dict(settings.get("whatsapp", {}))
        registered = {
            name: exotel_settings.pop(name)
            for name in ("entities", "headers", "templates", "dnd")
            if name in exotel_settings
        }
        templates = [template_of(row) for row in whatsapp_settings.pop("templates", ())]
        whatsapp = WhatsAppSimulator(
            port=whatsapp_port,
            webhooks_to=whatsapp_webhooks_to,
            templates=templates,
            lenient=not strict,
            preset=chosen,
            seed=seed,
            **whatsapp_settings,
        )
        exotel = ExotelSimulator(
            port=exotel_port,
            callbacks_to=exotel_callbacks_to,
            missed_calls_to=exotel_missed_calls_to,
            inbound_to=exotel_inbound_to,
            strict=strict,
            preset=chosen,
            seed=seed,
            **exotel_settings,
        )
        register(exotel, registered)
        smtp = SmtpSimulator(
            port=smtp_port, bounces_to=bounces_to, preset=chosen, seed=seed, **settings.get("smtp", {})
        )
    except KeyError:
        raise SystemExit(f"error: no such preset: {preset}; choose from {', '.join(PRESETS)}") from None
    except (OSError, ValueError, TypeError, AttributeError, SteeringError) as wrong:
        raise SystemExit(f"error: {wrong}") from None
    if not limits:
        whatsapp.set_limits(throughput=None, pair_rate=False, messaging_limit=None)
        exotel.set_limits(per_minute=None, bulk_per_minute=None, get_per_minute=None)
    uvloop.run(_serve([whatsapp, exotel, smtp], control_port))


async def _serve(gateways: list[Gateway[Any]], control_port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as running:
        try:
            for gateway in gateways:
                await running.enter_async_context(gateway)
            server = await running.enter_async_context(HttpServer(control(gateways), control_port))
        except OSError as problem:
            raise SystemExit(f"error: {problem.strerror}") from None
        addresses = {"control": server.url} | {each.name: each.address for each in gateways}
        print(json.dumps(addresses), flush=True)
        await stop.wait()


if __name__ == "__main__":
    app()
