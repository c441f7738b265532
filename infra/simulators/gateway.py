"""Parts that the three gateways share: steering, ledger, preset, clock, what falls due, callbacks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from infra.simulators.callbacks import CallbackSender, Retries
from infra.simulators.clock import Clock
from infra.simulators.ledger import Ledger
from infra.simulators.presets import Fate, Preset, chance, preset_named
from infra.simulators.serving import HOST
from infra.simulators.steering import Behaviour, Steering
from infra.simulators.timetable import Timetable

T = TypeVar("T")


class Gateway(ABC, Generic[T]):
    """The base of a simulator.

    `steering`, `ledger`, `clock`, `callbacks` are for tests to use; `preset` and `seed` may be set at any
    time.
    """

    name = "gateway"

    def __init__(
        self,
        retries: Retries,
        *,
        preset: str | Preset = "clean",
        seed: int = 1,
        keep: int = 100_000,
        connections: int = 8,
        tick: float = 0.01,
    ) -> None:
        self.preset = preset_named(preset) if isinstance(preset, str) else preset
        self.seed = seed
        self.steering = Steering()
        self.ledger = Ledger(keep)
        self.clock = Clock()
        self.callbacks = CallbackSender(retries, connections)
        self.timetable: Timetable[T] = Timetable(self._fall_due, tick)

    def steer(self, said: Behaviour | None = None, **how: Any) -> None:
        """Behave otherwise; see `Steering.steer`.

        Raises: `SteeringError`.
        """
        self.steering.steer(said, **how)

    def calm(self) -> None:
        """Forget every steering."""
        self.steering.clear()

    async def __aenter__(self) -> Self:
        await self._listen()
        self.callbacks.start()
        self.timetable.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.timetable.stop()
        await self.callbacks.stop()
        await self._close()

    @property
    @abstractmethod
    def port(self) -> int:
        """The port that it listens on."""

    @property
    def address(self) -> str:
        """URL, or host and port of what does not speak HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def unsettled(self) -> int:
        """Statuses and callbacks still to come."""
        return len(self.timetable) + self.callbacks.unfinished

    def hurry(self) -> None:
        """Let everything that is due later fall due now."""
        self.timetable.hurry()

    async def settled(self, seconds: float = 30.0, *, hurry: bool = False) -> None:
        """Wait until every status was sent, and answered or given up.

        Raises: `TimeoutError`.
        """
        async with asyncio.timeout(seconds):
            while self.unsettled:
                if hurry:
                    self.hurry()
                await asyncio.sleep(0.005)

    def summary(self) -> dict[str, Any]:
        """Counts, for the control API."""
        return {
            **self.ledger.summary(),
            "unsettled": self.unsettled,
            "dropped": self.timetable.dropped,
            "callbacks": self.callbacks.summary(),
            "preset": self.preset.name,
            "seed": self.seed,
        }

    def forget(self) -> None:
        """Empty the ledger."""
        self.ledger.clear()

    # For the gateways themselves.

    @abstractmethod
    async def _listen(self) -> None: ...

    @abstractmethod
    async def _close(self) -> None: ...

    @abstractmethod
    def _fall_due(self, due: list[T]) -> None:
        """Do what fell due."""

    def _decide(
        self, names: Iterable[str], template: str | None, request: Behaviour, preset: Behaviour
    ) -> Behaviour:
        return self.steering.message(names, template, request, preset)

    def _fate(self, recipient: str, message: str) -> Fate:
        # By gateway: who is not on WhatsApp may well get an SMS.
        return self.preset.fate(self.seed, f"{self.name}:{recipient}", message)

    def _reply(self, recipient: str) -> str | None:
        return self.preset.reply(self.seed, f"{self.name}:{recipient}")

    def _vary(self, seconds: float, *of: str) -> float:
        """Half to one and a half of `seconds`."""
        return seconds * (0.5 + chance(self.seed, "vary", *of)) if seconds else 0.0
