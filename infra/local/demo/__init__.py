"""`make demo`: a tree of units, members who join, their groups and welcomes, and the books at the end.

UNITS=file.csv   a tree other than the sample (see tree.py)
MEMBERS=2000     how many join
SEED=1           selects which members
CHANNELS=sim     messages go by simulated gateways: WhatsApp, SMS, e-mail
STAY=1           keep everything running afterwards
"""

from infra.local.demo.play import prepare, run

__all__ = ["prepare", "run"]
