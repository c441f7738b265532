"""A simulator of the WhatsApp Cloud API."""

from infra.simulators.whatsapp.errors import ERRORS
from infra.simulators.whatsapp.payloads import Number, Pricing, Update
from infra.simulators.whatsapp.people import Person
from infra.simulators.whatsapp.simulator import WhatsAppSimulator
from infra.simulators.whatsapp.templates import Template
from infra.simulators.whatsapp.webhooks import Disorder, sign

__all__ = [
    "ERRORS",
    "Disorder",
    "Number",
    "Person",
    "Pricing",
    "Template",
    "Update",
    "WhatsAppSimulator",
    "sign",
]
