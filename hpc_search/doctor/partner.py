"""A partner: does what it is asked on its standard input, until that ends.

python -m hpc_search.doctor.partner DIRECTORY, started by `doctor` through srun on another node.
"""

from __future__ import annotations

import errno
import os
import sys
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from hpc_search import durable
from hpc_search.doctor import delays, locking, names, place, storage
from hpc_search.doctor.protocol import Answer, Operation, Request, Scene

_OPERATIONS: Final[dict[str, Operation]] = {
    **place.OPERATIONS,
    **storage.OPERATIONS,
    **names.OPERATIONS,
    **locking.OPERATIONS,
    **delays.OPERATIONS,
}


def serve(scene: Scene, requests: BinaryIO, answers: int) -> bool:
    """Answer *requests* on descriptor *answers* until they end; return whether what was made is removed."""
    decoder = msgspec.json.Decoder(Request)
    try:
        for line in requests:
            request = decoder.decode(line)
            if request.to == scene.rank:
                scene.progress = partial(_say, answers, Answer(request.id, scene.rank, going_on=True))
                _say(answers, _answer(scene, request))
    except BrokenPipeError:
        # Nobody listens any more: the requests have ended too.
        pass
    return place.remove(scene)


def _say(answers: int, answer: Answer) -> None:
    durable.write_all(answers, msgspec.json.encode(answer) + b"\n")


def _answer(scene: Scene, request: Request) -> Answer:
    try:
        value = msgspec.Raw(msgspec.json.encode(_OPERATIONS[request.op](scene, request)))
    except OSError as error:
        return Answer(request.id, scene.rank, errno=error.errno or 0, what=error.strerror or str(error))
    except Exception as error:  # noqa: BLE001 - the border of the process: `doctor` says what it was
        return Answer(request.id, scene.rank, errno=errno.EIO, what=ascii(error))
    return Answer(request.id, scene.rank, value=value)


def main() -> None:
    """Serve as one task of an srun; what libraries print goes to stderr."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.umask(0o077)
    scene = Scene(int(os.environ.get("SLURM_PROCID") or 0), Path(sys.argv[1]))
    serve(scene, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
