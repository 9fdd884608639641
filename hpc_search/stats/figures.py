"""What the statistics give: plain records of numbers and words, without NumPy."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

ESTIMAND = "the expected score of the procedure (this point) at the folds' training size"
ONE_SPLIT = "the expected score of the procedure (this point) over seeds, on this one split"


class FoldSizes(Struct, frozen=True):
    """How many samples a fold trains on and validates on."""

    train: int
    val: int


class FoldSamples(Struct, frozen=True):
    """The per-sample scores of one trial: *scores* belong to *ids*, in any order."""

    fold: int | None
    seed: int
    ids: Sequence[str | int]
    scores: Sequence[float]


class Interval(Struct, frozen=True):
    """One point: its mean over the folds and a 95 % interval for the estimand.

    Attributes:
        sd: Over the ``n`` units (folds, or seeds without folds), n - 1 in the denominator.
        error: The standard error, corrected for training sets that overlap; None where it is unknown.
        method: In words: "corrected t on 5 folds", "bootstrap over 400 groups", "t on 5 seeds".
    """

    point: int
    mean: float
    sd: float | None
    error: float | None
    n: int
    low: float | None
    high: float | None
    method: str


class PairedTest(Struct, frozen=True):
    """One point against the best one.

    Attributes:
        difference: How much better the best one is, never negative, whatever the goal.
        p: One-sided, of "this point is at least as good as the best one". None where nothing can be said.
        holm: ``p`` after Holm over all points.
        wilcoxon: The exact two-sided p of the signed-rank test, from six pairs on.
    """

    point: int
    difference: float
    error: float | None
    p: float | None
    holm: float | None
    wilcoxon: float | None


class Comparison(Struct, frozen=True):
    """The points that cannot be told from the best one; with one point left it is the winner.

    Attributes:
        alike: Their numbers, the best one first, by mean.
        tests: The 100 best complete points after the best one, by mean.
        pairs: How many pairs each test has (folds, seeds, samples or groups).
        wilcoxon_pairs: Pairs of the signed-rank test (folds, or seeds without folds).
        wilcoxon_smallest: The smallest two-sided p that so many pairs can give; it is not computed
            below six pairs.
        method: In words.
    """

    best: int
    alike: tuple[int, ...]
    tests: tuple[PairedTest, ...]
    pairs: int
    wilcoxon_pairs: int
    wilcoxon_smallest: float
    method: str

    @property
    def winner(self) -> int | None:
        """The point that leads all others significantly, if there is one."""
        return self.best if len(self.alike) == 1 and self.tests else None


class Selected(Struct, frozen=True):
    """The selected point: what of its mean is luck of the draw, and an interval that knows it was selected.

    Attributes:
        optimism: How much the best of so many looks better than it is, on average; never negative.
        corrected: ``mean`` without it.
        rough: From fold scalars only.
    """

    point: int
    mean: float
    corrected: float
    optimism: float
    low: float
    high: float
    rough: bool
    method: str


class NullBand(Struct, frozen=True):
    """What the best of ``points`` equally good points reaches by chance.

    Attributes:
        centre: The score that all are taken to have.
        expected: Where the best of them lies on average.
        edge: The best of them is beyond it in 5 % of searches.
    """

    points: int
    centre: float
    expected: float
    edge: float
    method: str
