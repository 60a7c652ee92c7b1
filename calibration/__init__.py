"""From frames alone: linear projections, characterisation, reports."""

from calibration.characterize import characterize
from calibration.comparison import compare
from calibration.exposure import expose
from calibration.hosted import Hosted
from calibration.projection import LinearProjection, measure_projection
from calibration.recorded import RecordedDevice
from calibration.recorder import Recorder, write_recording
from calibration.report import Report
from calibration.transmission import TransmissionEstimate, recover_transmission_matrix

__all__ = [
    "Hosted",
    "LinearProjection",
    "RecordedDevice",
    "Recorder",
    "Report",
    "TransmissionEstimate",
    "characterize",
    "compare",
    "expose",
    "measure_projection",
    "recover_transmission_matrix",
    "write_recording",
]
