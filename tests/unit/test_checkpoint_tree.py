from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import buffers, tree
from hpc_search.errors import UsageError

torch = pytest.importorskip("torch")


def through(state: Any) -> Any:
    encoded = tree.encode(state)
    structure = tree.parse(encoded.text)
    values = []
    for spec, source in zip(structure.specs, encoded.sources, strict=True):
        value, view = buffers.allocate(spec)
        if view:
            view[:] = source.view()
        values.append(value)
    return tree.decode(structure, values)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**53),
        2**53 + 1,
        pytest.param(-(10**6000), id="6000 digits"),
        pytest.param({10**6000: 1}, id="a key of 6000 digits"),
        "",
        "\ud800 lone",
        b"",
        b"x" * 5000,
        (),
        (1, (2,), [3, {"a": (None,)}]),
        {1: "int", "1": "str", None: 0, False: 2, (1, 2): 3},
        OrderedDict([("b", 1), ("a", 2)]),
        Counter({3: 2, 5: 1}),
        {1, 2, "x"},
        frozenset({(1, 2), None}),
        {"dict": [], "tuple": 1, "buffer": [0]},
        float("inf"),
        complex(-0.0, float("inf")),
    ],
)
def test_plain_values_come_back_equal_and_of_the_same_type(value: Any) -> None:
    back = through(value)

    assert value == back
    assert type(value) is type(back)


@pytest.mark.parametrize("bits", [0x7FF8000000000001, 0xFFF8DEADBEEF0000, 0x8000000000000000, 1])
def test_floats_keep_every_bit_of_nan_minus_zero_and_denormals(bits: int) -> None:
    value = struct.unpack(">d", bits.to_bytes(8, "big"))[0]

    assert struct.pack(">d", through(value)) == bits.to_bytes(8, "big")


def test_order_of_a_dict_is_kept() -> None:
    assert list(through({"b": 1, "a": 2, 3: 4})) == ["b", "a", 3]


ARRAYS = ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", "g", "F", "D", "G", "M8[ns]", "m8[s]"]


@pytest.mark.parametrize("dtype", [*ARRAYS, ">f8", ">i2", "<U3", "S4"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_numpy_arrays_keep_dtype_shape_and_bytes(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(int(np.prod(shape))) % 2).astype("i8").reshape(shape).astype(dtype)

    back = through(array)

    assert (array.dtype, array.shape, array.tobytes()) == (back.dtype, back.shape, back.tobytes())
    assert type(back) is np.ndarray
    assert back.flags.writeable


@pytest.mark.parametrize(
    "scalar",
    [
        np.float16(1.5),
        np.float64("nan"),
        np.bool_(True),
        np.uint64(2**64 - 1),
        np.complex64(1j),
        np.str_("ä\0b"),
        np.str_(""),
        np.bytes_(b"a\0"),
        np.datetime64("2026-01-02", "D"),
        np.longdouble(1) / 3,
    ],
)
def test_numpy_scalars_keep_dtype_and_bytes(scalar: Any) -> None:
    back = through(scalar)

    assert type(scalar) is type(back)
    assert scalar.dtype == back.dtype
    assert scalar.tobytes() == back.tobytes()


def tensor_dtypes() -> list[Any]:
    refused = ("q", "bits", "complex32")
    return [dtype for name, dtype in sorted(buffers.torch_dtypes().items()) if not name.startswith(refused)]


@pytest.mark.parametrize("dtype", tensor_dtypes(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3, 5)])
def test_tensors_of_every_dtype_keep_their_bytes(dtype: Any, shape: tuple[int, ...]) -> None:
    tensor = torch.empty(shape, dtype=dtype)
    data = np.random.default_rng(0).integers(0, 2, tensor.nbytes, dtype=np.uint8)
    if tensor.nbytes:
        buffers.tensor_memory(tensor)[:] = memoryview(data)

    back = through(tensor)

    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    if tensor.nbytes:
        assert bytes(buffers.tensor_memory(back)) == data.tobytes()


def test_a_parameter_comes_back_as_a_plain_tensor() -> None:
    back = through(torch.nn.Parameter(torch.ones(2)))

    assert type(back) is torch.Tensor
    assert not back.requires_grad


def test_memory_layout_of_dense_tensors_and_arrays_is_kept() -> None:
    image = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))

    back = through({"image": image, "fortran": fortran, "turned": image.permute(3, 1, 0, 2)})

    assert torch.equal(back["image"], image)
    assert back["image"].stride() == image.stride()
    assert torch.equal(back["turned"], image.permute(3, 1, 0, 2))
    assert back["fortran"].flags.f_contiguous
    np.testing.assert_array_equal(fortran, back["fortran"])


def test_views_with_gaps_are_saved_as_what_they_show() -> None:
    base = torch.arange(20.0).reshape(4, 5)
    array = np.arange(20.0).reshape(4, 5)

    views = [base[:, ::2], base.new_ones(1).expand(3), torch.tensor([1 + 2j]).conj()]
    back = through({"views": views, "array": array[::-1, ::2]})

    for expected, found in zip(views, back["views"], strict=True):
        assert torch.equal(expected, found)
    np.testing.assert_array_equal(array[::-1, ::2], back["array"])


def test_tied_tensors_are_saved_once_and_come_back_as_one() -> None:
    model = torch.nn.Linear(3, 3)
    state = {"a": model.state_dict()["weight"], "b": model.state_dict()["weight"], "c": model.weight.t()}
    state["d"] = state["c"]
    array = np.arange(3)

    encoded = tree.encode(state)
    back = through({**state, "x": array, "y": array})

    assert len(encoded.sources) == 1
    assert back["a"] is back["b"]
    assert back["c"] is back["d"]
    back["a"][0, 1] = 7
    assert back["c"][1, 0] == 7
    assert back["x"] is back["y"]


def test_nothing_contiguous_is_copied() -> None:
    tensor, array = torch.ones(4), np.ones(4)

    encoded = tree.encode([tensor, array, torch.ones(3, 4).t()])
    tensor += 1
    array += 1

    assert bytes(encoded.sources[0].view()) == tensor.numpy().tobytes()
    assert bytes(encoded.sources[1].view()) == array.tobytes()


def test_metadata_of_a_modules_state_is_kept() -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()

    assert through(state)._metadata == state._metadata


class Custom:
    pass


@pytest.mark.parametrize(
    "value",
    [
        Custom(),
        Custom,
        test_a_parameter_comes_back_as_a_plain_tensor,
        defaultdict(list),
        bytearray(b"x"),
        torch.float32,
        torch.device("cpu"),
        torch.Size([1]),
        torch.ones(2).to_sparse(),
        torch.nn.utils.rnn.pack_sequence([torch.ones(2)]),
        torch.ones(2, device="meta"),
        np.array([object()]),
        np.zeros(2, [("a", "i4")]),
        np.ma.zeros(2),
        np.void(b"abc"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_saved_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^optimizer\.state\[3\]\.foo: ") as caught:
        tree.encode({"state": {3: {"foo": value}}}, "optimizer")

    assert caught.value.message


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2, 2).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
    ],
    ids=["compressed", "quantized", "nested", "jagged"],
)
def test_tensors_that_are_not_plain_and_dense_are_refused_with_their_path(make: Any) -> None:
    with pytest.raises(UsageError, match=r"^m\.x: only plain dense tensors"):
        tree.encode({"x": make()}, "m")


def test_more_text_than_is_ever_parsed_is_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    text = tree.encode(list(range(1000))).text
    monkeypatch.setattr(tree, "MOST_TEXT", 1000)
    with pytest.raises(UsageError, match="at most 1000 can be saved"):
        tree.encode(list(range(1000)))
    with pytest.raises(ValueError, match="at most 1000 are parsed"):
        tree.parse(text)


def test_large_bytes_that_are_referred_to_often_are_made_once() -> None:
    structure = tree.parse(b'{"buffers":[["bytes","uint8",[2000]]],"tree":[{"buffer":[0]},{"buffer":[0]}]}')
    first, second = tree.decode(structure, [bytearray(2000)])
    assert first is second
    assert first == bytes(2000)


def test_a_private_copy_no_longer_changes_with_its_objects() -> None:
    tensor, array, blob = torch.zeros(3, 4).t(), np.zeros(50)[::2], b"x" * 2000
    private = tree.encode([tensor, array, blob, torch.zeros(0)]).private()
    tensor.fill_(1)
    array[:] = 1
    assert [bytes(source.view()) for source in private.sources] == [bytes(48), bytes(200), blob, b""]


def test_a_state_that_contains_itself_is_refused() -> None:
    state: list[Any] = []
    state.append(state)

    with pytest.raises(UsageError, match="contains itself"):
        tree.encode(state)


def test_the_deepest_state_that_can_be_saved_can_be_loaded() -> None:
    state: Any = (1,)
    for _ in range(tree.MOST_LEVELS - 1):
        state = {"k": state}

    assert through(state) == state


BAD = [
    b"",
    b"[]",
    b'{"buffers":[],"tree":NaN}',
    b'{"buffers":[],"tree":1.5}',
    b'{"buffers":{},"tree":1}',
    b'{"buffers":[["array","|O",[1]]],"tree":1}',
    b'{"buffers":[["array","O",[1]]],"tree":1}',
    b'{"buffers":[["array","<f8, <f8",[1]]],"tree":1}',
    b'{"buffers":[["array","<f3",[1]]],"tree":1}',
    b'{"buffers":[["tensor","Tensor",[1]]],"tree":1}',
    b'{"buffers":[["tensor","qint8",[1]]],"tree":1}',
    b'{"buffers":[["tensor","float32",[-1]]],"tree":1}',
    b'{"buffers":[["tensor","float32",[true]]],"tree":1}',
    b'{"buffers":[["bytes","uint8",[1,1]]],"tree":1}',
    b'{"buffers":[["pickle","uint8",[1]]],"tree":1}',
    b'{"buffers":[],"tree":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"buffers":[],"tree":' + b"9" * 5000 + b"}",
    b'{"buffers":[],"tree":{"buffer":[0]}}',
    b'{"buffers":[],"tree":{"buffer":[-1]}}',
    b'{"buffers":[],"tree":{"buffer":[]}}',
    b'{"buffers":[],"tree":{"float":"00"}}',
    b'{"buffers":[],"tree":{"int":1}}',
    b'{"buffers":[],"tree":{"bytes":"???"}}',
    b'{"buffers":[],"tree":{"dict":[[[],1]]}}',
    b'{"buffers":[],"tree":{"dict":[[1]]}}',
    b'{"buffers":[],"tree":{"set":[{"dict":[]}]}}',
    b'{"buffers":[],"tree":{"scalar":["|O","00"]}}',
    b'{"buffers":[],"tree":{"scalar":["<f8","00"]}}',
    b'{"buffers":[],"tree":{"unknown":1}}',
    b'{"buffers":[],"tree":{"dict":[],"metadata":1}}',
    b'{"buffers":[],"tree":{}}',
]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:60].decode())
def test_a_structure_that_was_never_encoded_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        tree.decode(tree.parse(text), [])
