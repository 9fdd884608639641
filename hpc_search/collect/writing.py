"""Which files the results have, and their writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from hpc_search import durable
from hpc_search.collect import documents, final
from hpc_search.collect.columns import Column, csv_text
from hpc_search.collect.documents import View
from hpc_search.collect.folds import fold_columns
from hpc_search.collect.parquet import parquet_bytes
from hpc_search.collect.reading import Attempts
from hpc_search.collect.selection import Judgement
from hpc_search.layout import Layout
from hpc_search.planning.digests import digest
from hpc_search.records.splits import SplitsIndex


class Logs(NamedTuple):
    """RUN-relative path -> content of audit.log and the folds' logs, and how far they go."""

    contents: dict[str, bytes]
    heads: dict[str, int]


class Files(NamedTuple):
    """The digests of the results by name, notes on what is missing, and what the test side gave in words."""

    digests: dict[str, str]
    notes: list[str]
    tested: list[str]


def write_results(
    layout: Layout, attempts: Attempts, whole: View, views: Sequence[View], splits: SplitsIndex | None
) -> Files:
    """Write RUN/results.

    Args:
        layout: The run.
        attempts: All that ended.
        whole: What there is of all searches together.
        views: The same of each search, where there are several.
        splits: How the data were split.
    """
    for name in ("", *[one.name for one in views]):
        layout.result(name).mkdir(mode=0o700, exist_ok=True)
    looks, notes = final.read_looks(layout, whole.found.plan)
    columns = documents.result_columns(whole.found)
    judged = {one.name: one.judged for one in views or (whole,)}

    def contents() -> Iterator[tuple[str, bytes]]:
        yield from _contents(whole, columns, judged, splits, views)
        yield "attempts.csv", csv_text(documents.attempt_columns(attempts))
        for one in views:
            of_search = _contents(one, documents.result_columns(one.found), judged, splits)
            yield from ((f"{one.name}/{file}", content) for file, content in of_search)
        if any(block.pruning or block.racing for block in whole.found.plan.blocks):
            from hpc_search.collect.verdicts import read_verdicts, verdict_columns

            yield "verdicts.csv", csv_text(verdict_columns(read_verdicts(layout)))
        if looks:
            yield final.NAME, final.final_results(whole.found.plan, looks)
        try:
            yield "results.parquet", parquet_bytes(columns)
        except ImportError as error:
            notes.append(f"results.parquet was not written: {error}; `pip install pyarrow`")

    # The disk and the digests need nothing of this thread: the next file is made meanwhile.
    with ThreadPoolExecutor(1) as pool:
        put = {name: pool.submit(_put, layout.result(name), content) for name, content in contents()}
    return Files({name: done.result() for name, done in put.items()}, notes, final.words(looks))


def _put(path: Path, content: bytes) -> str:
    durable.replace(path, content)
    return digest(content)


def _contents(
    view: View,
    columns: Sequence[Column],
    judged: Mapping[str, Judgement],
    splits: SplitsIndex | None,
    views: Sequence[View] = (),
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of one search, or of all *views* together."""
    found = view.found
    yield "results.csv", csv_text(columns)
    yield "search_results.json", documents.search_results(found)
    yield "summary.csv", csv_text(documents.summary_columns(found))
    if views:
        # There is no best of points that are not measured by the same.
        yield "best_hyperparams.json", documents.best_of_searches(found, views)
    else:
        yield "top_k.json", documents.top_k(*view)
        yield "best_hyperparams.json", documents.best_hyperparams(*view)
        yield "selection.json", documents.selection(*view)
    if rows := fold_columns(found, splits, judged):
        yield "folds.csv", csv_text(rows)
    if found.fronts.objectives:
        yield "pareto_front.json", documents.pareto_front(found)
