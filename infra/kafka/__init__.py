"""The topics of the system, and the command that creates them (`python -m infra.kafka`)."""
