from .fields.sequence import FrameFault, SequenceCheck, check_sequence
from .hosted import Hosted
from .pairs.matrix import fit_matrix
from .pairs.projection import FittedProjection, fit_projection
from .pairs.report import characterize_pairs
from .projections.base import LinearProjection
from .projections.measuring import measure_projection
from .recovery.exposure import expose
from .recovery.transmission import TransmissionEstimate, recover_transmission_matrix
from .reports.characterize import characterize
from .reports.comparison import compare
from .reports.report import Report
from .storage.opening import open_recording
from .storage.recorded import RecordedDevice
from .storage.recorder import Recorder, write_recording
from .storage.recording import Recording
from .twin.check import check_twin
from .twin.fit import fit_device
from .twin.questions import record_bench
from .twin.twin import Twin

__all__ = [
    "FittedProjection",
    "FrameFault",
    "Hosted",
    "LinearProjection",
    "RecordedDevice",
    "Recorder",
    "Recording",
    "Report",
    "SequenceCheck",
    "TransmissionEstimate",
    "Twin",
    "characterize",
    "characterize_pairs",
    "check_sequence",
    "check_twin",
    "compare",
    "expose",
    "fit_device",
    "fit_matrix",
    "fit_projection",
    "measure_projection",
    "open_recording",
    "record_bench",
    "recover_transmission_matrix",
    "write_recording",
]
