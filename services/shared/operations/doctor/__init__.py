"""The doctor: checks a deployment from outside and reports each fault on a line, with its cure.

`access` finds the addresses; `looking` and its neighbours collect the facts; `checks_*` are pure functions
from facts to faults; `findings` are the result.
"""
