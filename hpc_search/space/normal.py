"""The normal distribution, bit for bit the same on every machine.

Of floats only + - * / and the square root are used, which IEEE 754 rounds correctly; logarithms and the
error function come from Decimal. Those of libm differ in the last place from node to node, and a point would
depend on the node that asks for it.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from functools import lru_cache
from typing import Final

#: Shares are kept this far from 0 and 1: about 8.3 standard deviations.
_LEAST: Final = 2.0**-54
#: Beyond, the tail is below 1e-32.
_FAR: Final = Decimal(12)
_CONTEXT: Final = Context(prec=100)

# Wichura, "Algorithm AS 241: the percentage points of the normal distribution" (1988), PPND16.
_MIDDLE: Final = (
    (
        *(2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4),
        *(1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    ),
    (
        *(5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4),
        *(5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
    ),
)
_TAIL: Final = (
    (
        *(7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1),
        *(1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0),
        *(4.63033784615654529590e0, 1.42343711074968357734e0),
    ),
    (
        *(1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2),
        *(1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0),
        *(2.05319162663775882187e0, 1.0),
    ),
)
_FAR_TAIL: Final = (
    (
        *(2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3),
        *(2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0),
        *(5.46378491116411436990e0, 6.65790464350110377720e0),
    ),
    (
        *(2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5),
        *(7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1),
        *(5.99832206555887937690e-1, 1.0),
    ),
)


def quantile(share: float) -> float:
    """Return the standard normal value below which *share* of the distribution lies, 0 <= share <= 1."""
    share = min(max(share, _LEAST), 1.0 - 2 * _LEAST)
    off = share - 0.5
    if abs(off) <= 0.425:
        return off * _ratio(_MIDDLE, 0.180625 - off * off)
    tail = share if off < 0 else 1.0 - share
    root = math.sqrt(float(-Context(prec=30).ln(Decimal(tail))))
    value = _ratio(_TAIL, root - 1.6) if root <= 5.0 else _ratio(_FAR_TAIL, root - 5.0)
    return -value if off < 0 else value


def _ratio(terms: tuple[tuple[float, ...], tuple[float, ...]], at: float) -> float:
    above = below = 0.0
    for one, other in zip(*terms, strict=True):
        above = above * at + one
        below = below * at + other
    return above / below


@lru_cache(maxsize=4096)
def share(value: float) -> float:
    """Return the share of the standard normal distribution below *value*."""
    at = min(max(Decimal(value), -_FAR), _FAR)
    # The Taylor series of the integral; 100 digits outlast the cancellation at 12.
    square = _CONTEXT.multiply(at, at)
    term = total = at
    for place in range(1, 2000):
        term = _CONTEXT.divide(_CONTEXT.multiply(term, -square), Decimal(2 * place))
        added = _CONTEXT.divide(term, Decimal(2 * place + 1))
        total = _CONTEXT.add(total, added)
        if abs(added) < Decimal("1e-60"):
            break
    return float(_CONTEXT.add(Decimal("0.5"), _CONTEXT.multiply(total, _SCALE)))


#: 1 / sqrt(2 pi)
_SCALE: Final = Decimal(
    "0.398942280401432677939946059934381868475858631164934657665925829670657925899301838501"
)


def truncated(u: float, at: float, sd: float, low: float, high: float) -> float:
    """Return the value at the share *u* of the normal distribution (*at*, *sd*) cut to [low, high]."""
    first, last = share((low - at) / sd), share((high - at) / sd)
    value = at + sd * quantile(first + u * (last - first))
    return min(max(value, low), high)
