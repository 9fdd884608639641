from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hpc_search.checkpoint import file, tree

META = file.Meta(run_id="run", trial=1, attempt=1, worker="0" * 16, step=1)
SETTINGS = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
ARRAYS = hnp.arrays(
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.complex_number_dtypes(),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)
LEAVES = KEYS | st.floats() | st.complex_numbers() | st.binary(max_size=2000) | ARRAYS
STATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=20,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["<f8", "00" * 8, "|O"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["int", "float", "dict", "ordered", "metadata", "counter", "tuple", "set"])
            | st.sampled_from(["frozenset", "bytes", "buffer", "scalar", "complex", "other"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=15,
)


def exact(value: Any) -> Any:
    """Return something that compares equal only where type, order and every bit are equal."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, complex):
        return ("complex", struct.pack("<dd", value.real, value.imag))
    if isinstance(value, dict):
        return ("dict", [(exact(key), exact(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [exact(item) for item in value])
    return (type(value).__name__, value)


@SETTINGS
@given(state=STATES)
def test_every_state_comes_back_exactly(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "one.h5"

    file.write(path, META, state)
    meta, back = file.read(path)

    assert meta == META
    assert exact(back) == exact(state)


@SETTINGS
@given(node=JSON)
def test_any_json_is_a_state_or_a_value_error(tmp_path: Path, node: Any) -> None:
    text = json.dumps({"buffers": [], "tree": node}).encode()

    with suppress(ValueError):
        tree.decode(tree.parse(text), [])


@SETTINGS
@given(row=JSON)
def test_any_row_of_buffers_is_a_spec_or_a_value_error(tmp_path: Path, row: Any) -> None:
    with suppress(ValueError):
        tree.parse(json.dumps({"buffers": [row], "tree": None}).encode())
