"""A torch MLP on the UCI digits: 1,797 images of 8 x 8 pixels, in scikit-learn's package.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hpc_search.trial import Trial


def table() -> dict[str, list[int]]:
    """Return the ids (row numbers) and labels (digits) that the folds are made from."""
    labels = load_digits().target
    return {"id": list(range(len(labels))), "label": labels.tolist()}


@cache
def images() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, float32 (1797, 64) from 0 to 1, and the digits, int64 (1797,)."""
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int64)


def rows(ids: tuple[str | int, ...]) -> tuple[Tensor, Tensor]:
    """Return the images and digits of *ids* as tensors."""
    pixels, digits = images()
    index = np.asarray(ids, dtype=np.int64)
    return torch.from_numpy(pixels[index]), torch.from_numpy(digits[index])


def network(trial: Trial) -> nn.Module:
    """Return the network of the trial's width, untrained, on its device."""
    width = trial.params["width"]
    layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))
    return layers.to(trial.device)


def train(trial: Trial) -> dict[str, float]:
    """Train on the fold's training images; return accuracy and loss on its validation images, if any."""
    params = trial.params
    x, y = (part.to(trial.device) for part in rows(trial.split.train))
    x_val, y_val = (part.to(trial.device) for part in rows(trial.split.val))
    model = network(trial)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=params["learning_rate"], weight_decay=params["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, params["epochs"])
    metrics = {"val_acc": 0.0, "val_loss": 0.0} if len(x_val) else {}
    start = trial.restore(model=model, optimizer=optimizer, schedule=schedule, metrics=metrics)
    for epoch in range(start, params["epochs"]):
        _epoch(model, optimizer, x, y, params["batch_size"])
        schedule.step()
        if len(x_val):
            metrics |= _scores(model, x_val, y_val)
        trial.report(epoch, **metrics)
        trial.save(epoch + 1, model=model, optimizer=optimizer, schedule=schedule, metrics=metrics)
    return metrics


def evaluate(trial: Trial) -> dict[str, float]:
    """Return accuracy and loss on the test images of what `refit` trained, and which of them it got right."""
    x, y = (part.to(trial.device) for part in rows(trial.split.test))
    model = network(trial)
    trial.restore(model=model)
    trial.report_samples(trial.split.test, _right(model, x, y))
    found = _scores(model, x, y)
    return {"val_acc": found["val_acc"], "loss": found["val_loss"]}


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    model.eval()
    right: list[float] = (model(x).argmax(1) == y).float().tolist()
    return right


def _epoch(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, batch: int) -> None:
    model.train()
    for index in torch.split(torch.randperm(len(x)), batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[index]), y[index])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def _scores(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    model.eval()
    scores = model(x)
    loss = nn.functional.cross_entropy(scores, y).item()
    return {"val_acc": (scores.argmax(1) == y).float().mean().item(), "val_loss": loss}
