from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import Slots, put_back, state_of
from hpc_search.errors import UsageError
from hpc_search.layout import Layout

torch = pytest.importorskip("torch")
L = torch.optim.lr_scheduler


@pytest.fixture
def through(tmp_path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the state as a later attempt would load it from a file."""

    def save_and_load(objects: dict[str, Any]) -> dict[str, Any]:
        slots = Slots(Layout(tmp_path), "run", 0, 1, "0" * 16)
        slots.prepare()
        slots.save(1, state_of(objects))
        loaded = slots.newest()
        assert loaded is not None
        return loaded.state

    return save_and_load


Through = Callable[[dict[str, Any]], dict[str, Any]]


def same(left: Any, right: Any) -> bool:
    """Return whether two states are bit-identical, dtypes and types included."""
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and (left.dtype, left.shape) == (right.dtype, right.shape)
            and torch.equal(left, right)
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return bool(type(left) is type(right) and left == right)


def stepped(optimizer: Any, steps: int = 3) -> Any:
    for _ in range(steps):
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return optimizer


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "adam with a tensor lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1)),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.1, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1),
    "groups": lambda p: torch.optim.SGD(
        [{"params": [q], "lr": 0.1 * (i + 1)} for i, q in enumerate(p)], momentum=0.5
    ),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_optimizers_come_back_bit_identical(through: Through, make: Callable[[Any], Any]) -> None:
    optimizer = stepped(make(list(torch.nn.Linear(3, 2).parameters())))
    before = copy.deepcopy(optimizer.state_dict())
    fresh = make(list(torch.nn.Linear(3, 2).parameters()))

    put_back({"o": fresh}, through({"o": optimizer}))

    assert same(before, fresh.state_dict())


def test_optimizer_state_of_another_dtype_than_its_parameter_is_not_cast(through: Through) -> None:
    def make() -> Any:
        model = torch.nn.Linear(3, 2).bfloat16()
        optimizer = stepped(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        for state in optimizer.state.values():
            state["momentum_buffer"] = torch.full_like(state["momentum_buffer"], 1.001, dtype=torch.float32)
        return optimizer

    optimizer, fresh = make(), make()
    before = copy.deepcopy(optimizer.state_dict())
    for state in fresh.state.values():
        state["momentum_buffer"].zero_()

    put_back({"o": fresh}, through({"o": optimizer}))

    assert same(before, fresh.state_dict())


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "one cycle": lambda o: L.OneCycleLR(o, 0.1, total_steps=20),
    "multi step": lambda o: L.MultiStepLR(o, [2, 3, 3]),
    "sequential": lambda o: L.SequentialLR(o, [L.LinearLR(o, total_iters=2), L.CosineAnnealingLR(o, 5)], [2]),
    "chained": lambda o: L.ChainedScheduler([L.ExponentialLR(o, 0.9), L.ConstantLR(o)]),
    "lambda": lambda o: L.LambdaLR(o, lambda epoch: 0.9**epoch),
    "cyclic": lambda o: L.CyclicLR(o, 0.1, 0.2),
    "warm restarts": lambda o: L.CosineAnnealingWarmRestarts(o, 2),
    "swa": lambda o: torch.optim.swa_utils.SWALR(o, 0.05),
}


def scheduled(make: Callable[[Any], Any], steps: int) -> tuple[Any, Any]:
    optimizer = torch.optim.SGD(torch.nn.Linear(3, 2).parameters(), lr=0.1, momentum=0.9)
    schedule = make(optimizer)
    for _ in range(steps):
        stepped(optimizer, 1)
        schedule.step()
    return optimizer, schedule


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_schedules_go_on_where_they_stopped(through: Through, make: Callable[[Any], Any]) -> None:
    optimizer, schedule = scheduled(make, 4)
    fresh_optimizer, fresh = scheduled(make, 0)

    put_back({"o": fresh_optimizer, "s": fresh}, through({"o": optimizer, "s": schedule}))

    assert same(schedule.state_dict(), fresh.state_dict())
    for _ in range(4):
        for one_optimizer, one in ((optimizer, schedule), (fresh_optimizer, fresh)):
            stepped(one_optimizer, 1)
            one.step()
        assert fresh.get_last_lr() == schedule.get_last_lr()


def test_a_plateau_schedule_keeps_its_best_and_bad_epochs(through: Through) -> None:
    optimizer = torch.optim.SGD(torch.nn.Linear(3, 2).parameters(), lr=0.1)
    schedule, fresh = (L.ReduceLROnPlateau(optimizer, patience=3) for _ in range(2))
    for loss in (1.0, 0.5, 0.7, 0.6):
        schedule.step(loss)

    put_back({"s": fresh}, through({"s": schedule}))

    assert (fresh.best, fresh.num_bad_epochs) == (0.5, 2)


def test_modules_come_back_with_buffers_averages_and_extra_state(through: Through) -> None:
    class Extra(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)
            self.seen: Any = None

        def get_extra_state(self) -> Any:
            return self.seen

        def set_extra_state(self, state: Any) -> None:
            self.seen = state

    model, fresh = Extra(), Extra()
    model.seen = ("tuple", 2**70)
    averaged, fresh_averaged = (torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 2)) for _ in range(2))
    averaged.update_parameters(torch.nn.Linear(2, 2))
    averaged.update_parameters(torch.nn.Linear(2, 2))
    model.norm(torch.randn(4, 3))

    put_back({"m": fresh, "a": fresh_averaged}, through({"m": model, "a": averaged}))

    assert same(dict(model.state_dict()), dict(fresh.state_dict()))
    assert fresh.norm.num_batches_tracked == 1
    assert fresh.seen == ("tuple", 2**70)
    assert fresh_averaged.n_averaged == 2
    assert same(dict(averaged.state_dict()), dict(fresh_averaged.state_dict()))


def test_tied_weights_stay_tied(through: Through) -> None:
    def make() -> Any:
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    model, fresh = make(), make()
    put_back({"m": fresh}, through({"m": model}))

    assert fresh[0].weight is fresh[1].weight
    assert torch.equal(model[0].weight, fresh[1].weight)


def test_a_scaler_keeps_its_scale(through: Through) -> None:
    scaler, fresh = torch.amp.GradScaler("cpu", init_scale=8.0), torch.amp.GradScaler("cpu")

    put_back({"s": fresh}, through({"s": scaler}))

    assert fresh.get_scale() == 8.0


GENERATORS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "torch": (
        lambda seed: torch.Generator().manual_seed(seed),
        lambda g: torch.randn(3, generator=g).tolist(),
    ),
    "numpy": (
        np.random.default_rng,
        lambda g: (g.normal(), g.integers(9, dtype="i4"), g.permutation(5).tolist()),
    ),
    "mt19937": (lambda seed: np.random.Generator(np.random.MT19937(seed)), lambda g: g.normal()),
    "philox": (lambda seed: np.random.Generator(np.random.Philox(seed)), lambda g: g.normal()),
    "legacy": (np.random.RandomState, lambda g: g.normal()),
    "python": (random.Random, lambda g: (g.gauss(0, 1), g.random())),
}


@pytest.mark.parametrize(("make", "draw"), GENERATORS.values(), ids=GENERATORS.keys())
def test_generators_go_on_where_they_stopped(
    through: Through, make: Callable[[int], Any], draw: Callable[[Any], Any]
) -> None:
    generator, fresh = make(1), make(2)
    draw(generator)

    put_back({"g": fresh}, through({"g": generator}))

    assert [draw(generator) for _ in range(3)] == [draw(fresh) for _ in range(3)]


def test_containers_arrays_and_tensors_are_changed_in_place_and_values_are_returned(through: Through) -> None:
    saved = {
        "d": {"best": 0.5, 3: (1, 2)},
        "l": [1, [2]],
        "s": {1, 2},
        "a": np.arange(3.0),
        "t": torch.arange(3.0),
        "p": torch.nn.Parameter(torch.ones(2)),
        "best": 0.25,
        "name": "x",
        "pair": (1, None),
        "score": np.float32(1.5),
        "nothing": None,
    }
    fresh: dict[str, Any] = {
        "d": {"old": 1},
        "l": [],
        "s": set(),
        "a": np.zeros(3),
        "t": torch.zeros(3),
        "p": torch.nn.Parameter(torch.zeros(2)),
        "best": 0.0,
        "name": "",
        "pair": (),
        "score": 0.0,
        "nothing": None,
    }
    held = {name: fresh[name] for name in ("d", "l", "s", "a", "t", "p")}

    values = put_back(fresh, through(saved))

    assert values == {"best": 0.25, "name": "x", "pair": (1, None), "score": np.float32(1.5), "nothing": None}
    assert type(values["score"]) is np.float32
    for name in ("d", "l", "s"):
        assert held[name] == saved[name]
    np.testing.assert_array_equal(np.arange(3.0), held["a"])
    assert held["t"].tolist() == [0.0, 1.0, 2.0]
    assert held["p"].tolist() == [1.0, 1.0]


def test_other_names_are_refused_with_both_lists_and_nothing_is_changed() -> None:
    state = state_of({"model": [1], "optimizer": [2]})
    model: list[int] = []

    with pytest.raises(UsageError, match=r"(?s)saved: +model, optimizer\n +restored: +model, schedule"):
        put_back({"model": model, "schedule": []}, state)

    assert model == []


def test_another_kind_shape_dtype_or_architecture_is_refused_with_its_name() -> None:
    with pytest.raises(UsageError, match="x: the checkpoint holds a list, the trial gives a dict"):
        put_back({"x": {}}, state_of({"x": []}))
    with pytest.raises(UsageError, match=r"x: the checkpoint holds \(3,\) of float64"):
        put_back({"x": np.zeros(4)}, state_of({"x": np.zeros(3)}))
    with pytest.raises(UsageError, match=r"x: the checkpoint holds \(3,\) of torch.float32"):
        put_back({"x": torch.zeros(3, dtype=torch.float64)}, state_of({"x": torch.zeros(3)}))
    with pytest.raises(UsageError, match="x: what was saved does not fit this Linear"):
        put_back({"x": torch.nn.Linear(3, 2)}, state_of({"x": torch.nn.Linear(2, 2)}))
    with pytest.raises(UsageError, match="x: what was saved does not fit this SGD"):
        one = torch.optim.SGD(torch.nn.Linear(2, 2).parameters())
        put_back({"x": torch.optim.SGD([torch.zeros(1)])}, state_of({"x": one}))
    with pytest.raises(UsageError, match="x: the checkpoint holds a PCG64, the trial gives a MT19937"):
        other = np.random.Generator(np.random.MT19937())
        put_back({"x": other}, state_of({"x": np.random.default_rng()}))


def test_what_cannot_be_saved_is_refused_with_its_path_before_anything_is_written() -> None:
    optimizer = stepped(torch.optim.SGD([torch.zeros(1, requires_grad=True)], momentum=0.9))
    next(iter(optimizer.state.values()))["foo"] = torch.device("cpu")

    with pytest.raises(UsageError, match=r"optimizer\.state\[0\]\.foo: objects of type torch\.device cannot"):
        state_of({"optimizer": optimizer})
    for value in (object(), torch.nn.Linear, random.SystemRandom(), lambda: 1):
        with pytest.raises(UsageError, match="thing: "):
            state_of({"thing": value})
