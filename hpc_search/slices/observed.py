"""What was seen of the devices that a process may use; kept in its journal as the provenance of results."""

from __future__ import annotations

import msgspec


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU or MIG instance. ``memory`` and ``free`` are bytes; 0, "" and None: not known."""

    name: str = ""
    uuid: str = ""
    memory: int = 0
    sms: int = 0
    #: The profile of a MIG instance, such as 1g.10gb.
    mig: str = ""
    free: int | None = None


class Observed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What this process got.

    ``visible`` are the entries of CUDA_VISIBLE_DEVICES, None where it is not set. ``looked`` are the ways
    of looking that gave an answer, ``unseen`` says of each other one why it did not. ``wrong`` says what a
    look found to be broken. ``given`` are the GPUs of the job and the step, in SLURM's words.
    """

    kind: str = "cpu"
    devices: tuple[Device, ...] = ()
    driver: str = ""
    cuda: str = ""
    torch: str = ""
    #: Model name of the processor.
    cpu: str = ""
    visible: tuple[str, ...] | None = None
    given: str = ""
    shards: str = ""
    threads_percent: str = ""
    #: Devices that torch counts, None where it was not asked.
    torch_devices: int | None = None
    #: "default" or what NVML says; an own MPS daemon needs "default".
    compute_mode: str = ""
    looked: tuple[str, ...] = ()
    unseen: dict[str, str] = {}
    wrong: str = ""


def encode(seen: Observed) -> str:
    """Return the text of *seen* for a note."""
    return msgspec.json.encode(seen).decode()


def decode(text: str | bytes) -> Observed | None:
    """Return what *text* holds, None where another version wrote it."""
    try:
        return msgspec.json.decode(text, type=Observed)
    except msgspec.DecodeError:
        return None
