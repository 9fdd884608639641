"""Where loaded state goes: the same tensors, on the same devices, spawned generators, gradients, settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import Gradients, Slots, differences, placing, put_back, settings, state_of
from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from tests.unit.test_checkpoint_objects import Through, same, stepped, through
from tests.unit.test_trial import Line, make, root

torch = pytest.importorskip("torch")

__all__ = ["root", "through"]


# -- tensors in containers
def test_a_container_that_held_the_models_own_tensors_holds_those_of_the_new_model(through: Through) -> None:
    def build() -> dict[str, Any]:
        model = torch.nn.Linear(2, 2)
        return {"best": dict(model.state_dict()), "model": model, "pair": (model.weight.detach(), 1)}

    objects, fresh = build(), build()
    # What is kept without a copy goes on changing with the model; so it must after a resume.
    values = put_back(fresh, through(objects))
    with torch.no_grad():
        fresh["model"].weight.fill_(5)
    assert fresh["best"]["weight"].tolist() == [[5, 5], [5, 5]]
    assert values["pair"][0].tolist() == [[5, 5], [5, 5]]
    assert torch.equal(fresh["best"]["bias"], objects["best"]["bias"])


def test_a_copy_of_the_models_tensors_stays_one_although_the_new_container_holds_the_models(
    through: Through,
) -> None:
    model = torch.nn.Linear(2, 2)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    stepped(torch.optim.SGD(model.parameters(), lr=1.0))
    fresh_model = torch.nn.Linear(2, 2)
    fresh_best = dict(fresh_model.state_dict())
    put_back({"m": fresh_model, "b": fresh_best}, through({"m": model, "b": best}))
    assert same(dict(fresh_model.state_dict()), dict(model.state_dict()))
    assert same(fresh_best, best)
    assert not same(fresh_best, dict(fresh_model.state_dict()))


def test_leaves_that_an_optimizer_holds_are_filled_in_place(through: Through) -> None:
    def build() -> tuple[dict[str, Any], Any]:
        weights = {
            "w": torch.zeros(2, requires_grad=True),
            "deep": [{"b": torch.zeros(1, requires_grad=True)}],
        }
        return weights, torch.optim.SGD([weights["w"], weights["deep"][0]["b"]], lr=0.1, momentum=0.9)

    weights, optimizer = build()
    stepped(optimizer)
    fresh, fresh_optimizer = build()
    held = fresh["w"], fresh["deep"][0]["b"]
    put_back({"w": fresh, "o": fresh_optimizer}, through({"w": weights, "o": optimizer}))
    assert (fresh["w"], fresh["deep"][0]["b"]) == held
    assert fresh["w"].requires_grad
    assert torch.equal(fresh["w"], weights["w"])
    assert torch.equal(fresh["deep"][0]["b"], weights["deep"][0]["b"])


def test_what_the_trial_only_looks_at_is_not_changed_by_a_restore(through: Through) -> None:
    data = torch.arange(4.0)
    state = {"prototypes": data[:2] * 3, "more": [data * 2]}
    fresh = {"prototypes": data[:2], "more": [data]}
    put_back({"s": fresh}, through({"s": state}))
    assert data.tolist() == [0, 1, 2, 3]
    assert fresh["prototypes"].tolist() == [0, 3]


def test_tensors_of_containers_come_back_on_their_device_where_it_is_visible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moves = []

    def moved(tensor: Any, device: str) -> Any:
        moves.append(device)
        return tensor

    monkeypatch.setattr(placing, "moved", moved)
    objects = {"d": {"a": torch.ones(1), "b": [torch.ones(2), (torch.ones(3),)]}, "v": (torch.ones(4),)}
    state = state_of(objects)
    assert [len(row) for row in state.values()] == [2, 2]
    state["d"].append(["cuda:0", "cpu", "cuda:1"])
    state["v"].append(["cuda:0"])
    put_back({"d": {}, "v": None}, state)
    assert moves == ["cuda:0", "cpu", "cuda:1", "cuda:0"]


@pytest.mark.parametrize(
    ("device", "visible", "where"),
    [("cpu", 1, "cpu"), ("cuda:0", 0, "cpu"), ("cuda:0", 1, "cuda:0"), ("cuda:3", 1, "cuda:0")],
)
def test_a_device_that_is_not_visible_any_more_is_replaced(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: int, where: str
) -> None:
    class Tensor:
        device = "cpu"

        def to(self, device: str) -> Tensor:
            self.device = device
            return self

    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert placing.moved(Tensor(), device).device == where


# -- optimizers, gradients
@pytest.mark.parametrize(
    "make_one",
    [
        lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
        lambda p: torch.optim.Adam(p, lr=0.1, maximize=True, decoupled_weight_decay=True),
        lambda p: torch.optim.RAdam(p, lr=0.1),
        lambda p: torch.optim.Adafactor(p, lr=0.1),
    ],
)
def test_flags_of_an_optimizer_come_back_with_its_state(through: Through, make_one: Any) -> None:
    optimizer = stepped(make_one(list(torch.nn.Linear(3, 2).parameters())))
    before = copy.deepcopy(optimizer.state_dict())
    fresh = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters())
    if type(optimizer) is not torch.optim.AdamW:
        fresh = make_one(list(torch.nn.Linear(3, 2).parameters()))
    put_back({"o": fresh}, through({"o": optimizer}))
    assert same(before, fresh.state_dict())


def test_an_optimizer_with_lists_of_tensors_goes_on_bit_identically(through: Through) -> None:
    def build() -> tuple[Any, Any]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        return model, torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3, history_size=4)

    def step(model: Any, optimizer: Any) -> None:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = model(torch.eye(3)).pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    model, optimizer = build()
    fresh, fresh_optimizer = build()
    step(model, optimizer)
    put_back({"m": fresh, "o": fresh_optimizer}, through({"m": model, "o": optimizer}))
    for _ in range(3):
        step(model, optimizer)
        step(fresh, fresh_optimizer)
    assert same(dict(model.state_dict()), dict(fresh.state_dict()))


def test_gradients_between_two_micro_batches_come_back(through: Through) -> None:
    model, fresh = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    model(torch.ones(1, 3)).sum().backward()
    model.bias.grad = None
    fresh.bias.grad = torch.ones(2)
    put_back({"m": fresh, "g": Gradients(fresh)}, through({"m": model, "g": Gradients(model)}))
    assert torch.equal(fresh.weight.grad, model.weight.grad)
    assert fresh.bias.grad is None
    with pytest.raises(UsageError, match=r"gradients of 0\.weight"):
        Gradients(fresh).load_state_dict({"0.weight": torch.ones(1)})


# -- numpy's generators
@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_keep_what_they_spawn_next(through: Through, kind: str) -> None:
    bits = getattr(np.random, kind)
    generator, fresh = np.random.Generator(bits(1)), np.random.Generator(bits(2))
    generator.spawn(3)
    generator.normal()
    put_back({"g": fresh}, through({"g": generator}))
    assert fresh.normal() == generator.normal()
    ours, theirs = generator.spawn(2), fresh.spawn(2)
    assert [one.normal() for one in ours] == [one.normal() for one in theirs]


def test_bit_generators_and_seed_sequences_go_on_where_they_stopped(through: Through) -> None:
    bits, seeds = np.random.PCG64(1), np.random.SeedSequence(5)
    bits.random_raw(3)
    seeds.spawn(2)
    fresh, fresh_seeds = np.random.PCG64(2), np.random.SeedSequence(5)
    put_back({"b": fresh, "s": fresh_seeds}, through({"b": bits, "s": seeds}))
    assert fresh.random_raw() == bits.random_raw()
    assert fresh_seeds.spawn(1)[0].generate_state(2).tolist() == seeds.spawn(1)[0].generate_state(2).tolist()
    with pytest.raises(UsageError, match="seed sequence cannot change in place"):
        put_back({"s": np.random.SeedSequence(6)}, state_of({"s": seeds}))
    with pytest.raises(UsageError, match="holds a PCG64, the trial gives a MT19937"):
        put_back({"b": np.random.MT19937(1)}, state_of({"b": bits}))


# -- settings, versions, samples
def test_settings_that_decide_about_bits_come_back() -> None:
    before = settings.capture()
    try:
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.set_float32_matmul_precision("high")
        changed = settings.capture()
        settings.restore(before)
        assert settings.capture() == before
        settings.restore(changed)
        assert torch.get_default_dtype() == torch.float64
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        settings.restore(before)
    assert settings.capture() == before


def test_other_versions_and_threads_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(Layout(tmp_path), "run", 0, 1, "0" * 16)
    slots.prepare()
    slots.save(1, {"settings": settings.capture()})
    loaded = slots.newest()
    assert loaded is not None
    assert differences(loaded) == []
    loaded.meta.versions["torch"] = "1.0"
    loaded.state["settings"]["threads"] = 77
    told = differences(loaded)
    assert told[0].startswith("torch 1.0 when saved, 2.")
    assert told[1].startswith("77 threads when saved, ")


def test_samples_and_reports_that_no_later_attempt_makes_again_are_told_again(root: Path) -> None:
    first = make(root, Line(), save_interval=0.0)
    for step in range(3):
        first.report(step, acc=step / 8)
    first.report_samples(["a", 2], [0.5, 0.25])
    first.save(3, state={})
    line = Line()
    make(root, line, attempt=2).restore(state={})
    assert line.kinds() == ["restored", "report", "report", "report", "samples"]
    assert line.sent[-1][1] == {"ids": ["a", 2], "scores": [0.5, 0.25]}
    # The next save keeps them, too.
    second = make(root, Line(), attempt=2, save_interval=0.0)
    second.restore(state={})
    second.save(4, state={})
    third = Line()
    make(root, third, attempt=3).restore(state={})
    assert third.sent[-1][0] == "samples"
