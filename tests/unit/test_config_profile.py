"""The profile of a site: what is understood, and that nothing can be smuggled into a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search.config import Profile, dump_profile, load_profile, profile_with
from hpc_search.config.nodes import parse
from hpc_search.config.problems import Book
from hpc_search.config.profile import parse_profile
from hpc_search.config.profile_fields import FIELDS, read_fields
from hpc_search.config.reader import Cursor
from hpc_search.errors import ConfigError, UsageError

_BLOCKS = frozenset({"slice", "request", "expect", "limits", "pack"})
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


def test_the_profiles_that_come_along_show_every_kind_of_slice() -> None:
    kinds = {path.stem: load_profile(path).slice.kind for path in PROFILES.glob("*.yaml")}

    assert kinds == {
        "a100-mig": "mig",
        "cpu": "cpu",
        "generic": "cpu",
        "h100": "whole",
        "mps": "mps",
        "packed": "packed",
        "preemptible": "whole",
        "shared-gpu": "shard",
        "test-cluster": "cpu",
    }


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
        ("mem: 4", "write 4M for megabytes, 4G for gigabytes"),
        ("mem: 4 GB", "write 4G"),
        ("mem: 10 GBs", "write 10G"),
        ("mem: 512mib", "write 512M"),
        ("mem: 1.5G", "a whole number with K, M, G or T"),
        ("time: 0", "auto (learned from the trials), site (the partition's default)"),
        ("gres: gpu h200 1", "SLURM's gres text has no spaces: gpu:h200:1"),
        ("gres: 'gpu: h200 :1'", "write gpu:h200:1"),
        ("gres: help", "asks for nothing"),
        ("gres: 'gpu:1,,shard:1'", "asks for nothing"),
        ("gres: gpu:a:1,shard:2", "write gpu:a or shard alone, or say which by slice.kind"),
        ("gres: gpu:a:1,gpu:b:1", "asks for several kinds of GPU"),
        ("gres: gpu:1\nslice: {request: {gres: gpu:2}}", "gres: contradicts slice.request.gres"),
        ("gres: shard:1\nslice: {kind: mig}", "p.yaml:2: slice.kind: does not fit the request"),
        ("gres: gpu:1\nslice: {kind: cpu}", "no GPU with cpu"),
        ("gres: shard:1\nslice: {kind: whole}", "write kind: shard, or gres: gpu:1"),
        ("gres: gpu:1\nslice: {kind: mps}", "gres mps:1 or more"),
        ("gres: gpu:1g.10gb:1\nslice: {kind: whole}", "write kind: mig"),
        ("slice: {kind: whole}", "a request for a GPU"),
        ("gres: gpu:1\nslice: {kind: packed}", "is one, so nothing shares the GPU"),
        ("gres: gpu:1\nslice: {kind: mig, pack: {workers: 2}}", "write kind: packed"),
        (
            "gres: gpu:1\nslice: {limits: {memory_fraction: 0.3}, pack: {workers: 4}}",
            "write memory_fraction: 0.25 or less",
        ),
        ("gres: gpu:1\nslice: {limits: {threads_percent: 20}}", "needs MPS"),
        ("gres: gpu:2\nslice: {expect: {count: 4}}", "4, and 2 in gres gpu:2"),
        ("slice: {expect: {memory_gib: [9, 11]}}", "slice.expect.memory_gib: expects a GPU"),
        ("slice: {expect: {checks: [nvlm]}}", "did you mean 'nvml'?"),
        ("nodes: 2", "a trial runs on one node"),
        ("nodes: 2", "start the trial by torchrun"),
        ("extra: {nodes: 2}", "a trial runs on one node"),
        ("extra: {ntasks: 2}", "a trial runs on one node"),
        ("extra: {clusters: x}", "log in to that cluster"),
        ("queue: gpu", "write partition"),
        ("mem: 4G\nextra: {mem-per-cpu: 1G}", "is given beside extra.mem-per-cpu"),
        ("venv: .venv", "begins with / or ~/"),
        ("venv: $WORK/env", "nothing expands it here"),
        ("python: ./python", "or a name without /"),
        ("container: [apptainer, exec, $SCRATCH/a.sif]", "nothing expands it here"),
        ("container: [env]\nconda: a", "conda: is given beside container"),
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
        ("extra: {array: 1-3}", "hpc_search sets array"),
        ("extra: {arr: 1-3}", "hpc_search sets array"),
        ("extra: {job-nam: x}", "hpc_search sets job-name"),
        ("extra: {part: high}", "use the key 'partition' of the profile"),
        ("extra: {tasks-per-node: 2}", "a trial runs on one node"),
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
        ("mem", "write --set mem=VALUE"),
        ("cpus.x=1", "did you mean 'cpus'?"),
        ("zzzzzz=1", "the keys are: name, partition"),
        ("nodes=2", "a trial runs on one node"),
        ("slice.pack.worker=4", "did you mean 'slice.pack.workers'?"),
        ("slice={kind: mig, x: 1}", "--set: slice.x: unknown key 'x'"),
        ("slice=3", "--set: slice: is not a mapping"),
        ("slice.expect.memory_gib=[9]", "is no range"),
        ("slice.pack.workers=2000", "between 1 and 64"),
        ("slice.request.gres=gpu:a:1,shard:2", "asks for several kinds of GPU"),
        ("extra.nodes=2", "a trial runs on one node"),
        ("time=10:30", "--set: time: is not a length of time"),
        ("partition=a\n#SBATCH", "--set: partition: is not in the allowed form"),
        ("extra.array=1", "hpc_search sets array"),
        ("gres=gpu:0", "asks for nothing"),
        ("gres=gpu:h200:0", "asks for nothing"),
        ("gres=gpu::1", "asks for nothing"),
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


def test_everything_that_contradicts_is_told_at_once_with_its_line() -> None:
    text = "mem: 10 GBs\ntime: 60\ntime_min: 90\ngres: shard:1\nnodes: 2\nslice:\n  kind: mig\n"
    words = told(text + "  pack: {workers: 4}\n  limits: {memory_fraction: 0.5}\n")

    assert words.startswith("5 problems")
    places = (
        "1: mem:",
        "3: time_min:",
        "5: nodes:",
        "7: slice.kind:",
        "9: slice.limits.memory_fraction:",
    )
    assert all(f"p.yaml:{place}" in words for place in places), words


def test_what_contradicts_only_a_wrong_value_is_not_told() -> None:
    assert told("gres: gpu 1\nslice: {kind: whole}\n").startswith("1 problem ")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "cpu"),
        ("gres: none", "cpu"),
        ("gres: scratch:10G", "cpu"),
        ("gres: gpu", "whole"),
        ("gres: gpu:h200:2", "whole"),
        ("gres: gres/gpu=2", "whole"),
        ("gres: gpu:1g.10gb:1", "mig"),
        ("gres: gpu:a100_2g.10gb", "mig"),
        ("gres: shard:2", "shard"),
        ("gres: mps:50", "mps"),
        ("gres: gpu:1\nslice: {pack: {workers: 4}}", "packed"),
        ("gres: scratch:1,gpu:1", "whole"),
        ("gres: dcu:2\nslice: {kind: whole}", "whole"),
        ("gres: gpu:a:1,shard:2\nslice: {kind: shard}", "shard"),
        ("slice: {kind: whole}\nextra: {gpus-per-task: 1}", "whole"),
        ("slice: {pack: {workers: 4}}", "cpu"),
        ("modules: [a]\ncontainer: [apptainer, exec, a.sif]", "cpu"),
    ],
)
def test_the_kind_of_a_slice_follows_its_request_unless_it_is_said(text: str, kind: str) -> None:
    assert read(text + "\n" if text else "{}").slice.kind == kind


@pytest.mark.parametrize(
    ("text", "assignments", "kind"),
    [
        ("gres: gpu:1", ["slice.pack.workers=4"], "packed"),
        ("gres: dcu:1\nslice: {kind: whole}", ["slice.pack.workers=4"], "packed"),
        ("gres: gpu:1\nslice: {pack: {workers: 4}}", ["slice.pack.workers=1"], "whole"),
        ("gres: gpu:1", ["gres="], "cpu"),
        ("gres: gpu:1", ["slice.request.gres=gpu:1", "gres=shard:1"], "shard"),
        ("gres: gpu:1", ["gres=shard:1", "slice.request.gres=gpu:1"], "whole"),
        ("gres: gpu:1", ["slice={request: {gres: mps:10}}"], "mps"),
    ],
)
def test_the_kind_follows_an_assignment(text: str, assignments: list[str], kind: str) -> None:
    assert profile_with(read(text + "\n"), assignments).slice.kind == kind


def test_assignments_reach_every_depth() -> None:
    assignments = ["slice.pack.workers=4", "slice.request.gres=gpu:1", "slice.expect.memory_gib=[9,11]"]
    changed = profile_with(Profile(extra={"nice": "1"}), [*assignments, "extra.hold=true", "time=auto"])

    assert changed.slice.pack.workers == 4
    assert changed.slice.expect.memory_gib == (9.0, 11.0)
    assert (changed.gres, changed.slice.kind) == ("gpu:1", "packed")
    assert changed.extra == {"nice": "1", "hold": True}
    assert profile_with(changed, ["slice.expect.memory_gib=null"]).slice.expect.memory_gib is None


def test_every_wrong_assignment_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        profile_with(Profile(), ["mem", "tim=3", "cpus=x", "gres=shard:1", "slice.kind=mig"])

    assert len(caught.value.problems) == 4


def test_the_generic_profile_shows_every_key_with_its_default() -> None:
    path = PROFILES / "generic.yaml"
    shown = read_fields(Cursor(Book("generic"), parse(path.read_bytes(), Book("generic"))))

    assert shown is not None
    assert shown.keys() == FIELDS.keys() - {"gres"}
    profile = load_profile(path)
    for key in set(Profile.__struct_fields__) - {"name", "time", "mem"}:
        assert getattr(profile, key) == getattr(Profile(), key), key


def test_every_field_is_read_at_its_own_path() -> None:
    def paths(struct: Any, within: str = "") -> Iterator[str]:
        for name in struct.__struct_fields__:
            value = getattr(struct, name)
            yield from paths(value, f"{within}{name}.") if name in _BLOCKS else [within + name]

    assert set(paths(Profile())) == FIELDS.keys() - {"gres"}
