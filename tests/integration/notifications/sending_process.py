"""A dispatcher as a process of its own, to be killed: `python -m ...sending_process`, with settings from the
environment."""

from __future__ import annotations

import asyncio

from services.notifications.app import chosen_sender
from services.notifications.core.core import Core
from services.notifications.sending.dispatcher import Dispatcher
from services.notifications.settings import NotificationsSettings
from services.shared.runtime import Runtime


async def main() -> None:
    settings = NotificationsSettings.load()
    runtime = Runtime(settings)
    core = Core(runtime, settings)
    await runtime.server_clock.read()
    print("ready", flush=True)
    await Dispatcher(core, chosen_sender(core)).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main())
