"""Blaze: the share of light that tilted mirrors send into each diffraction order of the array.

The mirrors form a square grid of pitch d and tilt by gamma about their diagonal. Light is incident at alpha in the
plane across that diagonal. The grid diffracts it into orders (p, q); order (p, p) leaves in that plane at
``sin(out) = sqrt(2) p lambda / d - sin(alpha)``. A mirror reflects towards ``2 gamma - alpha``, which along either axis
is the order

    u = d (sin(alpha) + sin(2 gamma - alpha)) / (sqrt(2) lambda),

usually not an integer. The sqrt(2) is the projection of the tilt on rows and columns. A square mirror of side
``sqrt(FF) d``, FF the fill factor, gives order (p, q) the share

    FF^2 sinc^2(sqrt(FF) (p - u)) sinc^2(sqrt(FF) (q - u)),    sinc(x) = sin(pi x) / (pi x),

of the power on the array. The sum over all orders is FF, the reflected share. Losses in coating and window are not
included.

The envelope of a mirror is computed in the plane of the array. Integrating the path ``(k_out - k_in).r`` over the
tilted mirror instead gives 0.328 rather than 0.312 for the best order at 532 nm and 13.68 um, where the blaze is
between two orders; the two differ by less than 0.002 where the blaze is within 0.1 of an order.

References
----------
S. M. Popoff, "Setting up a DMD: diffraction effects", wavefrontshaping.net (tutorial): the angles and the criterion.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["blaze_order", "order_share"]


def blaze_order(pitch_m: float, tilt_rad: float, incidence_rad: float, wavelength_m: float) -> float:
    """Order along either axis towards which an ON mirror reflects; usually not an integer."""
    sines = math.sin(incidence_rad) + math.sin(2.0 * tilt_rad - incidence_rad)
    return pitch_m * sines / (math.sqrt(2.0) * wavelength_m)


def order_share(fill_factor: float, blaze: float, p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Share of the power on the array in order (p, q), all mirrors ON; `p` and `q` broadcast.

    >>> orders = np.arange(-2000, 2001)
    >>> round(float(order_share(0.92, 7.4, orders, orders[:, None]).sum()), 3)
    0.92
    """
    side = math.sqrt(fill_factor)
    return np.square(fill_factor * np.sinc(side * (np.asarray(p) - blaze)) * np.sinc(side * (np.asarray(q) - blaze)))
