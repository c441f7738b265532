"""`python -m services.shared.ops`: a service's dead letters and its fuse over its API, and the doctor of all."""
