"""The topics of the system and who may use them, and the commands that set them up (`python -m infra.kafka`)."""
