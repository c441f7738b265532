"""Business dashboard, for those who run the organisation. Every analytics process reports the same, hence
`max`."""

from __future__ import annotations

from infra.grafana.panels import Panel, Query, Rows, bars, board, figure, lines

EVERYWHERE = 'unit="*"'
STATES = 'unit=~"[^-*]+"'
DISTRICTS = 'unit=~"[^-]+-[^-]+"'


def _by_unit(where: str) -> list[Panel]:
    """The largest 40; at most about 800 districts have figures."""
    return [
        bars(
            "Members",
            "short",
            Query(
                f"topk(40, sum by (unit) (max by (unit, gender) (sangathan_members{{{where}}})))", "{{unit}}"
            ),
        ),
        bars(
            "Women's share, lowest first",
            "percentunit",
            Query(f"bottomk(40, max by (unit) (sangathan_women_share_ratio{{{where}}}))", "{{unit}}"),
        ),
        bars(
            "Seats taken, fullest first",
            "percentunit",
            Query(
                f"topk(40, max by (unit) (sangathan_seats_taken{{{where}}})"
                f" / max by (unit) (sangathan_seats{{{where}}} > 0))",
                "{{unit}}",
            ),
        ),
        bars(
            "Welcomes still to be sent",
            "short",
            Query(
                f'topk(40, max by (unit) (sangathan_welcomes{{{where},state="queued"}}))',
                "{{unit}}",
            ),
        ),
    ]


ROWS: Rows = {
    "Now": [
        figure(
            "Members",
            "short",
            Query(f"sum(max by (gender) (sangathan_members{{{EVERYWHERE}}}))", "members"),
        ),
        figure(
            "Women's share",
            "percentunit",
            Query(f"max(sangathan_women_share_ratio{{{EVERYWHERE}}})", "women"),
            "Among those who disclosed a gender.",
        ),
        figure("Groups", "short", Query(f"max(sangathan_groups{{{EVERYWHERE}}})", "groups")),
        figure(
            "Seats taken",
            "percentunit",
            Query(
                f"max(sangathan_seats_taken{{{EVERYWHERE}}}) / max(sangathan_seats{{{EVERYWHERE}}})",
                "taken",
            ),
        ),
        figure(
            "Welcomes sent",
            "short",
            Query(f'max(sangathan_welcomes{{{EVERYWHERE},state="sent"}})', "sent"),
        ),
    ],
    "Over time": [
        lines(
            "Members by gender",
            "short",
            Query(f"max by (gender) (sangathan_members{{{EVERYWHERE}}})", "{{gender}}"),
        ),
        lines(
            "Joined in an hour",
            "short",
            Query(
                'sum(increase(sangathan_members_registrations_total{outcome="registered"}[1h]))',
                "joined",
            ),
        ),
        lines(
            "Welcomes",
            "short",
            Query(f"max by (state) (sangathan_welcomes{{{EVERYWHERE}}})", "{{state}}"),
        ),
        lines(
            "Waiting",
            "short",
            Query("max by (reason) (sangathan_notifications_held)", "welcome: {{reason}}"),
            Query("max(sangathan_members_waiting_for_unit)", "member: unknown unit"),
            Query("max(sangathan_members_unmapped)", "member: unit was split"),
        ),
    ],
    "By state": _by_unit(STATES),
    "By district": _by_unit(DISTRICTS),
}

BUSINESS = board(
    "sangathan-business",
    "Sangathan: the organisation",
    "Members, women's share, seats and welcomes, for the whole, by state and by district.",
    ROWS,
)
