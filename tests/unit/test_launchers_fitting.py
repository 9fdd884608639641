"""What fits under the limits of a site, as pure arithmetic."""

from __future__ import annotations

from hpc_search.config.profile import SITE_TIME, Profile
from hpc_search.launchers.control import ids
from hpc_search.launchers.fitting import NO_LIMIT, Filling, Room, room, sizes
from hpc_search.launchers.timing import Learned, short, walltime
from hpc_search.site.limits import Bound, Place
from hpc_search.site.tasks import Task

LOW = Place("lab", "normal", "low")
SMALL = Place("lab", "small", "low")


def test_the_tightest_rule_leaves_what_is_not_taken_under_it() -> None:
    bounds = (Bound(300, "AssocMaxSubmitJobLimit"), Bound(120, "QOSMaxSubmit", qos="small"))

    assert room(bounds, [LOW] * 50 + [SMALL] * 20, 100) == Room(100, 100, "QOSMaxSubmit", 120)
    assert room(bounds, [LOW] * 290, 100) == Room(10, 100, "AssocMaxSubmitJobLimit", 300)
    assert room(bounds, [LOW] * 400, 100) == Room(0, 100, "AssocMaxSubmitJobLimit", 300)


def test_a_limit_of_running_tasks_lets_the_others_wait() -> None:
    assert room([Bound(8, "QOSMaxJobs", running=True)], [LOW] * 20, 100) == Room(NO_LIMIT, 100)


def test_a_plan_is_cut_into_arrays_that_fit() -> None:
    assert list(sizes(250, 100)) == [100, 100, 50]
    assert list(sizes(0, 100)) == []


def test_a_limit_that_nobody_knew_is_found_by_halves_and_filled() -> None:
    filling, free, sent = Filling(120, 100), 37, []
    while size := filling.size:
        if size <= free:
            sent.append(size)
            free -= size
            filling.taken()
        else:
            filling.refused()

    assert sum(sent) == 37
    assert filling.left == 83


def test_the_names_of_tasks_are_as_short_as_can_be() -> None:
    tasks = [Task("17", str(number), "PENDING", "", LOW, "t") for number in (0, 1, 2, 5, 7, 8)]

    assert ids("17", tasks) == "17_[0-2,5,7-8]"
    assert ids("17", [Task("17", "", "PENDING", "", LOW, "t")]) == "17"


# -- walltime
def learn(needs: list[float], durations: list[float], work: float = 1e9, **more: object) -> Learned:
    longest, lease = more.get("longest"), more.get("lease", 0.0)
    assert longest is None or isinstance(longest, int)
    assert isinstance(lease, float)
    return walltime(Profile(), needs, durations, work, longest, lease)


def test_while_nothing_is_known_jobs_are_an_hour_and_may_be_ten_minutes() -> None:
    assert learn([], []) == Learned(60, 10)


def test_a_walltime_that_is_given_holds() -> None:
    assert walltime(Profile(time=30, time_min=5), [9e9], [9e9], 5, 10) == Learned(30, 5)
    assert walltime(Profile(time=SITE_TIME), [], [], 5, 10) == Learned(0, 0)


def test_the_slowest_trial_reaches_its_next_checkpoint_with_a_margin() -> None:
    assert learn([60, 7200], [7200]) == Learned(182, 0)
    assert learn([1200], [9000]) == Learned(60, 32)


def test_no_longer_than_the_work_that_is_left_and_ten_minutes_at_least() -> None:
    assert learn([60], [60], work=20) == Learned(32, 10)
    assert learn([1], [1], work=3) == Learned(10, 0)


def test_never_above_what_the_partition_takes() -> None:
    assert learn([], [], longest=30) == Learned(30, 10)
    assert learn([7200], [7200], longest=100) == Learned(100, 0)


def test_the_least_that_is_accepted_is_no_more_than_what_is_asked_for() -> None:
    assert walltime(Profile(time_min=90), [], [], 5, None) == Learned(90, 0)
    assert walltime(Profile(time_min=20), [], [], 5, None) == Learned(60, 20)


def test_a_walltime_of_less_than_four_leases_is_told_with_the_remedy() -> None:
    assert "`lease: 150` in the search file" in short(Profile(time=10), 900.0)
    assert short(Profile(time=60), 900.0) == ""
    assert short(Profile(), 900.0) == ""


def test_a_job_has_time_for_four_leases() -> None:
    assert learn([1], [1], work=3, lease=900.0) == Learned(60, 0)
