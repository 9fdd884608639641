"""How the trials of a run are claimed: by the locked index, or by exclusively created names."""

from __future__ import annotations

import os

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.mounts import mount_of, trusted

__all__ = ["exclusive", "mount_of", "require_exclusive", "trusted", "why_exclusive"]


def exclusive(layout: Layout) -> bool:
    """Return whether the run claims by exclusively created names; it never goes back."""
    return os.path.exists(layout.mode_exclusive) or os.path.isdir(layout.open)


def require_exclusive(layout: Layout, why: str) -> bool:
    """Make the run claim by exclusively created names from now on; return whether this call did it."""
    # The directory alone would say so too: it comes second, so that a full disk changes nothing.
    published = durable.publish(layout.mode_exclusive, why.rstrip().encode() + b"\n")
    layout.open.mkdir(mode=0o700, exist_ok=True)
    return published


def why_exclusive(layout: Layout) -> str:
    """Return why locks are not used in this run, "" where they are."""
    try:
        return layout.mode_exclusive.read_text(errors="replace").strip()
    except OSError:
        return ""
