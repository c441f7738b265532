"""The services of Sangathan, and what they share."""

__version__ = "0.1.0"
