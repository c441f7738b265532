"""The doctor: checks a deployment from outside and says what is wrong, a line each, with the cure.

`access` says where to look, `looking` and its neighbours bring the facts, `checks_*` judge them (pure), `findings` are what comes out.
"""
