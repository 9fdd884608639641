"""A training that uses every kind of state; run as a program, so that each part is a process of its own.

    python checkpoint_training.py DIRECTORY FIRST LAST

trains from step FIRST (restored unless 0) up to LAST, saves, and prints a digest of everything.
"""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpc_search.checkpoint import Slots, capture, put_back, restore, state_of
from hpc_search.layout import Layout

STEPS = 24
BATCH = 8


def build() -> dict[str, Any]:
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 12),
        torch.nn.BatchNorm1d(12),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(12, 3),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return {
        "model": model,
        "optimizer": optimizer,
        "schedule": torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=STEPS + 1),
        "averaged": torch.optim.swa_utils.AveragedModel(model),
        "scaler": torch.amp.GradScaler("cpu"),
        "shuffle": torch.Generator().manual_seed(5),
        "noise": np.random.default_rng(6),
        "order": [],
        "history": {},
    }


def train_step(step: int, objects: dict[str, Any], data: torch.Tensor, labels: torch.Tensor) -> None:
    order = objects["order"]
    if len(order) < BATCH:
        order[:] = torch.randperm(len(data), generator=objects["shuffle"]).tolist()
    batch, order[:] = order[:BATCH], order[BATCH:]
    inputs = data[batch] + 0.01 * torch.from_numpy(objects["noise"].normal(size=(BATCH, 6))).float()
    inputs = inputs * (1 + 0.01 * random.random()) + 0.01 * float(np.random.rand())  # noqa: NPY002
    objects["optimizer"].zero_grad()
    loss = torch.nn.functional.cross_entropy(objects["model"](inputs), labels[batch])
    objects["scaler"].scale(loss).backward()
    objects["scaler"].step(objects["optimizer"])
    objects["scaler"].update()
    objects["schedule"].step()
    objects["averaged"].update_parameters(objects["model"])
    objects["history"][step] = loss.item()


def digest(objects: dict[str, Any]) -> str:
    text = repr(
        (objects["history"], objects["order"], objects["schedule"].state_dict(), torch.rand(3).tolist())
    )
    text += repr((random.random(), np.random.rand(), objects["noise"].normal()))  # noqa: NPY002
    found = hashlib.sha256(text.encode())
    states = [objects["model"].state_dict(), objects["averaged"].state_dict()]
    states += objects["optimizer"].state_dict()["state"].values()
    for state in states:
        for name, tensor in state.items():
            found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def main(directory: str, first: int, last: int) -> None:
    torch.set_num_threads(1)
    data = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(40) % 3
    slots = Slots(Layout(Path(directory)), "run", 0, 1 + first, "0" * 16)
    slots.prepare()
    # A process that goes on must not depend on its own seeds: only step 0 gets the right ones.
    seed = 1 if first == 0 else 999
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    objects = build()
    if first:
        loaded = slots.newest()
        assert loaded is not None
        assert loaded.step == first
        put_back(objects, loaded.state["objects"])
        restore(loaded.state["generators"])
    for step in range(first, last):
        train_step(step, objects, data, labels)
    slots.save(last, {"objects": state_of(objects), "generators": capture()})
    print(digest(objects))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
