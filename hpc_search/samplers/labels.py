"""What samplers know items by: their series, their bins."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from hpc_search.errors import UsageError

Codes = np.ndarray[Any, np.dtype[np.int64]]


def coded(labels: Iterable[Any], kind: str) -> tuple[Codes, list[Hashable]]:
    """Return the number of each label, by first appearance, and the labels by number.

    The numbers depend on the labels and their order alone, not on how they hash.

    Raises:
        UsageError: There is none, or one is missing or cannot be compared.
    """
    # The elements of a tensor are told apart by where they are, not by what they are.
    whole = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    numbers: dict[Hashable, int] = {}
    try:
        codes = [numbers.setdefault(label, len(numbers)) for label in whole]
    except TypeError as error:
        raise UsageError(
            f"a {kind} cannot be told from others: {error}", hint=f"give one {kind} an item"
        ) from None
    missing = [at for at, label in enumerate(whole) if label is None or label != label]  # noqa: PLR0124 - NaN
    if not codes or missing:
        found = (
            f"{len(missing)} items have no {kind}, the first at {missing[0]}"
            if missing
            else "there is no item"
        )
        raise UsageError(found, hint=f"give the {kind} of every item, in the order of the dataset")
    return np.array(codes, np.int64), list(numbers)


def digest(codes: Codes) -> str:
    """Return what the *codes* are known by in a state."""
    return hashlib.blake2b(codes.tobytes(), digest_size=8).hexdigest()
