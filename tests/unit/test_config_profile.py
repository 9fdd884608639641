"""The profile of a site: what is understood, and that nothing can be smuggled into a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.config import Profile, dump_profile, load_profile, profile_with
from hpc_search.config.profile import parse_profile
from hpc_search.errors import ConfigError, UsageError

PROFILES = Path(__file__).parents[2] / "slurm" / "profiles"


def read(text: str) -> Profile:
    return parse_profile(text.encode(), "p.yaml")


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_that_comes_along_loads_under_its_own_name(path: Path) -> None:
    assert load_profile(path).name == path.stem


def test_the_test_cluster_is_as_its_script_starts_it() -> None:
    profile = load_profile(PROFILES / "test-cluster.yaml")
    found = (profile.partition, profile.cpus, profile.mem, profile.time, profile.workers)
    assert found == ("low", 1, "500M", 10, 16)


def test_a_profile_without_a_name_is_called_like_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mysite.yaml"
    path.write_text("mem: 4G\n")
    assert load_profile(path) == Profile(name="mysite", mem="4G")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("auto", 0),
        ("site", -1),
        ("2:00:00", 120),
        ("0:10:01", 11),
        ("1-00:00:00", 1440),
        ("1-12", 2160),
        ("30 min", 30),
        ("2h", 120),
        ("90s", 2),
        ("1.5 h", 90),
    ],
)
def test_a_walltime_is_whole_minutes_in_any_form(text: str, minutes: int) -> None:
    assert read(f"time: {text}\n").time == minutes


@pytest.mark.parametrize(
    "text", ["10:30", "0", "tomorrow", "-5", "1:60:00", "0:00:00", "[1]", "1e9", "9999-00:00:00"]
)
def test_a_walltime_that_is_none_or_ambiguous_is_refused(text: str) -> None:
    assert "p.yaml:1: time:" in told(f"time: {text}\n")


def test_minutes_and_seconds_are_refused_with_both_readings() -> None:
    assert "write 0:10:30 or 10:30:00" in told("time: 10:30\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin: a", "did you mean 'partition'?"),
        ('partition: "a\\n#SBATCH --wrap=x"', "is not in the allowed form"),
        ("partition: a b", "is not in the allowed form"),
        ("account: 123", 'write it in quotes: "123"'),
        ("qos: $(id)", "is not in the allowed form"),
        ("constraint: 'a;b'", "is not in the allowed form"),
        ('reservation: "a\\tb"', "is not in the allowed form"),
        ("exclude: 'a b'", "node names"),
        ("gres: 'gpu:1;x'", "such as gpu:1"),
        (f"gres: {'g' * 129}", "up to 128"),
        ("mem: 4", "write 4M for megabytes"),
        ("mem: 4 GB", "such as 4G or 500M"),
        ("cpus: 0", "between 1 and 65,536"),
        ("workers: 0", "between 1"),
        ("throttle: -1", "between 0"),
        ("modules: cuda", "is not a list"),
        ("modules: ['a; rm']", "a module such as cuda/12.4"),
        ("modules: ['-f']", "a module such as cuda/12.4"),
        ('prolog: ["a\\nb"]', "one shell command on one line"),
        ("prolog: [3]", "is not a string"),
        ("environment: ['A=b']", "the name of a variable"),
        ("environment: {A: b}", "is not a list"),
        ('python: "a\\nb"', "control character"),
        ("signal_delay: 70000", "between 0 and 65,535"),
        ("requeue: yes", "write true"),
        ("time: 1h\ntime_min: 2h", "is longer than time"),
        ("extra: {array: 1-3}", "hpc_search sets it"),
        ("extra: {time: 5}", "use the key 'time' of the profile"),
        ("extra: {cpus-per-task: 5}", "use the key 'cpus' of the profile"),
        ("extra: {'--nice': 5}", "is no option for `extra`"),
        ('extra: {"nice=1\\n#SBATCH": 5}', "is no option for `extra`"),
        ('extra: {nice: "1\\n#SBATCH --wrap"}', "extra.nice: is not in the allowed form"),
        ("extra: {nice: '1 --wrap'}", "is not in the allowed form"),
        ("extra: {nice: ''}", "is not in the allowed form"),
        ("extra: {nice: null}", "is not a string"),
        ("- a", "is not a mapping"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(text: str, words: str) -> None:
    assert words in told(text + "\n")


def test_options_keep_the_text_of_numbers_and_true_stands_for_a_bare_option() -> None:
    assert read("extra: {nice: 0100, exclusive: true, mail-type: END}\n").extra == {
        "nice": "0100",
        "exclusive": True,
        "mail-type": "END",
    }


def test_an_assignment_changes_one_key() -> None:
    profile = Profile(partition="a", extra={"nice": "1"})
    assignments = ["partition=b", "account=123", "time=2:00:00", "modules=[a/1, b]", "gres=", "requeue=false"]
    changed = profile_with(profile, [*assignments, "extra.exclusive=true", "time-min=10"])
    assert changed == Profile(
        partition="b",
        account="123",
        time=120,
        time_min=10,
        modules=("a/1", "b"),
        requeue=False,
        extra={"nice": "1", "exclusive": True},
    )
    assert profile.partition == "a"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("tim=3", "did you mean 'time'?"),
        ("mem", "expected key=value"),
        ("cpus.x=1", "expected key=value"),
        ("time=10:30", "--set: time: is not a length of time"),
        ("partition=a\n#SBATCH", "--set: partition: is not in the allowed form"),
        ("extra.array=1", "hpc_search sets it"),
        ("extra.=1", "is no option for `extra`"),
        ("modules=[", "is not a list"),
        ("cpus=", "is not an integer"),
        ("time_min=9999", "is longer than time"),
        ("python=\ud800", "control character"),
    ],
)
def test_a_wrong_assignment_is_refused(assignment: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        profile_with(Profile(time=60), [assignment])
    assert words in str(caught.value)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_dumped_profile_reads_back_equal(path: Path) -> None:
    extra = ["extra={nice: 5, exclusive: true}", "prolog=['source a.sh', \"x='y: z'\"]", "modules=[a]"]
    profile = profile_with(load_profile(path), extra)
    assert read(dump_profile(profile)) == profile


def test_a_dumped_default_profile_reads_back_equal() -> None:
    assert read(dump_profile(Profile())) == Profile()
