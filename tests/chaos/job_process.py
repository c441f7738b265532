"""`python -m tests.chaos.job_process`: a process with a worker for one kind of job, whose every step writes
one effect.

JOBS_MONGO_URI and JOBS_DATABASE say where. A job's input is `{steps, poison, where}`: it fails for good at
the step `poison`, if that is not None, while the step is prepared or, in its transaction, after its effect
was written.
"""

from __future__ import annotations

import asyncio
import os
import signal

from prometheus_client import CollectorRegistry

from services.shared.clock import SystemClock
from services.shared.database import Collection, connect, database
from services.shared.errors import PermanentError
from services.shared.jobs import Advance, Effect, Job, JobKind, JobMetrics, Jobs, JobWorker
from services.shared.messaging import Outbox, UnitOfWork
from services.shared.observability.logs import configure_logs

KIND = "chaos"
LEASE_SECONDS = 2.0
STEP_SECONDS = 0.01


def kind(effects: Collection) -> JobKind:
    async def step(job: Job) -> Effect:
        n, last = job.cursor or 0, job.input["steps"] - 1
        poisoned = job.input["poison"] == n
        await asyncio.sleep(STEP_SECONDS)
        if poisoned and job.input["where"] == "step":
            raise PermanentError("poisoned", f"step {n}")

        async def effect(work: UnitOfWork) -> Advance:
            await effects.insert_one({"job": job.id, "n": n, "pid": os.getpid()}, session=work.session)
            if poisoned:
                raise PermanentError("poisoned", f"step {n}")
            return Advance(n + 1, 1, last + 1, {"steps": 1}, finished=n == last)

        return effect

    return JobKind(KIND, step)


async def main() -> None:
    configure_logs(service="jobs", instance=str(os.getpid()))
    client = connect(os.environ["JOBS_MONGO_URI"], app_name="chaos")
    db, clock = database(client, os.environ["JOBS_DATABASE"]), SystemClock()
    worker = JobWorker(
        Jobs(db, clock),
        Outbox(client, db, clock),
        [kind(db["effects"])],
        JobMetrics(CollectorRegistry(), [KIND]),
        lease_seconds=LEASE_SECONDS,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await worker.run(stop)


if __name__ == "__main__":
    asyncio.run(main())
