"""The main job, done by a program that knows the four services only from clients that a generator made.

It runs in `.venv-clients` with one argument, `{"clients": "<directory>", "urls": {...}, "token": "..."}`. The
directory has a package for each service. Prints what it saw as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

UNIT = "GC-SARAN"
LINK = "https://chat.whatsapp.com/GeneratedClient"
SECONDS = 60


class Service:
    """A generated client: operations by the name of their module, models by the name of their class."""

    def __init__(self, name: str, url: str, token: str) -> None:
        self._name = name
        self._client = import_module(name).AuthenticatedClient(base_url=url, token=token)

    def make(self, model: str, *value: str, **fields: Any) -> Any:
        return getattr(import_module(f"{self._name}.models"), model)(*value, **fields)

    def call(self, operation: str, *path: str, expect: int = 200, **options: Any) -> Any:
        """The parsed answer, and its headers as `headers`."""
        tag, _, name = operation.rpartition("/")
        module = import_module(f"{self._name}.api.{tag}.{name}")
        answer = module.sync_detailed(*path, client=self._client, **options)
        assert answer.status_code == expect, f"{operation}: {answer.status_code} {answer.content!r}"
        return answer


def eventually(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def main(urls: dict[str, str], token: str) -> dict[str, Any]:
    members, groups, notifications, analytics = (
        Service(name, urls[name], token) for name in ("members", "groups", "notifications", "analytics")
    )
    for code, level in (("GC", "state"), (UNIT, "district")):
        name = groups.make("UnitName", en=code, hi="इकाई")
        unit = groups.make("UnitIn", name=name, level=level)
        groups.call("default/put_unit_v1_units_code_put", code, body=unit, expect=201, if_none_match="*")

    consent = members.make(
        "GivenConsent",
        purpose=members.make("Purpose", "welcome"),
        channel=members.make("Channel", "whatsapp"),
        notice="2026-01",
        language=members.make("Language", "hi"),
    )
    person = members.make(
        "Registration", name="Asha Devi", phone="+919800000413", unit=UNIT, consents=[consent]
    )
    joined = members.call("members/register_v1_members_post", body=person, expect=201).parsed

    def seat() -> Any:
        seats = groups.call("default/get_placements_v1_members_id_groups_get", joined.id).parsed.items
        return seats[0].group_id if seats and seats[0].state.value == "assigned" else None

    group_id = eventually(known(seat))
    read = groups.call("default/get_group_v1_groups_id_get", group_id)
    group = groups.call(
        "default/patch_group_v1_groups_id_patch",
        group_id,
        body=groups.make("GroupChange", invite_link=LINK),
        if_match=read.headers["etag"],
    ).parsed

    etag = members.call("members/get_member_v1_members_id_get", joined.id).headers["etag"]
    change = members.make("MemberPatch", email="asha@example.org")
    changed = members.call(
        "members/update_member_v1_members_id_patch", joined.id, body=change, if_match=etag
    ).parsed

    def welcome() -> Any:
        page = notifications.call("default/list_notifications_v1_notifications_get", member=joined.id).parsed
        return [item for item in page.items if item.state.value == "sent"]

    def counted() -> Any:
        figures = analytics.call("analytics/get_overview_v1_overview_get", unit=UNIT).parsed
        return figures.members.total == 1 and figures.groups.taken == 1 and figures.to_dict()

    [sent] = eventually(welcome)
    return {
        "group": {"before": read.parsed.to_dict(), "after": group.to_dict()},
        "member": {"before": joined.to_dict(), "after": changed.to_dict()},
        "welcome": sent.to_dict(),
        "figures": eventually(known(counted)),
    }


def known(look: Callable[[], Any]) -> Callable[[], Any]:
    """`look`, or nothing while the service does not know of it yet (404)."""

    def tried() -> Any:
        try:
            return look()
        except AssertionError:
            return None

    return tried


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    sys.path.insert(0, order["clients"])
    print(json.dumps(main(order["urls"], order["token"])))
