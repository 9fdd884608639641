"""Batches in which no series comes twice: the fewest, and the most full ones, that there can be."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, islice
from typing import NamedTuple


class Counts(NamedTuple):
    """How many batches an epoch has."""

    full: int
    short: int

    @property
    def total(self) -> int:
        """Full and short ones."""
        return self.full + self.short


def count_batches(sizes: Sequence[int], batch_size: int) -> Counts:
    """Return the batches that series of these *sizes* need: the most full ones, and the fewest in all.

    F full batches are possible just where the items that they can hold, at most F of each series, are
    F x *batch_size*. In all there are as many as the largest series has items, or as the items fill.
    """
    largest, items = max(sizes, default=0), sum(sizes)
    by_size = Counter(sizes).items()
    low, high = 0, items // batch_size
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(size, middle) * count for size, count in by_size) >= middle * batch_size:
            low = middle
        else:
            high = middle - 1
    return Counts(low, max(-(-items // batch_size), largest) - low)


def distinct_batches(
    order: Sequence[int], series: Sequence[int], batch_size: int, full: int
) -> Iterator[list[int]]:
    """Yield batches of the items in *order*, none with two of one series; the *full* full ones come first.

    ``series[item]`` is the series of an item, from 0 without a gap. An item comes as early in *order* as its
    series allows. But a series with as many items left as there are full batches left goes first, the
    longest of all: such a one may miss no batch, and to let others wait costs nothing.
    """
    largest = max(Counter(series).values(), default=0)
    early = max(0, full - largest)
    rest = yield from _early(order, series, batch_size, early)
    of_place = [series[item] for item in rest]
    queues: dict[int, list[int]] = {}
    for place in range(len(rest) - 1, -1, -1):
        queues.setdefault(of_place[place], []).append(place)
    late = chain(_late(queues, of_place, batch_size, full - early), _last(queues))
    yield from ([rest[place] for place in sorted(places)] for places in late)


def _early(
    order: Iterable[int], series: Sequence[int], batch_size: int, batches: int
) -> Generator[list[int], None, list[int]]:
    """Yield *batches* batches while none of the series can come short; return the items that are left."""
    #: Items that came while another of their series was in the batch, by series, in the order of turn.
    waiting: dict[int, deque[int]] = {}
    fresh = iter(order)
    for _ in range(batches):
        turn = list(islice(waiting, batch_size))
        batch = []
        for one in turn:
            items = waiting.pop(one)
            batch.append(items.popleft())
            if items:
                waiting[one] = items
        taken = set(turn)
        for item in fresh if len(batch) < batch_size else ():
            one = series[item]
            if one in taken:
                waiting.setdefault(one, deque()).append(item)
                continue
            taken.add(one)
            batch.append(item)
            if len(batch) == batch_size:
                break
        yield batch
    return [*chain.from_iterable(waiting.values()), *fresh]


def _late(
    queues: Mapping[int, list[int]], series: Sequence[int], batch_size: int, batches: int
) -> Iterator[list[int]]:
    """Yield the places in *batches* full batches; *queues* has those of each series, the first one last."""
    ready = [queue[-1] for queue in queues.values()]
    heapify(ready)
    #: By the number of a batch: series that may miss none from it on, where they have not become shorter.
    due: list[list[int]] = [[] for _ in range(batches + 1)]
    for one, queue in queues.items():
        due[max(0, batches - len(queue))].append(one)
    #: Those that are due; none comes off the list, as each is in every batch that has room for it.
    urgent: dict[int, None] = {}
    for number in range(batches):
        for one in due[number]:
            if len(queues[one]) >= batches - number:
                urgent[one] = None
        first = list(urgent)
        if len(first) > batch_size:
            first.sort(key=lambda one: len(queues[one]), reverse=True)
        batch = [queues[one].pop() for one in first[:batch_size]]
        again = []
        while len(batch) < batch_size:
            place = heappop(ready)
            one = series[place]
            if one not in urgent:
                batch.append(place)
                queue = queues[one]
                queue.pop()
                if queue:
                    again.append(queue[-1])
                    due[batches - len(queue)].append(one)
        for place in again:
            heappush(ready, place)
        yield batch


def _last(queues: Mapping[int, list[int]]) -> Iterator[list[int]]:
    """Yield short batches: one place of every series that has any left."""
    left = [queue for queue in queues.values() if queue]
    while left:
        yield [queue.pop() for queue in left]
        left = [queue for queue in left if queue]
