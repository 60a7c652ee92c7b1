"""From frames alone: linear projections, characterisation, reports."""

from calibration.characterize import characterize
from calibration.projection import LinearProjection, measure_projection
from calibration.report import Report

__all__ = ["LinearProjection", "Report", "characterize", "measure_projection"]
