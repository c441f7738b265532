"""Waves: a batch is cut so that handlers can work on sets of events while each subject's order holds.

Wave k holds the k-th event of every subject. Within a wave each subject occurs once, so its events may be
handled together, by type; the order of each subject is kept between waves.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.contracts.base import Envelope, Event

Wave = dict[type[Event], list[Envelope[Event]]]


def waves(events: Sequence[Envelope[Event]]) -> list[Wave]:
    """Cut `events`, which are in partition order, into waves by type."""
    cut: list[Wave] = []
    depth: dict[tuple[str, str], int] = {}
    for event in events:
        subject = (event.data.topic, event.subject)
        k = depth.get(subject, 0)
        depth[subject] = k + 1
        if k == len(cut):
            cut.append({})
        cut[k].setdefault(type(event.data), []).append(event)
    return cut
