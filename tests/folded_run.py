"""A run by hand whose data are split: manifests below splits/, and scores of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hpc_search.ledger.samples import append_scores
from hpc_search.planning import digest
from hpc_search.records.plan import Block, encode_plan
from hpc_search.records.search import DataSpec, FoldsSpec
from hpc_search.records.splits import DataRecord, FoldRecord, Manifest, SplitsIndex
from hpc_search.splits import Table, manifest_csv
from tests.run_builder import RunBuilder, worker_id


class FoldedRun(RunBuilder):
    """*rows* samples "s0", "s1", ...; fold f validates on every *folds*-th one from f, and has no test side.

    With *outer* the folds belong to as many outer folds, in order.
    """

    def __init__(
        self,
        root: Path,
        points: int,
        folds: int,
        rows: int = 20,
        *,
        groups: int = 0,
        outer: int = 0,
        **more: Any,
    ) -> None:
        super().__init__(root, points=points, folds=folds, **more)
        self.ids = [f"s{row}" for row in range(rows)]
        of = [f"g{row % groups}" for row in range(rows)] if groups else None
        table = Table.of(self.ids, groups=of)
        files: dict[str, Manifest] = {}
        records = []
        for fold in range(folds):
            val = range(fold, rows, folds)
            sides = {"train": [row for row in range(rows) if row not in val], "val": val}
            paths = {}
            for side, chosen in sides.items():
                path = self.layout.split_manifest(fold, side)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(manifest_csv(table, list(chosen)))
                paths[side] = path.relative_to(root).as_posix()
                files[paths[side]] = Manifest(digest=digest(path.read_bytes()), rows=len(chosen))
            of_outer = fold * outer // folds if outer else None
            records.append(FoldRecord(number=fold, outer=of_outer, sides=paths))
        index = SplitsIndex(
            ids="str",
            spec=FoldsSpec(kind="kfold", n=folds),
            data=DataRecord(spec=DataSpec(index="data.csv"), rows=rows, table="t"),
            folds=tuple(records),
            files=files,
        )
        self.layout.splits_index.write_bytes(msgspec.json.encode(index))

    def val(self, fold: int) -> list[str]:
        """Return the ids that *fold* validates on."""
        return self.ids[fold :: self.folds]

    def scored(self, trial: int, scores: Sequence[float], value: float | None = None, **more: Any) -> None:
        """End *trial* with *scores* of its validation side; its value is their mean where None is given."""
        (self.layout.root / "samples").mkdir(exist_ok=True)
        worker = more.get("worker", 1)
        ids = more.pop("ids", self.val(trial // self.points))
        place = append_scores(self.layout, worker_id(worker), trial, 1, ids, scores)
        middle = sum(scores) / len(scores) if value is None else value
        self.end(trial, middle, samples=place, **more)

    def change(self, **search: Any) -> None:
        """Change the search of the plan."""
        self.plan = msgspec.structs.replace(
            self.plan, search=msgspec.structs.replace(self.plan.search, **search)
        )
        self.layout.plan.write_bytes(encode_plan(self.plan))

    def add(self, **block: Any) -> Block:
        """Add a block like the first one to the plan, behind all others."""
        blocks = self.plan.blocks
        first = blocks[-1].first + blocks[-1].trials
        point = max(one.first_point + one.points for one in blocks)
        added = msgspec.structs.replace(blocks[0], **({"first": first, "first_point": point} | block))
        self.plan = msgspec.structs.replace(
            self.plan,
            blocks=(*blocks, added),
            points=max(self.plan.points, added.first_point + added.points),
            trials=first + added.trials,
        )
        self.layout.plan.write_bytes(encode_plan(self.plan))
        return added
