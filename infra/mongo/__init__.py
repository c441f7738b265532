"""The services' MongoDB users and what they may do, and the command that sets them up (`python -m infra.mongo`)."""
