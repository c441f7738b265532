"""`python -m services.shared.ops`: the dead letters and the fuse of a service, through its API, and the
doctor."""
