"""Reads the hyperparameter search of sequifier 1.x: lists of values, some of them linked by index."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from hpc_search.config.dump import block, flow
from hpc_search.config.files import open_keys
from hpc_search.config.problems import Book, below, shown, words
from hpc_search.config.reader import Cursor
from hpc_search.config.search import parse_search
from hpc_search.space import duplicates
from hpc_search.strategies import make

#: Lists whose i-th values belong together; the first one leads.
_LINKED: Final[tuple[tuple[str, ...], ...]] = (
    ("input_columns", "column_types", "categorical_columns", "real_columns"),
    ("dim_model", "n_head", "initial_embedding_dim", "joint_embedding_dim", "feature_embedding_dims"),
    ("learning_rate", "epochs", "scheduler"),
)
_MODEL: Final[tuple[str, ...]] = (
    *("dim_model", "n_head", "initial_embedding_dim", "joint_embedding_dim", "feature_embedding_dims"),
    *("dim_feedforward", "num_layers", "activation_fn", "normalization", "positional_encoding"),
    *("attention_type", "norm_first", "n_kv_heads", "rope_theta"),
)
_TRAINING: Final[tuple[str, ...]] = (
    *("learning_rate", "epochs", "scheduler", "batch_size", "dropout", "optimizer", "accumulation_steps"),
)
_OUTER: Final[tuple[str, ...]] = (
    "input_columns",
    "column_types",
    "categorical_columns",
    "real_columns",
    "seq_length",
)
#: Single values of the sections: they go to every trial.
_MODEL_FIXED: Final[tuple[str, ...]] = ("prediction_length",)
_TRAINING_FIXED: Final[tuple[str, ...]] = (
    *("device", "log_interval", "class_share_log_columns", "early_stopping_epochs", "save_interval_epochs"),
    *("criterion", "class_weights", "loss_weights", "continue_training", "scheduler_step_on", "distributed"),
    *("load_full_data_to_ram", "max_ram_gb", "device_max_concat_length", "world_size", "num_workers"),
    *("backend", "layer_type_dtypes", "layer_autocast"),
)
_OUTER_FIXED: Final[tuple[str, ...]] = (
    *("project_root", "metadata_config_path", "training_data_path", "validation_data_path", "read_format"),
    *("target_columns", "target_column_types", "id_maps", "n_classes", "inference_batch_size"),
    *("export_generative_model", "export_embedding_model", "export_onnx", "export_pt", "export_with_dropout"),
)
#: What the search itself is about: of no use to a trial.
_OWN: Final[tuple[str, ...]] = (
    "hp_search_name",
    "search_strategy",
    "n_samples",
    "model_config_write_path",
    "override_input",
)
_SECTIONS: Final[tuple[str, ...]] = (*("model_hyperparameter_sampling", "training_hyperparameter_sampling"),)
_NEEDED: Final[tuple[str, ...]] = (
    *("seq_length", "dim_model", "n_head", "initial_embedding_dim", "dim_feedforward", "num_layers"),
    *("activation_fn", "attention_type", "n_kv_heads", "normalization", "positional_encoding"),
    *("learning_rate", "epochs", "batch_size", "accumulation_steps"),
)
#: What sequifier takes where the file has nothing.
_DEFAULTS: Final[dict[str, Any]] = {
    "dropout": 0.0,
    "optimizer": {"name": "Adam"},
    "scheduler": {"name": "StepLR", "step_size": 1, "gamma": 0.99},
}
#: The seed that sequifier writes into every file it makes.
_SEED: Final = 101


class Imported(NamedTuple):
    """The text of a search file, the points of its grid, and what the user has to know."""

    text: str
    points: int
    notes: tuple[str, ...]


def import_sequifier(data: bytes, file: str, trial: str) -> Imported:
    """Return the search file that means what *data* do; *trial* is the function to run.

    Raises:
        ConfigError: With every problem found: an unknown key, unequal lengths, a list that is missing.
    """
    book = Book(file)
    known = (*_OUTER, *_OUTER_FIXED, *_OWN, *_SECTIONS)
    root, section = open_keys(data, book, known, what="a hyperparameter search of sequifier 1.x")
    lists = {key: section[key] for key in _OUTER if key in section}
    fixed = {key: section[key].plain() for key in _OUTER_FIXED if key in section}
    inner = ((_MODEL, _MODEL_FIXED), (_TRAINING, _TRAINING_FIXED))
    for name, (listed, single) in zip(_SECTIONS, inner, strict=True):
        part = section[name].keys((*listed, *single)) if name in section else None
        if name not in section:
            book.add(root.line, name, f"the key {name!r} is missing")
        lists |= {key: value for key, value in (part or {}).items() if key in listed}
        fixed |= {key: value.plain() for key, value in (part or {}).items() if key in single}
    _note_missing(root, section, lists)
    values = {key: _values(cursor) for key, cursor in lists.items()}
    _check_lengths(lists, values)
    strategy = _strategy(root, section)
    book.close()
    found = _Space(values, fixed)
    return _written(section["hp_search_name"].plain(), trial, found, strategy)


def _note_missing(root: Cursor, section: Mapping[str, Cursor], lists: Mapping[str, Cursor]) -> None:
    for key in ("hp_search_name", "input_columns"):
        if key not in section:
            root.book.add(root.line, key, f"the key {key!r} is missing")
    for key in _NEEDED:
        if key not in lists:
            place = next(
                (name for name, keys in zip(_SECTIONS, (_MODEL, _TRAINING), strict=True) if key in keys), ""
            )
            parent = section.get(place, root)
            root.book.add(parent.line, below(place, key), f"the list {key!r} is missing")
    if "hp_search_name" in section:
        section["hp_search_name"].text("a name")


def _values(cursor: Cursor) -> list[Any] | None:
    """Return the values of a list; None where null stands for no list."""
    if cursor.is_null:
        return None
    return [item.plain() for item in cursor.items("a list of values to search over") or ()]


def _check_lengths(lists: Mapping[str, Cursor], values: Mapping[str, list[Any] | None]) -> None:
    for leader, *followers in _LINKED:
        first = values.get(leader)
        for name in followers:
            other = values.get(name)
            if first and other and len(first) != len(other):
                lists[name].add(
                    f"is linked with {leader} by position, and their lengths differ",
                    found=f"{leader}: {len(first)}, {name}: {len(other)}",
                    expected="equal lengths",
                )
    columns = values.get("input_columns") or ()
    if len(columns) > 1 and not values.get("column_types"):
        lists["input_columns"].add(
            "varies, so that column_types has to be given: the metadata hold it once",
            found=f"input_columns: {len(columns)}, column_types: 1 (of the metadata)",
            expected="a list column_types of the same length",
        )


def _strategy(root: Cursor, section: Mapping[str, Cursor]) -> int | None:
    """Return the number of points to draw, None for all of the grid."""
    kind = section["search_strategy"].one_of(("grid", "sample")) if "search_strategy" in section else "sample"
    if kind == "grid":
        return None
    if "n_samples" not in section or section["n_samples"].is_null:
        root.book.add(root.line, "n_samples", "the strategy sample needs n_samples", expected="n_samples: 20")
        return None
    return section["n_samples"].integer(1)


class _Space:
    """The parts of the search file's space, made from the lists."""

    def __init__(self, values: Mapping[str, list[Any] | None], fixed: Mapping[str, Any]) -> None:
        self.notes: list[str] = []
        self.fixed = dict(fixed)
        self.linked: list[dict[str, list[Any]]] = []
        self.normalise: list[dict[str, Any]] = []
        self.dimensions: dict[str, list[Any]] = {}
        #: Of sequifier's own count, which multiplies by a linked list once more.
        self.claimed = math.prod(
            len(row)
            for key, row in values.items()
            if row and key not in _followers() - {"joint_embedding_dim"}
        )
        for group in _LINKED:
            self._take_group({key: row for key in group if (row := values.get(key))})
        for key, row in values.items():
            if row is None:
                self.fixed[key] = None
            elif key not in {name for group in _LINKED for name in group}:
                self._take(key, self._once(key, row))
        for key, value in _DEFAULTS.items():
            if key not in values:
                self.fixed[key] = value
                self.notes.append(f"{key} is missing: {flow(value)}, as sequifier has it, stands under fixed")
        self._normalise(values)

    def _take(self, key: str, row: list[Any]) -> None:
        if len(row) == 1:
            self.fixed[key] = row[0]
        else:
            self.dimensions[key] = row

    def _take_group(self, group: dict[str, list[Any]]) -> None:
        rows = self._once(" + ".join(group), list(zip(*group.values(), strict=True)))
        columns = {key: [row[place] for row in rows] for place, key in enumerate(group)}
        if len(rows) == 1 or len(group) == 1:
            for key, values in columns.items():
                self._take(key, values)
        elif group:
            self.linked.append(columns)

    def _once(self, name: str, row: list[Any]) -> list[Any]:
        """Return each value once; what stands twice would run twice."""
        later = {place for _, place in duplicates(row)}
        if later:
            again = ", ".join(shown(row[place]) for place in sorted(later))
            self.notes.append(f"{name}: {again} stands there twice and is tried once")
        return [value for place, value in enumerate(row) if place not in later]

    def _normalise(self, values: Mapping[str, list[Any] | None]) -> None:
        """Say when n_kv_heads has no meaning: where it does not divide n_head, and with mha."""
        kv_heads = [value for value in values.get("n_kv_heads") or () if value is not None]
        if not kv_heads:
            return
        kinds, heads = values.get("attention_type") or [], values.get("n_head") or []
        undivided = [(head, kv) for head in heads for kv in kv_heads if not kv or head % kv]
        if kinds == ["mha"] or len(undivided) == len(heads) * len(kv_heads):
            self.dimensions.pop("n_kv_heads", None)
            self.fixed["n_kv_heads"] = None
            self.notes.append("n_kv_heads is null everywhere: no value divides n_head outside of mha")
            return
        if undivided:
            self.normalise.append({"unless": "n_head % n_kv_heads == 0", "to": None})
        if "mha" in kinds:
            self.normalise.append({"if": "attention_type == 'mha'", "to": None})
        if self.normalise and "n_kv_heads" in self.fixed:
            self.dimensions["n_kv_heads"] = [self.fixed.pop("n_kv_heads")]
        if undivided and {"gqa", "mqa"} & set(kinds):
            pairs = words([f"{head} and {kv}" for head, kv in undivided[:5]])
            self.notes.append(
                f"n_kv_heads becomes null where it does not divide n_head ({pairs}); with gqa or mqa "
                "sequifier refuses null, so that the trial has to take it for mha"
            )


def _followers() -> set[str]:
    return {name for _, *names in _LINKED for name in names}


def _written(name: str, trial: str, found: _Space, samples: int | None) -> Imported:
    """Return the search file; a grid where as many points are asked for as there are."""
    grid = parse_search(_text(name, trial, found, "grid", None).encode(), "the imported search")
    points = make(grid.strategy).count(grid.space)
    notes = list(found.notes)
    if found.claimed != points:
        notes.append(
            f"sequifier counts {found.claimed:,} combinations, the grid has {points:,} different points"
            " (linked lists count once, and points that become equal too)"
        )
    strategy: Any = "grid"
    if samples is not None and samples < points:
        strategy = {"random": {"points": samples, "seed": 0}}
        notes.append("random points are all different and come from a seed; sequifier drew them with repeats")
    elif samples is not None:
        notes.append(f"{samples:,} samples of {points:,} points: all of them run, each once (strategy: grid)")
    mean = "sequifier 1.x reports the sum over batches, which depends on batch_size"
    notes.append(f"metric: val_loss has to be the mean loss; {mean}")
    notes.append(f"seeds: [{_SEED}], as sequifier writes it; more seeds repeat each point")
    text = _text(name, trial, found, strategy, points if strategy == "grid" else None)
    return Imported(text, points, tuple(notes))


def _text(name: str, trial: str, found: _Space, strategy: Any, expected: int | None) -> str:
    head: dict[str, Any] = {"name": name, "trial": trial, "metric": {"name": "val_loss", "goal": "min"}}
    tail: dict[str, Any] = {"strategy": strategy, "seeds": [_SEED]}
    if expected is not None:
        tail["expect_points"] = expected
    tail["retry"] = {"oom": {"halve": "batch_size", "times": 3, "ladder": "plain"}}
    return (
        f"# Imported from a hyperparameter search of sequifier 1.x.\n{block(head)}"
        + _mapping("space", found.dimensions)
        + "".join(f"{line}\n" for line in _groups(found.linked))
        + (block({"normalise": {"n_kv_heads": found.normalise}}) if found.normalise else "")
        + _mapping("fixed", found.fixed)
        + block(tail)
    )


def _groups(linked: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = [f"  - {flow(group)}" for group in linked]
    return ["linked:", *lines] if lines else []


def _mapping(key: str, values: Mapping[str, Any]) -> str:
    return f"{key}:\n{block(values, '  ')}" if values else ""
