"""Properties of the keyed permutation and of random draws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc_search.space import Choice, Dimension, Int, LogInt, LogUniform, Space, Uniform, canonical
from hpc_search.strategies.permutation import Permutation
from hpc_search.strategies.random import Random

KEYS = st.binary(max_size=40)
SEEDS = st.integers(-(2**70), 2**70)


@given(st.integers(1, 600), KEYS)
def test_permutation_is_a_bijection(n: int, key: bytes) -> None:
    permutation = Permutation(n, key)
    found = [permutation(i) for i in range(n)]
    assert sorted(found) == list(range(n))
    assert [permutation.inverse(number) for number in found] == list(range(n))


@given(st.integers(1, 2**300), KEYS, st.data())
def test_inverse_undoes_a_permutation_of_any_range(n: int, key: bytes, data: st.DataObject) -> None:
    permutation = Permutation(n, key)
    number = data.draw(st.integers(0, n - 1))
    image = permutation(number)
    assert 0 <= image < n
    assert permutation.inverse(image) == number
    assert permutation(permutation.inverse(number)) == number


def test_range_beyond_the_widest_hash_is_permuted() -> None:
    n = 2**3000 + 1
    permutation = Permutation(n, b"key")
    assert {permutation.inverse(permutation(i)) for i in (0, 1, n - 1)} == {0, 1, n - 1}


def choice(values: list[int]) -> Dimension:
    return Choice(tuple(values))


CHOICES = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True).map(choice)
INTEGERS: st.SearchStrategy[Dimension] = st.integers(1, 5).map(lambda high: Int(1, high))
LOGARITHMIC: st.SearchStrategy[Dimension] = st.integers(1, 30).map(lambda high: LogInt(1, high))
CONTINUOUS: st.SearchStrategy[Dimension] = st.sampled_from([Uniform(0.0, 1.0), LogUniform(1e-5, 1.0)])
FINITE = CHOICES | INTEGERS


def spaces(kind: st.SearchStrategy[Dimension]) -> st.SearchStrategy[Space]:
    return st.dictionaries(st.sampled_from("abcd"), kind, max_size=4).map(Space)


ANY = spaces(FINITE | LOGARITHMIC | CONTINUOUS)


@given(spaces(FINITE | LOGARITHMIC), SEEDS)
def test_random_draws_each_point_of_a_finite_space_once(space: Space, seed: int) -> None:
    size = space.size() or 1
    strategy = Random(min(size, 200), seed)
    drawn = [space.index(strategy.point(space, i)) for i in range(strategy.count(space))]
    assert len(set(drawn)) == len(drawn)
    if size <= 200:
        assert sorted(drawn) == list(range(size))


@given(ANY, SEEDS)
def test_random_repeats_no_point(space: Space, seed: int) -> None:
    strategy = Random(min(space.size() or 40, 40), seed)
    points = {canonical(strategy.point(space, i)) for i in range(strategy.points)}
    assert len(points) == strategy.points


@given(ANY, SEEDS, st.data())
def test_first_points_do_not_depend_on_how_many_are_asked_for(
    space: Space, seed: int, data: st.DataObject
) -> None:
    most = min(space.size() or 60, 60)
    few = data.draw(st.integers(1, most))
    for index in {0, few // 2, few - 1}:
        assert Random(few, seed).point(space, index) == Random(most, seed).point(space, index)


@given(ANY, SEEDS, st.data())
def test_point_does_not_depend_on_what_was_asked_before(space: Space, seed: int, data: st.DataObject) -> None:
    points = min(space.size() or 30, 30)
    used, index = Random(points, seed), data.draw(st.integers(0, points - 1))
    for earlier in data.draw(st.lists(st.integers(0, points - 1), max_size=4)):
        used.point(space, earlier)
    assert used.point(space, index) == Random(points, seed).point(space, index)
