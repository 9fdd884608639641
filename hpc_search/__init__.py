"""Hyperparameter search and cross-validation on SLURM job arrays, without server, database or daemon."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
