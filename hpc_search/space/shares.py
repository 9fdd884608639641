"""Values at a share of a distribution, the same on every machine."""

from __future__ import annotations

from decimal import Context, Decimal

from hpc_search.space import normal


def step_at(u: float, count: int, at: float | None, sd: float) -> int:
    """Return the number of the step at the share *u* of *count*: uniform, or normal around step *at*."""
    if at is None:
        # A float has too few digits for the widest ranges.
        return int(u * 2**53) * count >> 53
    return min(max(round(normal.truncated(u, at, sd, -0.5, count - 0.5)), 0), count - 1)


def log_between(low: Decimal, high: Decimal, u: float, precision: int) -> Decimal:
    """Return the value at the share *u* between *low* and *high*, uniform in the logarithm."""
    # Decimal's ln and exp are correctly rounded on every machine; those of libm are not, and a point
    # would depend on the node that asks for it.
    context = Context(prec=precision)
    share = context.create_decimal_from_float(u)
    step = context.multiply(share, context.ln(context.divide(high, low)))
    return context.multiply(low, context.exp(step))


def log_normal(u: float, at: float, factor: float, low: float, high: float) -> float:
    """Return the value at the share *u* whose logarithm is normal around that of *at*, cut to [low, high]."""
    context = Context(prec=30)
    middle, first, last = (
        float(context.ln(context.divide(Decimal(number), Decimal(at)))) for number in (at, low, high)
    )
    drawn = normal.truncated(u, middle, float(context.ln(Decimal(factor))), first, last)
    return float(context.multiply(Decimal(at), context.exp(Decimal(drawn))))
