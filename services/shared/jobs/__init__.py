"""Long work: a job is a document that outlives its request, and that a worker completes step by step.

A feature declares a `JobKind` and asks for work by `Jobs.add`. Each of the kind's steps commits its effect
and the job's cursor in one transaction, so a process may be killed or frozen at any instant without losing or
repeating one.
"""

from __future__ import annotations

from services.shared.jobs.inputs import Inputs
from services.shared.jobs.job import ENDED, LIVE, Advance, Effect, Job, JobKind, State, Step
from services.shared.jobs.metrics import JobGauges, JobMetrics
from services.shared.jobs.requested import RequestedJobs
from services.shared.jobs.store import MIGRATIONS, JobEndedError, Jobs
from services.shared.jobs.worker import JobWorker

__all__ = [
    "ENDED",
    "LIVE",
    "MIGRATIONS",
    "Advance",
    "Effect",
    "Inputs",
    "Job",
    "JobEndedError",
    "JobGauges",
    "JobKind",
    "JobMetrics",
    "JobWorker",
    "Jobs",
    "RequestedJobs",
    "State",
    "Step",
]
