"""Redrawing: a whole tree is compared with the present one, shown, and applied as a job."""
