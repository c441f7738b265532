"""Kafka topics, their access rules, and the commands that set them up (`python -m infra.kafka`)."""
