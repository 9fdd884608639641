"""Checkpoints: the state of a trial in verified HDF5 files, two slots an attempt.

Importing this imports neither h5py nor numpy nor torch; saving and loading do, where the state has them.
"""

from hpc_search.checkpoint import settings
from hpc_search.checkpoint.content import check, of_trial
from hpc_search.checkpoint.directory import refuse_links
from hpc_search.checkpoint.file import Meta
from hpc_search.checkpoint.gradients import Gradients
from hpc_search.checkpoint.objects import put_back, state_of
from hpc_search.checkpoint.rng import capture, restore
from hpc_search.checkpoint.saves import Saves
from hpc_search.checkpoint.settings import differences
from hpc_search.checkpoint.slots import MAX_STEP, Loaded, Saved, Slots, Superseded, step_of

__all__ = [
    "MAX_STEP",
    "Gradients",
    "Loaded",
    "Meta",
    "Saved",
    "Saves",
    "Slots",
    "Superseded",
    "capture",
    "check",
    "differences",
    "of_trial",
    "put_back",
    "refuse_links",
    "restore",
    "settings",
    "state_of",
    "step_of",
]
