"""wait_until: the only sleep of the tests."""

from __future__ import annotations

import pytest

from tests.waiting import wait_until


def test_the_true_value_is_returned() -> None:
    values = iter([0, [], "ready"])

    assert wait_until(lambda: next(values)) == "ready"


def test_a_condition_is_asked_once_more_after_the_time_is_up() -> None:
    assert wait_until(lambda: True, timeout=0)


def test_the_last_value_and_more_are_shown_when_it_does_not_happen() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: .*last value: \[\]\nthe log"):
        wait_until(list, timeout=0, on_timeout=lambda: "the log")
