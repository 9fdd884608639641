"""What many workers find to do at the same moment, done by one of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from hpc_search.layout import Layout
from hpc_search.locks import tried_lock

#: Seconds to wait for another that does at this moment what may then be done already, and between two looks.
_TURN: Final = 60.0
_LOOK_AGAIN: Final = (0.1, 0.4)


def once(layout: Layout, what: str, done: Callable[[], int | None], action: Callable[[], int]) -> int:
    """Do *action*, unless another worker does the same now and it is *done* by that; return the count.

    After a failure of many, all of them start at once. Nothing depends on this: where locks do not work, or
    who has this one takes long, everybody does it.
    """
    until = time.monotonic() + _TURN
    while True:
        with tried_lock(layout.coarse_lock(what)) as free:
            found = done()
            if found is not None:
                return found
            if free or time.monotonic() >= until:
                return action()
        time.sleep(random.uniform(*_LOOK_AGAIN))
