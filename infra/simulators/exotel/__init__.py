"""A simulator of Exotel's SMS API."""

from infra.simulators.exotel.dlt import DltTemplate
from infra.simulators.exotel.simulator import ExotelSimulator

__all__ = ["DltTemplate", "ExotelSimulator"]
