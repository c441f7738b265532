"""Redrawing: members and their roles follow the units that were merged or moved, and those of split units are
mapped to the parts one by one."""
