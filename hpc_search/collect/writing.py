"""Which files the results have, and their writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hpc_search import durable
from hpc_search.collect import documents, final
from hpc_search.collect.columns import Column, csv_text
from hpc_search.collect.documents import View
from hpc_search.collect.folds import fold_columns
from hpc_search.collect.parquet import parquet_bytes
from hpc_search.collect.reading import Attempts
from hpc_search.collect.selection import Judgement
from hpc_search.collect.verdicts import read_verdicts, verdict_columns
from hpc_search.layout import Layout
from hpc_search.records.splits import SplitsIndex


class Files(NamedTuple):
    """The files of the results, notes on what is missing, and what the test side gave in words."""

    contents: dict[str, bytes]
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
    layout.results.mkdir(mode=0o700, exist_ok=True)
    columns = documents.result_columns(whole.found)
    judged = {one.name: one.judged for one in views or (whole,)}
    contents = _contents(whole, columns, judged, splits)
    contents["attempts.csv"] = csv_text(documents.attempt_columns(attempts))
    if views:
        # The best of points that are not measured by the same.
        del contents["top_k.json"], contents["selection.json"]
        contents["best_hyperparams.json"] = documents.best_of_searches(whole.found, views)
    for one in views:
        layout.result(one.name).mkdir(mode=0o700, exist_ok=True)
        of_search = _contents(one, documents.result_columns(one.found), judged, splits)
        contents |= {f"{one.name}/{file}": content for file, content in of_search.items()}
    if any(block.pruning or block.racing for block in whole.found.plan.blocks):
        contents["verdicts.csv"] = csv_text(verdict_columns(read_verdicts(layout)))
    looks, notes = final.read_looks(layout, whole.found.plan)
    if looks:
        contents[final.NAME] = final.final_results(whole.found.plan, looks)
    try:
        contents["results.parquet"] = parquet_bytes(columns)
    except ImportError as error:
        notes.append(f"results.parquet was not written: {error}; `pip install pyarrow`")
    for name, content in contents.items():
        durable.replace(layout.result(name), content)
    return Files(contents, notes, final.words(looks))


def _contents(
    view: View, columns: Sequence[Column], judged: Mapping[str, Judgement], splits: SplitsIndex | None
) -> dict[str, bytes]:
    """Return the files of one search."""
    found = view.found
    contents = {
        "results.csv": csv_text(columns),
        "search_results.json": documents.search_results(found),
        "summary.csv": csv_text(documents.summary_columns(found)),
        "top_k.json": documents.top_k(*view),
        "best_hyperparams.json": documents.best_hyperparams(*view),
        "selection.json": documents.selection(*view),
    }
    if rows := fold_columns(found, splits, judged):
        contents["folds.csv"] = csv_text(rows)
    if found.fronts.objectives:
        contents["pareto_front.json"] = documents.pareto_front(found)
    return contents
