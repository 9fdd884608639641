"""Any text loads or is refused in words; whatever is written reads back equal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from hpc_search.config import Profile, dump_point, dump_profile, dump_search, parse_search, profile_with
from hpc_search.config.point import parse_point
from hpc_search.config.profile import parse_profile
from hpc_search.config.selection import Seeds, all_stages
from hpc_search.errors import ConfigError, UsageError
from hpc_search.records.search import (
    ADAPTIVE,
    Budget,
    DataSpec,
    FoldsSpec,
    Metric,
    Narrow,
    OomRetry,
    RacingSpec,
    RefitSpec,
    Retry,
    Search,
    StageSpec,
    StrategySpec,
    TrialSpec,
)
from hpc_search.records.search import Choice as Chosen
from hpc_search.space import (
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Normalise,
    Prior,
    Quantized,
    Rules,
    Space,
    Uniform,
    duplicates,
)
from hpc_search.strategies import KNOWN
from hpc_search.strategies.random import Random

#: A busy machine is slow; that is no fault of the text.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
#: Pieces of which broken files are made: keys, values, and YAML's own characters.
PIECES = (
    *(
        "name: x\n",
        "trial: m:f\n",
        "command: [a, '{b}']\n",
        "metric: {name: a, goal: max}\n",
        "space:\n",
        "\n",
    ),
    *(
        "  a: [1, 2]\n",
        "  b: {log_uniform: [1e-5, 1]}\n",
        "  g: {h: {quantized: [0, 1, 0.5], prior: {at: 0, sd: 1}}}\n",
        "  m: {subspaces: {x: {n: [1]}, y: }}\n",
        "when: {b: 'a == 1'}\n",
        "constraints: ['a + b < 3']\n",
        "derived: {z: '1 / a'}\n",
        "normalise: {a: {if: 'b > 1', to: 1}}\n",
        "linked: [{c: [1], d: [2, 3]}]\n",
        "fixed: {e: 1}\n",
    ),
    *(
        "strategy: grid\n",
        "strategy: {random: {points: 5}}\n",
        "strategy: {catalog: {names: [a]}}\n",
        "catalog: {experiments: {a: {b: 1}}}\n",
        "points: [{a: 1, b: 0.5, c: 1, d: 2, e: 1}, {csv: a}]\n",
        "folds: {stratified: 5}\n",
        "folds: {nested: {outer: 2, inner: {kfold: 2}}, apart: [a]}\n",
        "folds: {hash: [0.7, 0.2, 0.1], seed: 1}\n",
        "seeds: {first: [0], top: 1, more: [1]}\n",
        "refit: {seeds: 2, on: everything}\n",
        "racing: true\nchoose: {one_standard_error: [a, -b]}\n",
        "test: m:f\ntest_command: [a]\n",
        "data: {index: a}\n",
    ),
    *("seeds: [0]\n", "retry: {oom: {halve: a}}\n", "lease: 1\n", "heartbeat: 9h\n", "expect_points: 3\n"),
    *("parameters:\n", "fold: 1\n", "time: 1:00\n", "mem: 4G\n", "extra: {nice: 1}\n", "modules: [a]\n"),
    *(
        "&x ",
        "*x ",
        "!!int ",
        "! ",
        "? ",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "#",
        "|",
        ">\n",
        "'",
        '"',
        "%",
    ),
    *(
        "\t",
        "  ",
        "---\n",
        "...\n",
        "~",
        "null",
        "true",
        ".inf",
        ".nan",
        "1e999",
        "9" * 50,
        "0x",
        "0o8",
        "<<",
    ),
    *("\\", "\\ud83d", "\\U00110000", "\x85", "\u2028", "\ufeff", "\x00", "a: ", "@", "`", "%YAML 9.9\n"),
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
CHARACTERS = st.characters(exclude_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=12).filter(lambda text: text.strip() and text.isprintable())
WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PARAMETERS = NAMES.filter(lambda name: all(part.strip() for part in name.split(".")))
SCALARS = st.one_of(st.none(), st.booleans(), INTS, FLOATS, st.text(CHARACTERS, max_size=12))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(CHARACTERS, max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def different(values: list[Any]) -> bool:
    return not duplicates(values)


def pairs(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.lists(numbers, min_size=2, max_size=2, unique=True).map(lambda pair: (min(pair), max(pair)))


def ranges(kind: Callable[[Any, Any], Any], numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return pairs(numbers).map(lambda pair: kind(*pair))


DIGITS = st.integers(1, 9)
DIMENSIONS = st.one_of(
    st.lists(VALUES, min_size=1, max_size=4).filter(different).map(lambda values: Choice(tuple(values))),
    ranges(Uniform, st.floats(-(2**63), 2**63)),
    ranges(LogUniform, st.floats(0, 2**63, exclude_min=True)),
    ranges(Int, INTS),
    ranges(LogInt, st.integers(1, 2**63 - 1)),
    st.builds(Normal, st.floats(-(2**63), 2**63), st.floats(0, 2**63, exclude_min=True)),
    st.builds(lambda low, step, n: Quantized(low, low + step * n, step), *[st.integers(1, 9)] * 3),
    st.builds(
        lambda low, step, n: Int(low, low + step * n, step), st.integers(-9, 9), *[st.integers(1, 9)] * 2
    ),
    st.just(Choice(("a", 1), (3, 0.5))),
    st.builds(lambda at, sd: LogUniform(1, 10, Prior(at, sd)), st.floats(1, 10), st.floats(1.5, 9)),
    st.builds(lambda at, sd: Quantized(0, 2, 0.25, Prior(at, sd)), st.floats(0, 2), st.floats(0.1, 9)),
)


RULED: dict[str, Dimension] = {
    "r": Choice((1, 2, None)),
    "s t": Int(1, 4),
    "t.u": Choice(("x", "y")),
    "w": Choice((1, None)),
}
RULES = Rules(
    when={"t.u": "r != 2", "w": "`s t` > 1"},
    constraints=("`s t` <= 3", 'r == 1 or t.u != "y"'),
    derived={"v": "`s t` * 2", "t.w": "t.u + ': # {'"},
    normalise={
        "r": (Normalise("`s t` % r == 0", None, unless=True), Normalise("`s t` == 3", None)),
        "w": (Normalise("w == 1 and `s t` == 2", [1, {"a": None}]),),
    },
)


@st.composite
def groups(draw: st.DrawFn, names: list[str]) -> dict[str, tuple[Any, ...]]:
    rows = draw(st.integers(1, 3))
    columns = st.lists(VALUES, min_size=rows, max_size=rows)
    made = {name: tuple(draw(columns)) for name in names}
    return {**made, names[0]: tuple(range(rows))}


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    names = draw(st.lists(PARAMETERS, max_size=7, unique=True))
    # What has a fixed mapping is no group.
    assume(not any(name.startswith(f"{group}.") for name in names for group in names))
    dimensions = {name: draw(DIMENSIONS) for name in names[:3]}
    linked = (draw(groups(names[3:5])),) if len(names) > 3 else ()
    fixed = {name: draw(VALUES) for name in names[5:]}
    if {*RULED, *RULES.derived} & {*names} or not draw(st.booleans()):
        return Space(dimensions, linked, fixed)
    return Space(dimensions | RULED, linked, fixed, RULES)


FILES = st.lists(st.sampled_from(["a.py", "src/**/*.py", "./a b/c.txt", "\u00e9.csv"]), max_size=3).map(tuple)
CALLABLES = st.builds(
    TrialSpec, callable=st.sampled_from(["m:f", "a.b.c:train", "./x/train-1.py:main"]), files=FILES
)
ARGUMENTS = st.lists(
    st.text(CHARACTERS, max_size=8).map(
        lambda text: text.replace("{", "{{").replace("}", "}}").replace("\0", "") + "{fold}"
    ),
    min_size=1,
    max_size=4,
)
COMMANDS = st.builds(
    TrialSpec,
    command=ARGUMENTS.map(tuple),
    metric_file=st.sampled_from(["", "out/metric.json"]),
    files=FILES,
)
TESTS = st.builds(TrialSpec, command=ARGUMENTS.map(tuple))
COLUMNS = ("tissue", "a b", "on")
DATA = st.builds(
    lambda source, columns, path: DataSpec(**source, **columns, **path, columns=COLUMNS),
    st.sampled_from([{"index": "a b.csv"}, {"index": "/data/x.csv"}, {"function": "m:f"}]),
    st.fixed_dictionaries({"id": NAMES, "label": NAMES, "group": NAMES, "time": NAMES}),
    st.one_of(st.just({}), st.fixed_dictionaries({"path": NAMES}, optional={"root": NAMES})),
)
SPLIT_SEEDS = st.integers(0, 2**32 - 1)
APART = st.lists(st.sampled_from(COLUMNS), max_size=2, unique=True).map(tuple)
TEST_SHARES = st.floats(0, 1, exclude_max=True)
SHUFFLED = st.sampled_from(["kfold", "stratified", "grouped", "stratified_grouped"])
SHARES = st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.2, 0.0), (1 / 3, 1 / 3, 1 / 3)])
FOLDS = st.one_of(
    st.builds(
        FoldsSpec,
        kind=SHUFFLED,
        n=st.integers(2, 20),
        seed=SPLIT_SEEDS,
        test_share=TEST_SHARES,
        repeats=st.integers(1, 3),
        apart=APART,
    ),
    st.builds(
        FoldsSpec,
        kind=SHUFFLED,
        n=st.integers(2, 9),
        outer=st.integers(2, 9),
        repeats=st.integers(1, 2),
        seed=SPLIT_SEEDS,
        apart=APART,
    ),
    st.builds(
        FoldsSpec,
        kind=st.just("time"),
        n=st.integers(2, 9),
        gap=st.integers(0, 3),
        test_share=TEST_SHARES,
        apart=APART,
    ),
    st.builds(
        FoldsSpec,
        kind=st.sampled_from(["hash", "shuffle"]),
        n=st.just(1),
        shares=SHARES,
        seed=SPLIT_SEEDS,
        apart=APART,
    ),
    st.builds(FoldsSpec, kind=st.just("leave_one_group_out"), apart=APART, test_share=TEST_SHARES),
    st.builds(FoldsSpec, kind=st.just("leave_one_group_out"), outer=st.integers(2, 9), seed=SPLIT_SEEDS),
    st.builds(FoldsSpec, kind=st.just("time"), n=st.just(3), outer=st.just(2), gap=st.integers(0, 3)),
    st.builds(FoldsSpec, kind=st.just("file"), file=NAMES),
    st.builds(
        FoldsSpec,
        kind=st.just("splitter"),
        function=st.sampled_from(["m:f", "a/b.py:split"]),
        test_share=TEST_SHARES,
        seed=SPLIT_SEEDS,
    ),
)
RETRIES = st.builds(
    Retry,
    error=st.integers(0, 9),
    no_progress=st.integers(1, 9),
    memory=st.integers(0, 9),
    timeout=st.none() | st.integers(0, 9),
    oom=st.none()
    | st.builds(
        OomRetry,
        # A name that no parameter has: its values would have to be integers.
        halve=NAMES.map(lambda name: f"{name}{'_' * 20}"),
        times=st.integers(1, 9),
        ladder=st.sampled_from(["accumulate", "plain"]),
        text=st.sampled_from([(), ("out of memory", r"\bOOM: [0-9]+")]),
        codes=st.sampled_from([(), (3, 255)]),
    ),
)
SECONDS = st.floats(min_value=1e-3, max_value=1e6)
SPLITS = st.one_of(st.tuples(st.none(), st.none()), st.tuples(DATA, st.none()), st.tuples(DATA, FOLDS))


OBJECTIVES = st.lists(
    st.builds(
        Metric,
        name=st.sampled_from(["acc", "val/f1@5", "é"]),
        goal=st.sampled_from(["max", "min"]),
        reduction=st.sampled_from(["mean", "none"]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one.name,
).map(tuple)
HOURS = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
BUDGETS = st.builds(Budget, hours=HOURS, gpu_hours=HOURS)


@st.composite
def staged(draw: st.DrawFn, space: Space) -> tuple[StageSpec, ...]:
    """Draw the stages of a search of *space*, mostly none."""
    names = draw(
        st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}", fullmatch=True), max_size=3, unique=True)
    )
    most = min(space.size() or 100, 100)
    return tuple(
        StageSpec(
            name=name,
            strategy=StrategySpec("random", {"points": draw(st.integers(1, most)), "seed": 7}),
            # Another value could break a rule.
            fixed={key: draw(VALUES) for key in space.fixed if space.ruled is None and draw(st.booleans())},
            seeds=draw(st.none() | st.just((3, 5))),
            narrow=Narrow(stage=names[place - 1], top=0.3) if place and draw(st.booleans()) else None,
        )
        for place, name in enumerate(names)
    )


@st.composite
def started(draw: st.DrawFn, space: Space, points: int) -> tuple[StrategySpec, tuple[dict[str, Any], ...]]:
    """Return a strategy with its number of points, and points that come first."""
    kind = draw(st.sampled_from(["random", "sobol", "halton", "tpe", "nsga2"]))
    known = {name: option.default for name, option in KNOWN[kind].items()}
    chosen = {"points": points, "seed": draw(st.integers(0, 2**63 - 1))}
    try:
        own = Random(points, draw(st.integers(0, 9)))
        given = [own.point(space, index) for index in range(draw(st.integers(0, min(3, points))))]
    except UsageError:
        # Rules of this space leave fewer points than were looked for.
        given = []
    return StrategySpec(kind=kind, options=known | chosen), tuple(given)


@st.composite
def chosen(draw: st.DrawFn, space: Space, folds: FoldsSpec | None, several: bool) -> dict[str, Any]:
    """Draw how a point is chosen, raced and tested, as far as the folds allow it."""
    found: dict[str, Any] = {}
    plain = [name for name, one in space.dimensions.items() if not isinstance(one, Choice)]
    if plain and not several and draw(st.booleans()):
        names = tuple(draw(st.sampled_from(["", "-"])) + name for name in plain if name[0] != "-")
        if names:
            found["choose"] = Chosen(rule="one_standard_error", simpler=names)
    if folds is not None and not folds.outer and folds.count != 1 and not several and draw(st.booleans()):
        most = folds.count - 1 if folds.count else 9
        if most >= 2:
            found["racing"] = RacingSpec(
                error=draw(st.sampled_from([0.05, 0.2])), folds=draw(st.integers(2, most))
            )
    if folds is None or folds.outer or folds.kind in ("file", "splitter"):
        found["test"] = draw(st.none() | st.builds(TrialSpec, callable=st.just("t.py:test")) | TESTS)
    return found


@st.composite
def followed(
    draw: st.DrawFn, stages: tuple[StageSpec, ...], first: StageSpec, points: int, nested: bool
) -> tuple[tuple[StageSpec, ...], tuple[int, ...] | None]:
    """Draw the stages that `seeds` and `refit` add, and the seeds of all points where they have to fit."""
    last = stages[-1].strategy.options["points"] if stages else points
    more = not nested and draw(st.booleans())
    seeds = Seeds((1, 2), draw(st.integers(1, last)), (3, 4)) if more else Seeds(())
    refit = st.builds(RefitSpec, seeds=st.just((5, 0)), on=st.sampled_from(["train", "train+val"]))
    return all_stages(stages, first, seeds, draw(st.lists(refit, max_size=1))), seeds.first or None


@st.composite
def searches(draw: st.DrawFn) -> Search:
    space = draw(spaces())
    size = space.size()
    points = draw(st.integers(1, min(size or 1000, 1000)))
    grid = size is not None and size <= 1000 and draw(st.booleans())
    strategy, given = (StrategySpec(kind="grid"), ()) if grid else draw(started(space, points))
    data, folds = draw(SPLITS)
    nested = folds is not None and folds.outer > 0
    assume(not (nested and strategy.kind in ADAPTIVE))
    heartbeat = draw(SECONDS)
    own = () if nested else draw(staged(space))
    whole = sum(stage.strategy.options["points"] for stage in own) or (size if grid else points)
    objectives = draw(OBJECTIVES)
    first = StageSpec(name="", strategy=strategy)
    stages, seeds = draw(followed(own, first, (size or 0) if grid else points, nested))
    if seeds is None:
        seeds = tuple(draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3, unique=True)))
    return Search(
        name=draw(NAMES),
        description=draw(st.sampled_from(["", "two\nlines", "a: b # c"])),
        trial=draw(st.one_of(CALLABLES, COMMANDS)),
        metric=objectives[0],
        objectives=objectives if len(objectives) > 1 else (),
        budget=draw(BUDGETS),
        space=space,
        strategy=strategy,
        given=() if own else given,
        seeds=seeds,
        **draw(chosen(space, folds, len(objectives) > 1)),
        data=data,
        folds=folds,
        retry=draw(RETRIES),
        threads=draw(st.integers(1, 64)),
        expect_points=draw(st.sampled_from([None, whole])),
        stages=stages,
        stop_on_error=draw(st.booleans()),
        heartbeat=heartbeat,
        lease=5 * heartbeat,
        save_interval=draw(SECONDS),
        stall=draw(st.sampled_from([0.0, 2.5])),
        log_bytes=draw(st.integers(1, 1 << 40)),
        save_in_background=draw(st.booleans()),
        keep_checkpoints=draw(st.booleans()),
    )


@PATIENT
@given(TEXTS)
def test_any_text_loads_or_is_refused_in_words(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for parse in (parse_search, parse_profile, parse_point):
        with suppress(ConfigError):
            parse(data, "f.yaml")


@PATIENT
@given(st.binary(max_size=60))
def test_any_bytes_load_or_are_refused_in_words(data: bytes) -> None:
    with suppress(ConfigError):
        parse_search(data, "f.yaml")


@PATIENT
@given(searches(), st.data())
def test_a_broken_copy_of_a_good_file_loads_or_is_refused_in_words(
    search: Search, data: st.DataObject
) -> None:
    text = dump_search(search)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    piece = data.draw(st.sampled_from(PIECES) | st.text(max_size=5))
    with suppress(ConfigError):
        parse_search((text[:start] + piece + text[end:]).encode("utf-8", "surrogatepass"), "f.yaml")


@PATIENT
@given(searches())
def test_a_dumped_search_reads_back_equal(search: Search) -> None:
    again = parse_search(dump_search(search).encode(), "f.yaml")
    assert again == search
    assert dump_search(again) == dump_search(search)


@PATIENT
@given(searches(), st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), min_size=1, max_size=4))
def test_a_dumped_catalog_reads_back_equal(search: Search, experiments: dict[str, dict[str, Any]]) -> None:
    columns = {name for values in experiments.values() for name in values} - {"experiment"}
    defaults = {name: f"default of {name}" for name in columns}
    rows = [{**defaults, **values} for values in experiments.values()]
    assume(not duplicates([[row[name] for name in sorted(columns)] for row in rows]))
    group = {name: tuple(row[name] for row in rows) for name in sorted(columns)}
    named = StrategySpec("catalog", {"names": list(experiments)})
    retry = structs.replace(search.retry, oom=None)
    catalog = structs.replace(
        search,
        trial=TrialSpec(callable="m:f"),
        space=Space({}, (group,) if group else (), {"fixed value": 1}),
        strategy=named,
        given=(),
        stages=(),
        choose=Chosen(),
        test=None,
        expect_points=None,
        retry=retry,
    )
    assert parse_search(dump_search(catalog).encode(), "f.yaml") == catalog


@PATIENT
@given(
    st.dictionaries(st.text(CHARACTERS, max_size=12), VALUES, max_size=5),
    st.none() | st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
)
def test_a_dumped_point_reads_back_equal(parameters: dict[str, Any], fold: int | None, seed: int) -> None:
    point = parse_point(dump_point(parameters, fold=fold, seed=seed).encode(), "f.yaml")
    assert (point["parameters"], point["fold"], point["seed"]) == (parameters, fold, seed)


@PATIENT
@given(st.lists(st.tuples(st.sampled_from(Profile.__struct_fields__), st.text(max_size=20)), max_size=4))
def test_no_assignment_brings_a_line_end_into_a_profile(assignments: list[tuple[str, str]]) -> None:
    try:
        profile = profile_with(Profile(), [f"{key}={value}" for key, value in assignments])
    except UsageError:
        return
    assert parse_profile(dump_profile(profile).encode(), "f.yaml") == profile
    texts = [value for value in (getattr(profile, key) for key, _ in assignments) if isinstance(value, str)]
    assert all(text.isprintable() for text in [*texts, *profile.prolog, *profile.modules])
