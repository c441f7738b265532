"""A simulator of a mail server."""

from infra.simulators.smtp.mail import Mail
from infra.simulators.smtp.simulator import SmtpSimulator

__all__ = ["Mail", "SmtpSimulator"]
