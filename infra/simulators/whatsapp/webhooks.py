"""Webhooks: batches on three levels, disorder, signatures over the very bytes, retries, replays.

Sources: Meta, "Create a webhook endpoint" (April/May 2026) and "Webhooks" (June 2026): up to 1,000 updates
in a POST of at most 3 MB; `X-Hub-Signature-256: sha256=<hex>` is HMAC-SHA256 of the body with the app secret;
every answer but 200 is retried at once, then less and less often for 7 days; no order is promised. Graph API
webhooks escape what is not ASCII with lower-case hex digits, and sign the escaped bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from infra.simulators.callbacks import Callback, CallbackSender, Retries
from infra.simulators.whatsapp.payloads import Json, Number, Update, entry, envelope, value_of

MAX_UPDATES: Final = 1_000
MAX_BYTES: Final = 3 * 2**20
KEPT_BYTES: Final = 64 * 2**20
FAST: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between attempts: at once, then less often; Meta goes on for 7 days."""
META_RETRIES: Final = Retries(FAST, timeout=10.0, accepted={200})
Shape = Literal["single", "changes", "values", "mixed"]


@dataclass(slots=True)
class Disorder:
    """How far the webhooks are from one each, in order.

    `repeat`    share of POSTs that are sent twice
    `shuffle`   whether POSTs that fall due together, and updates within one, change places
    `late`      share of updates that come `late_by` seconds after their time
    `missing`   share of `delivered` statuses that never come when `read` does
    """

    repeat: float = 0.0
    shuffle: bool = False
    late: float = 0.0
    late_by: float = 0.5
    missing: float = 0.0


def sign(secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature-256`."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def encode(payload: Json) -> bytes:
    """The bytes that are sent and signed: compact, in ASCII with escapes of lower-case hex digits."""
    body = orjson.dumps(payload)
    if body.isascii():
        return body
    return json.dumps(payload, separators=(",", ":")).encode()


class Webhooks:
    """Makes bodies of updates and sends them to `url`; without a url nothing is sent.

    `shape`  `single`: each update a POST of its own; `changes`: one change for each update; `values`: all of
             a field in one value; `mixed`: by chance on all three levels
    `batch`  updates in a POST, at most 1,000
    """

    def __init__(
        self,
        sender: CallbackSender,
        number: Number,
        url: str | None,
        secret: str,
        *,
        seed: int,
        batch: int = MAX_UPDATES,
        shape: Shape = "mixed",
    ) -> None:
        if not 1 <= batch <= MAX_UPDATES:
            raise ValueError(f"batch is not within 1 and {MAX_UPDATES}")
        self.url, self.secret, self.number = url, secret, number
        self.batch, self.shape = batch, shape
        self.disorder = Disorder()
        self.updates = 0
        """Updates sent, repeats and replays not counted."""
        self._sender = sender
        self._random = random.Random(seed)  # noqa: S311 - the same seed, the same disorder
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0

    def late(self) -> float:
        """Extra seconds of the next update."""
        return self.disorder.late_by if self._random.random() < self.disorder.late else 0.0

    def misses(self) -> bool:
        """Whether the next `delivered` never comes."""
        return self._random.random() < self.disorder.missing

    def send(self, updates: Sequence[Update], time: float) -> None:
        """Send updates that fell due together."""
        self.updates += len(updates)
        ordered = list(updates)
        if self.disorder.shuffle:
            self._random.shuffle(ordered)
        size = 1 if self.shape == "single" else self.batch
        bodies = [
            encode(self._envelope(ordered[start : start + size], time))
            for start in range(0, len(ordered), size)
        ]
        bodies += [body for body in bodies if self._random.random() < self.disorder.repeat]
        if self.disorder.shuffle:
            self._random.shuffle(bodies)
        for body in bodies:
            self.post(body)

    def post(self, body: bytes, *, signature: str | None = None, keep: bool = True) -> bool:
        """Send a body as it is, signed unless a signature is given; an empty one leaves the header out."""
        if keep:
            self._keep(body)
        if self.url is None:
            return False
        headers = [("content-type", "application/json"), ("user-agent", "facebookexternalua")]
        signature = sign(self.secret, body) if signature is None else signature
        if signature:
            headers.append(("x-hub-signature-256", signature))
        return self._sender.send(Callback("POST", self.url, headers, body, label="webhook"))

    def replay(self, count: int | None = None, *, shuffle: bool = False) -> int:
        """Send the newest `count` bodies again, byte for byte, or all that are kept. Returns how many."""
        bodies = list(self._kept)[-count:] if count else list(self._kept)
        if shuffle:
            self._random.shuffle(bodies)
        for body in bodies:
            self.post(body, keep=False)
        return len(bodies)

    @property
    def kept(self) -> list[bytes]:
        """The newest bodies, oldest first; 64 MB of them at most."""
        return list(self._kept)

    def _keep(self, body: bytes) -> None:
        self._kept.append(body)
        self._kept_bytes += len(body)
        while self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def _envelope(self, updates: Sequence[Update], time: float) -> Json:
        account = [update for update in updates if update.section is None]
        others = [update for update in updates if update.section is not None]
        changes = [self._change(part) for part in self._parts(others)]
        entries = [entry(self.number, run) for run in self._grouped(changes)]
        if account:
            entries.append(entry(self.number, [self._change([update]) for update in account], time))
        return envelope(entries)

    def _change(self, updates: Sequence[Update]) -> Json:
        return {"field": updates[0].field, "value": value_of(updates, self.number)}

    def _parts(self, updates: Sequence[Update]) -> Iterable[Sequence[Update]]:
        """Runs of updates of one field that share a value."""
        if self.shape in ("single", "changes"):
            yield from ([update] for update in updates)
            return
        part: list[Update] = []
        wanted = self._size()
        for update in updates:
            if part and (update.field != part[0].field or len(part) >= wanted):
                yield part
                part, wanted = [], self._size()
            part.append(update)
        if part:
            yield part

    def _grouped(self, changes: Sequence[Json]) -> Iterable[Sequence[Json]]:
        """Runs of changes that share an entry."""
        start = 0
        while start < len(changes):
            size = self._size() if self.shape == "mixed" else len(changes)
            yield changes[start : start + size]
            start += size

    def _size(self) -> int:
        if self.shape != "mixed":
            return MAX_UPDATES
        return self._random.choice((1, 1, 2, 3, 5, 20, 100))


def verification(token: str, challenge: str) -> dict[str, str]:
    """Query of the request that verifies a callback URL."""
    return {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": token}


__all__: Final[Sequence[Any]] = (
    "FAST",
    "MAX_BYTES",
    "MAX_UPDATES",
    "META_RETRIES",
    "Disorder",
    "Shape",
    "Webhooks",
    "encode",
    "sign",
    "verification",
)
