"""What comes back is of the very types, dtypes and bits that were saved, or it is refused by name."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import put_back, state_of, tree
from hpc_search.errors import UsageError
from tests.unit.test_checkpoint_objects import Through, same, through
from tests.unit.test_checkpoint_tree import through as decoded
from tests.unit.test_trial import Line, make, root

torch = pytest.importorskip("torch")

__all__ = ["root", "through"]


# -- optimizers of the user's own
class Own(torch.optim.Optimizer):  # type: ignore[misc,name-defined]
    def __init__(self, dtype: Any, state: Callable[[], Any] | None = None) -> None:
        parameter = torch.nn.Parameter(torch.zeros(2, dtype=dtype))
        super().__init__([parameter], {})
        if state is not None:
            self.state[parameter].update(kept=state())

    def kept(self) -> Any:
        return next(iter(self.state.values()))["kept"]


class Careful(Own):
    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)


STATES: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"L": torch.tensor([1.2345678, 2.0]), "n": torch.tensor(3)},
    "tuple": lambda: (torch.tensor([1.2345678, 2.0]), torch.tensor(16777217)),
    "nested": lambda: [[torch.tensor([1.2345678])], None, {"deep": (torch.tensor(1, dtype=torch.int8),)}],
    "large integer": lambda: torch.tensor(16777217),
    "text": lambda: "warm",
    "bytes": lambda: b"warm",
    "ordered": lambda: OrderedDict(b=1, a=torch.tensor(2)),
    "numbers": lambda: {"x": 1.5, "y": (1, 2), "z": None},
}


@pytest.mark.parametrize("kind", [Own, Careful])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_nested_optimizer_state_comes_back_as_it_was(
    through: Through, state: Callable[[], Any], dtype: Any, kind: type[Own]
) -> None:
    optimizer, fresh = kind(dtype, state), kind(dtype)
    before = copy.deepcopy(optimizer.kept())
    put_back({"o": fresh}, through({"o": optimizer}))
    assert type(fresh.kept()) is type(before)
    assert same(fresh.kept(), before)


def test_arrays_in_optimizer_state_come_back(through: Through) -> None:
    optimizer, fresh = Own(torch.float32, lambda: {"a": np.arange(3), "t": (np.ones(2),)}), Own(torch.float32)
    put_back({"o": fresh}, through({"o": optimizer}))
    assert type(fresh.kept()["a"]) is np.ndarray
    assert (fresh.kept()["a"].tolist(), fresh.kept()["t"][0].tolist()) == ([0, 1, 2], [1, 1])


@pytest.mark.parametrize(
    "wrong", [7, {}, {"state": 7, "param_groups": []}, {"state": {}, "param_groups": [7]}]
)
def test_state_that_does_not_fit_an_optimizer_is_refused_by_name(through: Through, wrong: Any) -> None:
    state = through({"o": Own(torch.float32, lambda: 1)})
    state["o"][1] = wrong
    with pytest.raises(UsageError, match=r"^o: what was saved does not fit this Own"):
        put_back({"o": Own(torch.float32)}, state)


# -- dtypes of modules
def test_a_module_of_another_dtype_is_refused_by_name_and_not_changed(through: Through) -> None:
    saved, live = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    saved.num_batches_tracked.fill_(2**40 + 1)
    saved.weight.data.fill_(3)
    live.num_batches_tracked = live.num_batches_tracked.to(torch.int32)
    with pytest.raises(
        UsageError, match=r"^m\.num_batches_tracked: the checkpoint holds torch.int64, .*int32"
    ):
        put_back({"m": live}, through({"m": saved}))
    assert live.weight.tolist() == [1, 1]
    with pytest.raises(UsageError, match=r"^m\.weight: the checkpoint holds torch.float64"):
        put_back({"m": torch.nn.Linear(2, 2)}, through({"m": torch.nn.Linear(2, 2).double()}))


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_module_takes_its_shapes_from_the_checkpoint_and_has_none_to_save(through: Through) -> None:
    saved, live = torch.nn.LazyLinear(3), torch.nn.LazyLinear(3)
    with pytest.raises(UsageError, match=r"^m\.weight: a lazy parameter that no batch has given its shape"):
        state_of({"m": saved})
    saved(torch.ones(2, 4))
    put_back({"m": live}, through({"m": saved}))
    assert torch.equal(saved.weight, live.weight)


def test_dtypes_without_values_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"^o\.x: only plain dense tensors can be saved"):
        state_of({"o": {"x": torch.empty(8, dtype=torch.bits8)}})


# -- texts
@pytest.mark.parametrize("points", [[0xD83D, 0xDE00], [0xD83D], [0xDE00], [97, 0, 98, 0], [0x1F600]], ids=str)
def test_texts_keep_every_code_point(points: list[int]) -> None:
    text = "".join(map(chr, points))
    for value in (text, {text: 1}, np.str_(text), np.str_(text + "\0")):
        back = decoded(value)
        assert back == value
        assert type(back) is type(value)
    assert decoded(np.str_(text + "\0")).tobytes() == np.str_(text + "\0").tobytes()


def test_keys_that_json_would_join_stay_two() -> None:
    assert decoded({"\ud83d\ude00": 1, "\U0001f600": 2}) == {"\ud83d\ude00": 1, "\U0001f600": 2}


@pytest.mark.parametrize("text", ['{"text":"zz"}', '{"text":"00"}', '{"text":1}', '{"text":"00110000"}'])
def test_a_text_of_other_bytes_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        tree.decode(tree.parse(b'{"buffers":[],"tree":' + text.encode() + b"}"), [])


# -- seeds and names
@pytest.mark.parametrize("entropy", [np.array([3, 4], np.uint32), [3, 2**70], 2**200, None], ids=repr)
def test_seed_sequences_of_any_entropy_come_back(through: Through, entropy: Any) -> None:
    seeds = np.random.SeedSequence(entropy)
    fresh = np.random.SeedSequence(seeds.entropy)
    seeds.spawn(2)
    put_back({"s": fresh}, through({"s": seeds}))
    assert fresh.spawn(1)[0].spawn_key == (2,)
    with pytest.raises(UsageError, match=r"^s: a seed sequence cannot change in place"):
        put_back({"s": np.random.SeedSequence(5)}, through({"s": seeds}))


def test_states_of_other_generators_are_refused_by_name(through: Through) -> None:
    state = through({"g": torch.Generator()})
    state["g"][1] = torch.zeros(3, dtype=torch.uint8)
    with pytest.raises(UsageError, match=r"^g: the checkpoint holds no state of such a generator"):
        put_back({"g": torch.Generator()}, state)
    state = through({"g": np.random.default_rng(1)})
    state["g"][1]["state"] = 7
    with pytest.raises(UsageError, match=r"^g: the checkpoint holds no state of such a generator"):
        put_back({"g": np.random.default_rng(1)}, state)


def test_an_object_may_have_any_name(root: Any) -> None:
    saved: dict[str, Any] = {"self": {"n": 1}, "step": 5, "objects": [2]}
    make(root, Line(), save_interval=0.0).save(1, **saved)
    found: dict[str, Any] = {"self": {}, "step": 0, "objects": []}
    trial = make(root, Line(), attempt=2)
    assert trial.restore(**found) == 1
    assert (found["self"], found["objects"], trial.restored) == ({"n": 1}, [2], {"step": 5})
