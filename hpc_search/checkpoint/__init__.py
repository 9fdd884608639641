"""Checkpoints: the state of a trial in verified HDF5 files, two slots an attempt.

Importing this imports neither h5py nor numpy nor torch; saving and loading do, where the state has them.
"""

from hpc_search.checkpoint.file import Meta
from hpc_search.checkpoint.objects import put_back, state_of
from hpc_search.checkpoint.rng import capture, restore
from hpc_search.checkpoint.slots import Loaded, Saved, Slots, Superseded

__all__ = [
    "Loaded",
    "Meta",
    "Saved",
    "Slots",
    "Superseded",
    "capture",
    "put_back",
    "restore",
    "state_of",
]
