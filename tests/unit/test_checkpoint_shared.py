"""What shared memory when it was saved shares it again; where it cannot, it is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import Slots, buffers, put_back, state_of, tree
from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from tests.unit.test_checkpoint_objects import Through, through
from tests.unit.test_checkpoint_tree import through as decoded

torch = pytest.importorskip("torch")

__all__ = ["through"]


def numbers(kind: str, *shape: int) -> Any:
    return torch.zeros(shape) if kind == "tensor" else np.zeros(shape, np.float32)


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_views_of_one_memory_are_saved_once_and_are_views_again(through: Through, kind: str) -> None:
    base = numbers(kind, 4, 6)
    base[:] = 1
    shown = {"base": base, "tail": base[2:], "column": base[:, 1], "turned": base.T, "gaps": base[::2, ::3]}
    assert len(tree.encode(shown).sources) == 1
    back: dict[str, Any] = {}
    put_back({"o": back}, through({"o": shown}))
    for views in (shown, back):
        views["base"][3, 1] = 9
        views["gaps"][1, 0] = 5
    for name, view in shown.items():
        assert view.tolist() == back[name].tolist()
        assert type(view) is type(back[name])
        assert view.shape == back[name].shape


def test_reversed_arrays_share_again() -> None:
    base = np.arange(6)
    back = decoded([base[::-1], base[1:4], base])
    back[2][:] = [10, 11, 12, 13, 14, 15]
    assert (back[0].tolist(), back[1].tolist()) == ([15, 14, 13, 12, 11, 10], [11, 12, 13])


def test_parts_without_the_whole_stay_apart() -> None:
    flat = torch.arange(6.0)
    encoded = tree.encode([flat[:2], flat[2:]])
    assert [source.spec.shape for source in encoded.sources] == [(2,), (4,)]


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_views_in_a_list_of_what_has_a_name_of_its_own(through: Through, kind: str) -> None:
    def build() -> dict[str, Any]:
        flat = numbers(kind, 6)
        return {"flat": flat, "views": [flat[:2], flat[2:]]}

    def step(objects: dict[str, Any]) -> list[Any]:
        objects["views"][0][:] += 1
        objects["flat"][:] *= 2
        return [objects["flat"].tolist(), *(view.tolist() for view in objects["views"])]

    objects = build()
    step(objects)
    for fresh in (build(), {"flat": numbers(kind, 6), "views": []}):
        put_back(fresh, through(objects))
        assert step(fresh) == step({"flat": (copy := objects["flat"] * 1), "views": [copy[:2], copy[2:]]})


def test_a_view_of_a_parameter_is_one_of_the_live_parameter(through: Through) -> None:
    def build() -> dict[str, Any]:
        model = torch.nn.Linear(4, 1, bias=False)
        return {"half": [model.weight.detach()[:, :2]], "model": model}

    objects = build()
    for fresh in (build(), {"half": [], "model": torch.nn.Linear(4, 1, bias=False)}):
        put_back(fresh, through(objects))
        assert torch.equal(fresh["half"][0], objects["half"][0])
        fresh["model"].weight.data.fill_(5)
        assert fresh["half"][0].tolist() == [[5, 5]]


def test_a_whole_that_shows_several_parameters_shows_the_live_ones(through: Through) -> None:
    def build() -> dict[str, Any]:
        flat, model = torch.arange(6.0), torch.nn.Module()
        model.a, model.b = torch.nn.Parameter(flat[:2]), torch.nn.Parameter(flat[3:])
        return {"model": model, "flat": {"all": flat}}

    objects, fresh = build(), build()
    fresh["flat"]["all"].zero_()
    put_back(fresh, through(objects))
    assert fresh["flat"]["all"].tolist() == [0, 1, 2, 3, 4, 5]
    fresh["model"].b.data.fill_(7)
    assert fresh["flat"]["all"].tolist() == [0, 1, 2, 7, 7, 7]

    apart = build()
    apart["model"].b = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(
        UsageError, match=r"flat\['all'\]: it showed memory of what was given by another name"
    ):
        put_back(apart, through(objects))


def test_optimizer_state_that_is_a_modules_buffer_is_that_of_the_new_module(through: Through) -> None:
    def build() -> dict[str, Any]:
        model = torch.nn.Linear(2, 2)
        model.register_buffer("slow", torch.zeros(2, 2))
        optimizer = torch.optim.SGD([model.weight], 0.1)
        optimizer.state[model.weight]["slow"] = model.slow
        return {"optimizer": optimizer, "model": model}

    objects, fresh = build(), build()
    objects["model"].slow.fill_(3)
    put_back(fresh, through(objects))
    found = fresh["optimizer"].state[fresh["model"].weight]["slow"]
    assert found.tolist() == [[3, 3], [3, 3]]
    assert found.data_ptr() == fresh["model"].slow.data_ptr()


def test_a_learning_rate_and_a_buffer_that_have_two_names_have_them_again(through: Through) -> None:
    def build() -> dict[str, Any]:
        weight, rate = torch.zeros(2, requires_grad=True), torch.tensor(0.1)
        optimizer = torch.optim.Adam([weight], lr=rate)
        weight.grad = torch.ones(2)
        optimizer.step()
        held = {"rate": rate, "mean": optimizer.state[weight]["exp_avg"]}
        return {"held": held, "optimizer": optimizer, "weight": weight}

    fresh = build()
    put_back(fresh, through(build()))
    for tensor in fresh["held"].values():
        tensor.fill_(7)
    assert fresh["optimizer"].param_groups[0]["lr"] == 7
    assert fresh["optimizer"].state[fresh["weight"]]["exp_avg"].tolist() == [7, 7]


class Shadow:
    def __init__(self, tensors: dict[str, Any]) -> None:
        self.tensors = tensors

    def state_dict(self) -> dict[str, Any]:
        return self.tensors

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tensors = state


def test_a_state_of_the_models_live_tensors_is_one_of_the_new_models(through: Through) -> None:
    model = torch.nn.Linear(2, 2)
    state = through({"shadow": Shadow(dict(model.state_dict())), "model": model})
    fresh = torch.nn.Linear(2, 2)
    shadow = Shadow({})
    put_back({"shadow": shadow, "model": fresh}, state)
    fresh.weight.data.fill_(5)
    assert shadow.tensors["weight"].tolist() == [[5, 5], [5, 5]]
    assert not shadow.tensors["weight"].requires_grad
    shadow.tensors["weight"].mul_(2)


def test_containers_that_are_held_twice_are_held_twice_again(through: Through) -> None:
    inner: dict[str, Any] = {"n": [1]}
    objects = {"a": {"x": inner, "y": inner, "z": (inner["n"],)}, "inner": inner, "other": [{"n": [1]}]}
    fresh: dict[str, Any] = {"a": {}, "inner": {}, "other": []}
    put_back(fresh, through(objects))
    assert fresh["a"]["x"] is fresh["a"]["y"] is fresh["inner"]
    fresh["inner"]["n"].append(2)
    assert fresh["a"]["z"][0] == [1, 2]
    assert fresh["other"] == [{"n": [1]}]


@pytest.mark.parametrize(
    "text", ['{"same":0}', '[{"same":0}]', '[{"same":1}]', '[{"same":-1}]', '[{"same":"x"}]']
)
def test_a_container_that_is_not_there_before_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="does not exist before"):
        tree.decode(tree.parse(b'{"buffers":[],"tree":' + text.encode() + b"}"), [])


@pytest.mark.parametrize(
    "view",
    [
        "0,[7],[1]",
        "-1,[2],[1]",
        "0,[2],[-1]",
        "0,[2,2],[1]",
        "0,[9],[0]",
        "0,[0],[1]",
        '0,["x"],[1]',
        "0,7,[1]",
        "5,[2],[1]",
    ],
)
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_a_view_outside_its_buffer_is_a_value_error(view: str, kind: str) -> None:
    base = numbers(kind, 6)
    row = f'["{kind}","{"float32" if kind == "tensor" else "<f4"}",[6]]'
    structure = tree.parse(f'{{"buffers":[{row}],"tree":{{"buffer":[0,{view}]}}}}'.encode())
    with pytest.raises(ValueError, match=r"."):
        tree.decode(structure, [base])


def _numpy_and_torch() -> list[Any]:
    array = np.zeros(4)
    return [array, torch.from_numpy(array)]


REFUSED: dict[str, Callable[[], list[Any]]] = {
    "other dtype": lambda: [base := torch.zeros(4), base.view(torch.int32)],
    "torch and numpy": _numpy_and_torch,
    "expanded": lambda: [base := torch.zeros(2, 1), base.expand(2, 3)],
    "inside an element": lambda: [base := np.zeros(4, np.int16), np.ndarray(3, np.int16, base, 1)],
    "conjugate": lambda: [base := torch.zeros(2, dtype=torch.complex64), base.conj()],
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_share_again_is_refused_with_both_paths(tmp_path: Path, make: Any) -> None:
    one, other = make()
    with pytest.raises(
        UsageError, match=r"a\.one and a\.other share memory, and .*could not share it"
    ) as caught:
        state_of({"a": {"one": one, "other": other}})
    assert "clone()" in caught.value.hint
    slots = Slots(Layout(tmp_path), "run", 0, 1, "0" * 16)
    slots.prepare()
    with pytest.raises(UsageError, match=r"^one\[0\] and other\.x share memory") as caught:
        slots.save(1, {"objects": state_of({"one": [one], "other": {"x": other}})})


# -- parameters in containers
def test_parameters_in_containers_come_back_as_parameters(through: Through) -> None:
    parameter = torch.nn.Parameter
    shared = parameter(torch.ones(2))
    objects = {
        "o": {
            "p": shared,
            "again": shared,
            "shown": shared.detach()[1:],
            "frozen": parameter(torch.ones(3), requires_grad=False),
            "leaf": torch.ones(4, requires_grad=True),
            "plain": torch.ones(5),
            "graph": torch.ones(6, requires_grad=True) * 2,
        }
    }
    back: dict[str, Any] = {}
    put_back({"o": back}, through(objects))
    kinds = {name: (type(one) is parameter, one.requires_grad) for name, one in back.items()}
    assert kinds == {
        "p": (True, True),
        "again": (True, True),
        "shown": (False, False),
        "frozen": (True, False),
        "leaf": (False, True),
        "plain": (False, False),
        "graph": (False, False),
    }
    assert back["p"] is back["again"]
    back["p"].data.fill_(3)
    assert back["shown"].tolist() == [3]


def test_the_models_own_parameter_in_a_container_is_the_new_models(through: Through) -> None:
    model, fresh, back = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), {}  # type: ignore[var-annotated]
    put_back({"m": fresh, "o": back}, through({"m": model, "o": {"w": model.weight}}))
    assert back["w"] is fresh.weight


@pytest.mark.parametrize(
    "live", [torch.zeros(4, requires_grad=True), torch.zeros(3, dtype=torch.double).requires_grad_()]
)
def test_a_leaf_of_another_shape_or_dtype_is_refused_by_name(through: Through, live: Any) -> None:
    state = through({"o": {"deep": [torch.nn.Parameter(torch.ones(3))]}})
    with pytest.raises(
        UsageError, match=r"^o\['deep'\]\[0\]: the checkpoint holds \(3,\) of torch.float32, the trial"
    ):
        put_back({"o": {"deep": [live]}}, state)


def test_a_copy_of_the_best_weights_is_not_put_into_the_model_that_a_new_container_shows(
    through: Through,
) -> None:
    model = torch.nn.Linear(2, 2)
    best = {"weight": torch.full((2, 2), 7.0)}
    fresh = torch.nn.Linear(2, 2)
    shown = {"weight": fresh.weight}
    put_back({"m": fresh, "b": shown}, through({"m": model, "b": best}))
    assert torch.equal(fresh.weight, model.weight)
    assert shown["weight"].tolist() == [[7, 7], [7, 7]]


def test_parts_of_one_memory_are_moved_as_one(monkeypatch: pytest.MonkeyPatch, through: Through) -> None:
    from hpc_search.checkpoint import placing

    monkeypatch.setattr(
        placing, "moved", lambda tensor, device: tensor.clone() if device != "cpu" else tensor
    )
    base = torch.arange(6.0)
    state = through({"o": [base[3:], base, base[:2]]})
    state["o"].append(["cuda:0"] * 3)
    back: list[Any] = []
    put_back({"o": back}, state)
    back[1][:] = 4
    assert (back[0].tolist(), back[2].tolist()) == ([4, 4, 4], [4, 4])
    assert buffers.identity(back[0]) != buffers.identity(back[2])
