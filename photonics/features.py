"""Random optical features as a scikit-learn transformer."""

import copy
import math
import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.sparsefuncs import csc_median_axis_0
from sklearn.utils.validation import check_is_fitted, validate_data

from photonics import presets
from photonics.analysis.speckle import expected_speckle
from photonics.arrays import Array, BoolArray, FloatArray, IntArray
from photonics.backend import to_host
from photonics.component import integer
from photonics.opu import OPU
from photonics.patterns.encoding import as_patterns

__all__ = ["OPUFeatures"]

KINDS = ("nonlinear", "linear")
ENCODERS = ("median", "sign")
DARK_FRAMES = 16
"""Number of dark frames whose mean is subtracted from every frame."""
EXPOSURE_ROWS = 32
"""Number of samples from which the exposure is set."""
FULL_CONTRAST = 0.99
"""Contrast from which on the kernel counts as that of fully developed speckle."""
USABLE_PIXELS = 0.92
"""Share of pixels assumed to be valid for a linear projection: about 5 % have a dark anchor, and that share varies."""


class OPUFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Random optical features: samples become binary patterns, and frames of these become features.

    Nonlinear features of a pattern x are ``(frame - dark) / unit_dn / sqrt(n_components)``: intensities ``|T x|^2``.
    For many components their inner product tends to the optical kernel, ``(|x|^2 |y|^2 + C^2 (x.y)^2) / n_in^2`` for a
    flat beam (`photonics.analysis.speckle.optical_kernel` with variance 1 / n_in and contrast C), with a relative
    standard error of 1.7 (orthogonal patterns) to 2.2 (the same pattern) over ``sqrt(n_components)``. Linear ones are
    ``sqrt(2 / n_components) T_lin x``, and their inner product tends to ``x.y / n_in``, with C = 1.
    The contrast C is 1 for the presets. It is less where a pixel sums several fields (polarisations, modes,
    wavelengths, grains); `fit` warns of that, and linear features then have a smaller inner product (C^2 of it for
    equal fields). The losses of a medium, and the scale of a user's matrix, are divided out.

    Fitting builds the device, sets its exposure on a few samples (on all inputs ON for linear features) and takes dark
    frames. Frames are noisy as on a bench: a second transform of the same samples has new noise, while a second fit
    with the same `random_state` gives the same device and the same noise from the first frame on.

    Parameters
    ----------
    n_components : int
        Number of features, one per pixel.
    device : str or OPU
        Name of a preset, a TOML file, or a device, which is copied. Inputs without data stay OFF, and pixels beyond
        `n_components` are not used.
    encoder : {"median", "sign"} or callable
        Map from samples to patterns. "median": ON where a value exceeds the median of its column over the fitted
        samples, or equals it if the median is the maximum, so that binary columns are kept as they are. "sign": ON
        where a value is positive. A callable maps samples, (n, n_features), to patterns of bool or 0/1, (n, n_in) with
        any n_in; it gets sparse samples as `scipy.sparse.csr_array`, and images flat.
    kind : {"nonlinear", "linear"}
        Intensities, or a linear projection.
    projection : callable, optional
        For linear features: ``projection(opu, n_inputs=n_in)`` returns a linear map of binary vectors, as
        `calibration.measure_projection` does. The real part of a complex map is used, and outputs that are not
        ``valid`` are skipped. Presets get twice the inputs, for the anchor; a given device should have them too, since
        an anchor on the mirrors of the data adds a share of ``sum(x)`` to every feature.
    random_state : int, RandomState or None
        Seed of the parts of the device and of its noise; of the noise only if `device` is an `OPU` or a file.

    Attributes
    ----------
    opu_ : OPU
        The device.
    threshold_ : ndarray, shape (n_features,)
        Values above it are ON, for the encoders "median" and "sign".
    dark_ : ndarray, shape (n_components,)
        Mean dark frame, DN.
    contrast_ : float
        Contrast C of the speckle of the device, by its parameters; NaN if some light is not scattered.
    sample_shape_ : tuple of int
        Shape of a fitted sample.
    n_features_in_ : int
        Number of columns of the fitted samples, or of values of an image.

    References
    ----------
    A. Saade et al., ICASSP 2016 (arXiv:1510.06664); R. Ohana et al., ICASSP 2020 (arXiv:1910.09880).

    Examples
    --------
    >>> import numpy as np
    >>> from photonics import OPUFeatures
    >>> OPUFeatures(n_components=8).fit_transform(np.eye(4)).shape
    (4, 8)
    """

    _n_inputs = 0
    """Inputs that carry data; 0 before the first fit, when the encoder determines them."""

    def __init__(
        self,
        n_components: int = 256,
        *,
        device: str | OPU = "lab_bench",
        encoder: str | Callable[[Array], ArrayLike] = "median",
        kind: str = "nonlinear",
        projection: Callable[..., Callable[[Array], Array]] | None = None,
        random_state: object = 0,
    ) -> None:
        self.n_components = n_components
        self.device = device
        self.encoder = encoder
        self.kind = kind
        self.projection = projection
        self.random_state = random_state

    def fit(self, X: Array, y: object = None) -> Self:
        """Compute the thresholds, build the device and set its exposure.

        Parameters
        ----------
        X : array_like or scipy sparse, shape (n_samples, n_features), or array_like (n_samples, rows, columns, ...)
            Real samples. Images are read row by row, as the inputs lie on the mirrors.
        y : None
            Not used.

        Raises
        ------
        ValueError
            If a parameter is out of range, the device is too small, or the samples are not finite numbers.
        """
        X, shape = flatten(X)
        X = as_samples(validate_data(self, X, accept_sparse="csr", dtype="numeric"))
        self.sample_shape_ = shape if len(shape) > 1 else X.shape[1:]
        self._check_parameters()
        if not callable(self.encoder):
            self.threshold_ = thresholds(X) if self.encoder == "median" else np.zeros(X.shape[1])
        self._n_inputs = 0
        patterns = self._encode(X)
        self._n_inputs = patterns.shape[1]
        self._n_features_out = self.n_components
        self.opu_ = self._build_device(self._n_inputs)
        self._transmission, self.contrast_ = expected_speckle(self.opu_)
        if not self.contrast_ >= FULL_CONTRAST:
            warnings.warn(kernel_of(self.contrast_), stacklevel=2)
        self.opu_.autoexpose(patterns=self._exposure_patterns(patterns))
        if self.kind == "linear":
            assert self.projection is not None
            self.projection_ = self.projection(self.opu_, n_inputs=self._n_inputs)
            self._rows = self._valid_rows(self.projection_)
        else:
            self.dark_ = to_host(self.opu_.dark(DARK_FRAMES))[:, : self.n_components].mean(axis=0)
        return self

    def transform(self, X: Array) -> FloatArray:
        """Features of samples: (n, n_features) or (n, rows, columns, ...) -> (n, n_components) float32.

        Raises
        ------
        ValueError
            If the shape of a sample is not that of the fitted ones, or the samples are not finite numbers.
        """
        check_is_fitted(self)
        X, shape = flatten(X)
        if len(shape) > 1 and shape != self.sample_shape_:
            raise ValueError(f"X must have samples of shape {self.sample_shape_} as in fit, got {shape}")
        X = as_samples(validate_data(self, X, accept_sparse="csr", dtype="numeric", reset=False))
        patterns = self._encode(X)
        if self.kind == "linear":
            values = np.real(to_host(self.projection_(patterns)))[:, self._rows]
            return np.asarray(values * self._linear_scale(), np.float32)
        shown = self.opu_.backend.asarray(self._pad(patterns), "bool")
        frames = to_host(self.opu_.measure(shown))[:, : self.n_components]
        # Entries of the medium have variance 1 / opu.n_in; relative to the inputs in use it is 1 / n_inputs.
        unit = self.opu_.unit_dn * self._n_inputs / self.opu_.n_in * math.sqrt(self.n_components)
        return np.asarray((frames - self.dark_) / (unit * self._transmission), np.float32)

    def _linear_scale(self) -> float:
        """Factor from a projection's unit to that of the features."""
        share = self._n_inputs / self.opu_.n_in * self._transmission
        return math.sqrt(2.0 / share / self.n_components)

    def _check_parameters(self) -> None:
        integer(self.n_components, "n_components", 1)
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        if not callable(self.encoder) and self.encoder not in ENCODERS:
            raise ValueError(f"encoder must be one of {ENCODERS} or a callable, got {self.encoder!r}")
        if not isinstance(self.device, str | OPU):
            raise ValueError(f"device must be the name of a preset, a TOML file or an OPU, got {self.device!r}")
        if self.kind == "linear" and not callable(self.projection):
            raise ValueError(
                "projection must be a callable for linear features, such as calibration.measure_projection, "
                f"got {self.projection!r}"
            )

    def _build_device(self, n_in: int) -> OPU:
        """Build the device of a preset or a file, or copy the given one."""
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        pixels = self.n_components if self.kind == "nonlinear" else math.ceil(self.n_components / USABLE_PIXELS) + 16
        if isinstance(self.device, OPU):
            opu = copy.deepcopy(self.device).replace(seed=int(seed))  # the user's medium caches
        elif presets.is_file(self.device):
            opu = OPU.from_toml(self.device).replace(seed=int(seed))
        else:
            inputs = n_in if self.kind == "nonlinear" else 2 * n_in  # as many for the anchor
            opu = presets.get(self.device)(inputs, pixels, seed=int(seed))
        if opu.n_in < n_in or opu.n_out < self.n_components:
            raise ValueError(
                f"device must have {n_in} inputs and {self.n_components} pixels or more, got {opu.n_in} and {opu.n_out}"
            )
        return opu

    def _exposure_patterns(self, patterns: BoolArray) -> Array:
        """Patterns for the exposure: a few samples, or all inputs ON for a projection, which adds anchors."""
        shown = self._pad(patterns[patterns.any(axis=1)])  # all-OFF patterns cannot set an exposure
        rows = np.linspace(0, len(shown) - 1, min(EXPOSURE_ROWS, len(shown))).astype(np.int64)
        if self.kind == "linear" or not len(rows):
            shown, rows = np.ones((1, self.opu_.n_in), np.bool_), [0]
        return self.opu_.backend.asarray(shown[rows], "bool")

    def _valid_rows(self, projection: Array) -> IntArray:
        valid = np.asarray(getattr(projection, "valid", np.ones(self.opu_.n_out, bool)))
        rows = np.flatnonzero(valid)[: self.n_components]
        if len(rows) < self.n_components:
            raise ValueError(f"device must have {self.n_components} pixels with a bright anchor, got {len(rows)}")
        return rows

    def _encode(self, X: Array) -> BoolArray:
        """Map samples to patterns: (n, n_features) -> (n, n_in)."""
        if not callable(self.encoder):
            return above(X, self.threshold_)
        patterns = np.asarray(self.encoder(X))
        if patterns.ndim != 2 or len(patterns) != X.shape[0]:
            raise ValueError(f"encoder must return patterns of shape ({X.shape[0]}, n_in), got {patterns.shape}")
        return as_patterns(patterns, self._n_inputs or patterns.shape[1], "encoder's patterns")

    def _pad(self, patterns: BoolArray) -> BoolArray:
        """Append OFF inputs up to the inputs of the device."""
        return np.pad(patterns, ((0, 0), (0, self.opu_.n_in - patterns.shape[1])))

    def __sklearn_tags__(self) -> Tags:
        """Tags for scikit-learn: frames are noisy, and features are float32 for any input."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.non_deterministic = True
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = []
        return tags


def kernel_of(contrast: float) -> str:
    """Warning that says what features of speckle of that contrast tend to."""
    if math.isnan(contrast):
        return "device does not scatter all of the light: its features do not tend to the optical kernel"
    return (
        f"device makes speckle of contrast {contrast:.2g}: inner products of features tend to "
        f"(|x|^2 |y|^2 + {contrast**2:.2g} (x.y)^2) / n_in^2, and of linear ones to less than x.y / n_in"
    )


def flatten(X: Array) -> tuple[Array, tuple[int, ...]]:
    """Samples with one axis for the values of an image, and the shape of a sample."""
    shape = tuple(getattr(X, "shape", None) or np.asarray(X).shape)
    return (np.reshape(np.asarray(X), (shape[0], math.prod(shape[1:]))) if len(shape) > 2 else X), shape[1:]


def as_samples(X: Array) -> Array:
    """A numpy array, or a sparse one without repeated entries."""
    if not sparse.issparse(X):
        return np.asarray(X)
    X = sparse.csr_array(X)
    X.sum_duplicates()
    return X


def above(X: Array, threshold: NDArray[np.float64]) -> BoolArray:
    """Whether each value exceeds the threshold of its column: (n, n_features), also of sparse samples."""
    if not sparse.issparse(X):
        return threshold < X
    patterns = np.tile(threshold < 0, (X.shape[0], 1))
    entries = X.tocoo()
    patterns[entries.row, entries.col] = threshold[entries.col] < entries.data
    return patterns


def thresholds(X: Array) -> NDArray[np.float64]:
    """Median of each column, or the next lower number where the median is the maximum."""
    if sparse.issparse(X):
        median, highest = csc_median_axis_0(sparse.csc_matrix(X)), X.max(axis=0).toarray().ravel()
    else:
        median, highest = np.median(X, axis=0), X.max(axis=0)
    median = median.astype(np.float64)
    return np.where(median < highest, median, np.nextafter(median, -np.inf))
