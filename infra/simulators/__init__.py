"""Simulators of the three message gateways, written from the published contracts. README.md says how to use
them."""

from infra.simulators.exotel import DltTemplate, ExotelSimulator
from infra.simulators.presets import PRESETS, Preset
from infra.simulators.smtp import Mail, SmtpSimulator
from infra.simulators.steering import Behaviour, Fault, SteeringError, Via
from infra.simulators.whatsapp import Disorder, Number, Person, Template, WhatsAppSimulator

__all__ = [
    "PRESETS",
    "Behaviour",
    "Disorder",
    "DltTemplate",
    "ExotelSimulator",
    "Fault",
    "Mail",
    "Number",
    "Person",
    "Preset",
    "SmtpSimulator",
    "SteeringError",
    "Template",
    "Via",
    "WhatsAppSimulator",
]
