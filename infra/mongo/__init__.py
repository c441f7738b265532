"""The services' MongoDB users, their rights, and the command that sets them up (`python -m infra.mongo`)."""
