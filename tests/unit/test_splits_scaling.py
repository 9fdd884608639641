"""Splits: normalisation by statistics of training rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_search.errors import UsageError
from hpc_search.splits import Fold, FoldsSpec, Scaler, Table, fit_scaler, make_split, scaling

RNG = np.random.default_rng(0)
VALUES = RNG.normal(3.0, 2.0, (40, 5))
FOLD = Fold(0, tuple(range(0, 40, 2)), tuple(range(1, 40, 4)), tuple(range(3, 40, 4)))


def test_standard_scaler_has_mean_zero_and_deviation_one_on_training_rows() -> None:
    scaler = fit_scaler(VALUES, FOLD)
    scaled = scaler.apply(VALUES[list(FOLD.train)])
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0)
    np.testing.assert_allclose(scaler.invert(scaler.apply(VALUES)), VALUES)
    assert (scaler.rows, scaler.constant, scaler.missing) == (20, 0, 0)


def test_minmax_scaler_brings_training_rows_to_0_and_1() -> None:
    scaled = fit_scaler(VALUES, FOLD, method="minmax").apply(VALUES[list(FOLD.train)])
    np.testing.assert_allclose(scaled.min(axis=0), 0.0)
    np.testing.assert_allclose(scaled.max(axis=0), 1.0)


def test_planted_leak_is_caught_because_other_rows_are_not_looked_at() -> None:
    leaking = VALUES.copy()
    leaking[[*FOLD.val, *FOLD.test]] = 1e9
    own, with_leak = fit_scaler(VALUES, FOLD), fit_scaler(leaking, FOLD)
    np.testing.assert_array_equal(own.center, with_leak.center)
    np.testing.assert_array_equal(own.scale, with_leak.scale)
    assert abs(leaking.mean() - own.center.mean()) > 1e8


def test_rows_are_found_by_their_ids_in_any_order() -> None:
    table = Table(tuple(f"s{i}" for i in range(40)))
    fold = make_split(table, FoldsSpec(kind="kfold", n=4)).folds[0]
    order = RNG.permutation(40)
    train = [table.ids[row] for row in fold.train]
    scaler = fit_scaler(VALUES[order], train, [table.ids[row] for row in order])
    np.testing.assert_allclose(scaler.center, fit_scaler(VALUES, fold).center)


def test_statistics_of_images_and_sequences_are_taken_over_their_axes() -> None:
    images = RNG.normal(size=(10, 3, 4, 6))
    scaler = fit_scaler(images, range(6), axes=(0, 2, 3))
    np.testing.assert_allclose(scaler.center.ravel(), images[:6].mean(axis=(0, 2, 3)))
    assert scaler.apply(RNG.normal(size=(2, 3, 9, 9))).shape == (2, 3, 9, 9)
    np.testing.assert_allclose(
        fit_scaler(images[:, :, :, 0], range(6), axes=(0, 1)).scale.ravel(),
        images[:6, :, :, 0].std(axis=(0, 1)),
    )


def test_constant_feature_becomes_zero_and_is_counted() -> None:
    values = VALUES.copy()
    values[list(FOLD.train), 2] = 0.1
    scaler = fit_scaler(values, FOLD)
    assert scaler.constant == 1
    np.testing.assert_array_equal(scaler.apply(values)[list(FOLD.train), 2], 0.0)
    assert scaler.scale[0, 2] == 1.0


def test_nan_is_in_no_statistic_and_counted_and_stays() -> None:
    values = VALUES.copy()
    values[[0, 2, 1], 0] = np.nan
    scaler = fit_scaler(values, FOLD)
    assert scaler.missing == 2
    np.testing.assert_allclose(scaler.center[0, 0], np.nanmean(values[list(FOLD.train), 0]))
    assert np.isnan(scaler.apply(values)[[0, 2, 1], 0]).all()


def test_type_of_floats_is_kept_and_statistics_are_double() -> None:
    single = VALUES.astype("f4")
    scaler = fit_scaler(single, FOLD)
    assert scaler.center.dtype == np.float64
    assert scaler.apply(single).dtype == np.float32
    assert scaler.apply(np.ones((2, 5), dtype=int)).dtype == np.float64


def test_values_larger_than_memory_are_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "values.npy", VALUES)
    monkeypatch.setattr(scaling, "_CHUNK", 3 * 5 * 8)
    pieces = fit_scaler(np.load(tmp_path / "values.npy", mmap_mode="r"), FOLD)
    monkeypatch.undo()
    whole = fit_scaler(VALUES, FOLD)
    np.testing.assert_allclose(pieces.center, whole.center)
    np.testing.assert_allclose(pieces.scale, whole.scale)


def test_state_is_saved_and_loaded() -> None:
    scaler = fit_scaler(VALUES, FOLD)
    other = Scaler("standard", np.zeros((1, 5)), np.ones((1, 5)), 0)
    other.load_state_dict(scaler.state_dict())
    np.testing.assert_array_equal(other.apply(VALUES), scaler.apply(VALUES))
    with pytest.raises(UsageError, match="method 'minmax' cannot take the state of 'standard'"):
        fit_scaler(VALUES, FOLD, method="minmax").load_state_dict(scaler.state_dict())


@pytest.mark.parametrize(
    ("values", "train", "more", "message"),
    [
        (VALUES, [0, 41, 40], {}, "2 of 3 training ids have no row of values: 40, 41"),
        (VALUES, [], {}, "there are no training ids"),
        (VALUES, [0], {"ids": [0] * 40}, "ids that are there twice: 0, 0"),
        (VALUES, [0], {"ids": [0]}, "found 40 rows of values and 1 ids"),
        (VALUES, FOLD, {"method": "robust"}, "found method 'robust'"),
        (VALUES, FOLD, {"axes": (1,)}, r"found axes \(1,\) for values of shape \(40, 5\)"),
        (VALUES, FOLD, {"axes": (0, 2)}, r"found axes \(0, 2\)"),
        (np.array(["a", "b"]), [0], {}, "found values of type <U1"),
        (
            np.where(np.arange(5) == 3, np.nan, VALUES),
            FOLD,
            {},
            "1 features are nan in every training row: 3",
        ),
        (
            np.where(np.arange(5) > 2, np.where(np.arange(40) % 4, np.inf, -np.inf)[:, None], VALUES),
            FOLD,
            {},
            "2 features are infinite in a training row: 3, 4",
        ),
    ],
)
def test_values_without_statistics_are_refused(values: Any, train: Any, more: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit_scaler(values, train, **more)


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match=r"shape \(40, 4\) do not fit the scaler: expected \(rows, 5\)"):
        fit_scaler(VALUES, FOLD).apply(VALUES[:, :4])
