"""Tensors and the device's arrays share memory."""

import array_api_strict
import numpy as np
import pytest
import torch

from calibration import measure_projection
from dfa import Graded, OpticalFeedback
from dfa.arrays import to_array, to_tensor
from dfa.feedback import optical
from photonics import presets
from photonics.backend import Backend
from tests.dfa.feedback.test_encoding import errors


def test_arrays_and_tensors_share_memory():
    """In both directions, by numpy and DLPack. Catches: a copy."""
    tensor = torch.zeros(3, 4, dtype=torch.int8)
    array = to_array(tensor.requires_grad_(False))
    array[1, 2] = 7
    assert tensor[1, 2] == 7
    back = to_tensor(array)
    back[0, 0] = 5
    assert tensor[0, 0] == 5
    strict = Backend(array_api_strict, array_api_strict.Device("CPU_DEVICE"))
    other = to_array(tensor, strict)
    assert isinstance(other, type(array_api_strict.zeros(1)))
    other[2, 2] = 3
    assert tensor[2, 2] == 3
    again = to_tensor(other)
    again[2, 3] = 9
    assert tensor[2, 3] == 9
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    assert to_tensor(frozen).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.gpu
def test_arrays_and_tensors_of_a_gpu_share_memory(gpu):
    """In both directions, by DLPack. Catches: a copy through the host."""
    tensor = torch.zeros(3, 4, device=torch.device("cuda", gpu.device.id))
    array = to_array(tensor, gpu)
    assert array.data.ptr == tensor.data_ptr()
    assert to_tensor(array).data_ptr() == tensor.data_ptr()


def test_feedback_copies_neither_codes_nor_signals(monkeypatch):
    """The device reads the encoder's memory; signals are slices of one array, the valid pixels of the projection.

    Catches: a copy of the codes, of the whole projection, or of a block's slice.
    """
    opu = presets.ideal(20, 60)
    opu.autoexpose(0.2)
    made, sent, back, read = [], [], [], []

    class Codes(Graded):
        def __call__(self, error):
            made.append(super().__call__(error))
            return made[-1]

    def sending(tensor, backend):
        sent.append(to_array(tensor, backend))
        return sent[-1]

    def reading(array):
        back.append(array)
        read.append(to_tensor(array))
        return read[-1]

    monkeypatch.setattr(optical, "to_array", sending)
    monkeypatch.setattr(optical, "to_tensor", reading)
    signals = OpticalFeedback(measure_projection(opu, n_inputs=10), Codes())(errors(6), [20, 15])
    assert sent[0].ctypes.data == made[0][0].data_ptr()
    assert signals[0].stride() == (35, 1)
    assert signals[1].data_ptr() - signals[0].data_ptr() == 20 * signals[0].element_size()
    assert read[0].data_ptr() == back[0].ctypes.data
