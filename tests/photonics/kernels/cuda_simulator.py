"""Checks of the GPU kernels on numba's simulator; `test_cuda_simulator.py` runs them in a process of their own.

The simulator starts a thread of Python for every thread of CUDA: sizes and blocks are tiny here.
"""

import sys
import traceback
from contextlib import ExitStack
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import scipy.fft

from photonics.medium.laws import LAWS

KEY = (1, 7, 2**31 + 5)
SCALE = np.float32(0.125)
TINY = np.finfo(np.float32).eps


def tile(entries, first_column, columns, first_group, groups):
    """A tile of the matrix by the kernels of the CPU: (columns, parts) float32."""
    from photonics.kernels.entries import fill_columns

    law = LAWS[entries]
    out = np.empty((columns, 2 * law.rows * groups), np.float32)
    fill_columns(law.three, first_column, columns, first_group, groups, *KEY, SCALE, out)
    return out


def entries_agree(cuda):
    """Tiles of both laws, in the first rows of a buffer, equal those of the CPU: exactly, or to rounding."""
    for entries, groups, tolerance in [("gaussian", 1, 4 * TINY), ("gaussian", 5, 4 * TINY), ("3bit", 2, 0.0)]:
        expected = tile(entries, 70_000, 3, 11, groups)
        out = np.zeros((4, expected.shape[1] // 2), np.complex64)
        cuda.fill_entries(LAWS[entries].three, 70_000, 11, KEY, SCALE, out[:3])
        np.testing.assert_allclose(out[:3].view(np.float32), expected, rtol=tolerance, atol=tolerance * SCALE)
        assert not out[3].any()


def halves_agree(cuda):
    """Whole steps and remainders add up to the normals of the CPU, to 2**-21; whole steps are integers."""
    expected = tile("gaussian", 70_000, 3, 11, 5) / SCALE
    coarse, fine = np.zeros((2, 4, 5), np.int64)
    cuda.fill_halves(70_000, 11, KEY, coarse[:3], fine[:3])
    assert not coarse[3].any() and not fine[3].any()
    coarse, fine = (part[:3].view(np.float16).astype(np.float64) for part in (coarse, fine))
    np.testing.assert_array_equal(coarse, np.rint(coarse))
    assert np.abs(fine).max() <= 0.5
    np.testing.assert_allclose((coarse + fine) / cuda.COARSE, expected, rtol=4 * TINY, atol=2.0**-21)


def projections_agree(cuda):
    """Sums over slices of the columns are the product with the tile, for any number of frames."""
    rng = np.random.default_rng(0)
    with mock.patch.object(cuda, "COLUMNS", 4):
        for frames, inputs, pairs in [(1, 4, 3), (3, 9, 2), (cuda.MAX_FUSED, 5, 1)]:
            x = (rng.normal(size=(frames, inputs)) * (rng.random((frames, inputs)) < 0.6)).astype(np.float32)
            out = np.full((-(-inputs // 4), frames, 4 * pairs), np.nan, np.float32)
            cuda.project(x, 6, KEY, SCALE, out)
            columns = tile("gaussian", 0, inputs, 6, pairs)
            for part in range(len(out)):
                piece = slice(4 * part, 4 * part + 4)
                exact = x[:, piece].astype(np.float64) @ columns[piece]
                np.testing.assert_allclose(out[part], exact, rtol=0, atol=20 * TINY * SCALE)


def frames_agree(cuda):
    """Camera frames equal those of the CPU: no light, both sides of the switch, a full well, both types."""
    from photonics.kernels import cpu

    photons = np.float32([[0, 0.3, 5, 9.9, 10.1, 30, 400, 5e3, 2e4], [15, 16, 17, 18, 3, 1, 2e3, 8e3, 1e6]])
    ticks = np.array([3, 2**40 + 1], np.int64)
    response = np.linspace(0.55, 0.65, 9).astype(np.float32)
    dsnu = np.linspace(-2, 2, 9).astype(np.float32)
    places = np.arange(9, dtype=np.uint32) * 470_000_000 + 7
    for dtype, gain, top in [("uint8", 0.0253, 255), ("uint16", 0.9, 4095), ("float32", 256, np.inf)]:
        well, offset = (np.inf, 2.0**22) if dtype == "float32" else (1e4, 2)  # float32: electrons of a detailed camera
        numbers = np.float32([0.2, 2.5, well, gain, offset, top])
        ours, theirs = np.zeros((2, 2, 9), dtype)
        cuda.expose(photons, ticks, KEY, places, response, dsnu, *numbers, ours)
        cpu.expose_rows(photons, ticks, *KEY, places, response, dsnu, *numbers, cpu.camera_buffers(9), theirs)
        np.testing.assert_array_equal(ours, theirs)
        assert len(np.unique(ours)) > 6
        assert dtype == "float32" or ours[1, 8] == top


def screens_agree(cuda):
    """Every mode of every frame, to 1e-6, in place or into an array of another width, and the conjugate."""
    from photonics.kernels import screens, screens_cuda

    rng, stream = np.random.default_rng(0), 12
    for given, width in [(21, 21), (1, 1), (121, 121), (10, 21), (21, 10), (0, 3)]:
        wide = (rng.normal(size=(2, given)) + 1j * rng.normal(size=(2, given))).astype(np.complex64)
        for source, layer, conjugate in [(wide, 0, False), (wide, 2, True), (wide.real.copy(), 1, True)]:
            ours, theirs = np.full((2, width), np.nan, np.complex64), np.zeros((2, width), np.complex64)
            before, modes = source.copy(), min(given, width)
            numbers = np.float32(0.3), np.float32(-1 if conjugate else 1)
            screens_cuda.screen_into(source, ours, layer, KEY[1:], conjugate, 0.3)
            screens.screen_into(source, modes, layer, stream, *KEY[1:], *numbers, theirs)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
            assert not ours[:, modes:].any()
            np.testing.assert_array_equal(source, before)
        if given == width:
            ours, theirs = wide.copy(), wide.copy()
            screens_cuda.screen_into(ours, ours, 2, KEY[1:], True, 0.3)
            screens.screen(theirs, given, 2, stream, *KEY[1:], np.float32(0.3), np.float32(-1))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
            assert np.all(ours != wide)


def nothing_is_launched_for_nothing(cuda):
    """Empty batches and tiles."""
    from photonics.kernels import screens_cuda

    empty = np.zeros((0, 3), np.complex64)
    screens_cuda.screen_into(empty, empty, 0, KEY[1:])
    cuda.fill_entries(False, 0, 0, KEY, SCALE, np.zeros((0, 4), np.complex64))
    cuda.launch(None, 0, 1)
    cuda.launch(None, 1, 0)


class Stream:
    """A stream whose work runs only when an event is waited for, like that of a slow GPU."""

    known: dict[int, "Stream"] = {}  # noqa: RUF012 (the test's own)

    def __init__(self, non_blocking=False):
        self.queue, self.ptr = [], len(self.known)
        self.known[self.ptr] = self

    def record(self, event):
        event.queue = self.queue

    def wait_event(self, event):
        while event.queue:
            event.queue.pop(0)()


def pipeline(cuda):
    """`photonics.medium.pipeline`, with numpy in the place of cupy."""
    import numba.cuda

    now = Stream()
    cupy = ModuleType("cupy")
    vars(cupy).update({name: getattr(np, name) for name in np.__all__})
    vars(cupy)["cuda"] = SimpleNamespace(Stream=Stream, Event=SimpleNamespace, get_current_stream=lambda: now)
    sys.modules["cupy"] = cupy
    sys.modules["cupyx"] = sys.modules["cupyx.scipy"] = SimpleNamespace(scipy=scipy, fft=scipy.fft)
    numba.cuda.external_stream = Stream.known.__getitem__
    from photonics.medium import pipeline

    def later(*arguments):
        *given, coarse, fine, stream = arguments

        def draw():
            whole = np.empty((2, *coarse.shape), coarse.dtype)  # the simulator takes no part of a buffer
            cuda.fill_halves(*given, *whole)
            coarse[...], fine[...] = whole

        stream.queue.append(draw)

    def multiply(x, tile, sums):
        sums += x.astype(np.float32) @ tile.astype(np.float32)

    pipeline.cuda = SimpleNamespace(**{name: getattr(cuda, name) for name in cuda.__all__} | {"fill_halves": later})
    pipeline.add_product = multiply
    return pipeline


def products_agree(cuda):
    """Fused products in bands, and products of tiles that are drawn on another stream, equal those of the host."""
    from photonics import GaussianMedium

    pipe, rng = pipeline(cuda), np.random.default_rng(1)
    sizes = [(9, 7, 1), (5, 6, 9), (9, 70, 10)]
    with mock.patch.multiple(pipe, INPUTS=4, OUTPUTS=64, PARTIAL_BYTES=160), mock.patch.object(cuda, "COLUMNS", 4):
        pipe.cuda.COLUMNS = 4
        for n_in, n_out, batch in sizes:
            medium = GaussianMedium(n_in, n_out, 2**40 + 3, "streamed")
            for kind in ("bool", "float32", "complex64"):
                field = rng.normal(size=(batch, n_in)) + 1j * rng.normal(size=(batch, n_in))
                field = field.real > 0 if kind == "bool" else field.astype(kind)
                result, expected = pipe.propagate(medium._slab, field), medium.propagate(field)
                assert result.dtype == np.complex64
                np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        assert pipe.propagate(medium._slab, field[:0]).shape == (0, n_out)


def devices_agree(cuda):
    """The whole device by the code for a GPU, on numpy arrays under the name of cupy, gives the frames of the host.

    Every storage, tiles of the adjoint, screens and the camera: every kernel is launched.
    """
    import array_api_compat.numpy as host

    import photonics.backend
    from photonics import Drifting, GaussianMedium, ScatteringLayers, presets
    from photonics.kernels import screens_cuda
    from photonics.medium import streaming

    pipeline(cuda)
    xp = ModuleType("array_api_compat.cupy")
    vars(xp).update(vars(host) | {"__name__": "array_api_compat.cupy"})
    gpu, here = photonics.backend.Backend(xp, "cpu"), photonics.backend.backend_of
    rng = np.random.default_rng(2)
    patterns, y = rng.random((2, 9)) < 0.5, rng.normal(size=(2, 70)).astype(np.complex64)
    streamed = [GaussianMedium(9, 70, 3, "streamed", entries) for entries in ("gaussian", "3bit")]
    media = [GaussianMedium(9, 70, 3), *streamed, ScatteringLayers(9, 70, seed=3), Drifting(streamed[0], 3.0)]
    expected = [(presets.lab_bench(9, 70).replace(medium=m).measure(patterns), m.adjoint(y)) for m in media]

    launch, launched = cuda.launch, set()

    def noted(kernel, *arguments, **options):
        launched.add(kernel.__name__)
        launch(kernel, *arguments, **options)

    users = [module for module in list(sys.modules.values()) if getattr(module, "backend_of", None) is here]
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(photonics.backend.Backend, "check_selected"))  # there is no GPU
        for module in users:
            stack.enter_context(mock.patch.object(module, "backend_of", lambda _: gpu))
        for module in (cuda, screens_cuda):
            stack.enter_context(mock.patch.object(module, "launch", noted))
        stack.enter_context(mock.patch.multiple(streaming, INPUTS=5, OUTPUTS=64))
        for medium, (frames, back) in zip(media, expected, strict=True):
            opu = presets.lab_bench(9, 70).replace(medium=medium)
            opu.backend = gpu
            step = np.abs(opu.measure(patterns).astype(int) - frames)
            assert step.max() <= 1
            assert step.sum() <= 1
            np.testing.assert_allclose(medium.adjoint(y), back, rtol=0, atol=2e-6 * np.abs(back).max())
    assert len(launched) == 5, launched  # all but that of `products_agree`


CHECKS = {
    check.__name__: check
    for check in (
        entries_agree,
        halves_agree,
        projections_agree,
        frames_agree,
        screens_agree,
        nothing_is_launched_for_nothing,
        products_agree,
        devices_agree,
    )
}


def main():
    """Run every check and print whether it passed."""
    from photonics.kernels import cuda

    cuda.THREADS, cuda.MIN_BLOCKS, cuda.MAX_BLOCKS = 8, 1, 6
    for name, check in CHECKS.items():
        try:
            check(cuda)
            print(f"passed {name}")
        except Exception:
            print(f"failed {name}\n{traceback.format_exc()}")


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
