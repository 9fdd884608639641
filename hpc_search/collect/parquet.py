"""The Parquet form of a table; the only importer of pyarrow."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from hpc_search.collect.columns import ABSENT, Absent, Column, json_text

#: Integers beyond this are not exact as floats.
_EXACT: Final = 2**53
_INT64: Final = 2**63


def parquet_bytes(columns: Sequence[Column]) -> bytes:
    """Return the Parquet file of *columns*; mixed columns are JSON text, absent and null are null.

    Raises:
        ImportError: pyarrow is not installed.
    """
    import pyarrow as pa
    from pyarrow import parquet

    names = [column.name for column in columns]
    table = pa.Table.from_arrays([_column(pa, column) for column in columns], names=names)
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return bytes(sink.getvalue())


def kind_of(values: Sequence[Any]) -> str:
    """Return the common type of *values* ("int", "float", "str", "bool"), "" where JSON has to serve."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {bool}:
        return "bool"
    integers = [value for value in values if type(value) is int] if int in kinds else [0]
    if kinds == {int}:
        return "int" if -_INT64 <= min(integers) <= max(integers) < _INT64 else ""
    if kinds and kinds <= {int, float}:
        return "float" if -_EXACT <= min(integers) <= max(integers) <= _EXACT else ""
    return "str" if kinds <= {str} else ""


def _column(pa: Any, column: Column) -> Any:
    values = column.values
    if Absent in set(map(type, values)):
        values = [None if value is ABSENT else value for value in values]
    kind = column.kind or kind_of(values)
    if not kind:
        values = [None if value is None else json_text(value) for value in values]
    return _array(pa, kind or "str", values, column.pick)


def _array(pa: Any, kind: str, values: Sequence[Any], pick: Sequence[int] | None) -> Any:
    """Return the Arrow array of *values*, or of those at the places *pick*, made from its buffers.

    ``pa.array`` would import pandas to see whether it was given some, and ``take`` all that Arrow can
    compute: 0.4 s and 0.1 s.
    """
    import numpy as np

    def picked(made: Any) -> Any:
        return made if pick is None else made.take(pick)

    valid = None
    if None in values:
        valid = picked(np.array([value is not None for value in values], dtype=np.bool_))
        nothing = "" if kind == "str" else 0
        values = [nothing if value is None else value for value in values]
    buffers = [None if valid is None or valid.all() else _bits(pa, valid)]
    count = len(values if pick is None else pick)
    if kind == "str":
        texts = values if pick is None else list(map(values.__getitem__, pick))
        joined = "".join(texts)
        lengths = map(len, texts if joined.isascii() else map(str.encode, texts))
        offsets = array("q", accumulate(lengths, initial=0))
        buffers += [pa.py_buffer(offsets), pa.py_buffer(joined.encode())]
    elif kind == "bool":
        buffers.append(_bits(pa, picked(np.array(values, dtype=np.bool_))))
    else:
        buffers.append(pa.py_buffer(picked(np.array(array("q" if kind == "int" else "d", values)))))
    types = {"int": pa.int64(), "float": pa.float64(), "str": pa.large_string(), "bool": pa.bool_()}
    return pa.Array.from_buffers(types[kind], count, buffers)


def _bits(pa: Any, flags: Any) -> Any:
    """Return *flags* as a bitmap, least significant bit first."""
    import numpy as np

    return pa.py_buffer(np.packbits(flags, bitorder="little"))
