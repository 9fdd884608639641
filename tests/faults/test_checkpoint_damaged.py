"""A damaged checkpoint is named, skipped and costs one interval; what the trial did is the same."""

from __future__ import annotations

import signal
from pathlib import Path

from hpc_search import search
from hpc_search.checkpoint import file
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tests.faults.site import TIMEOUT, Site, gone
from tests.faults.test_worker_kill import SEARCH, TRAIN
from tests.waiting import wait_until


def test_a_damaged_newest_checkpoint_is_named_and_skipped_and_nothing_else_changes(tmp_path: Path) -> None:
    text = SEARCH.replace("[1, 2]", "[1]")
    # Before it says that it waits, the trial has saved step 3 again: both slots hold it.
    waits = '(ROOT / "waiting").touch()'
    train = TRAIN.replace(waits, f"trial.save(step, state=state); {waits}")
    whole = Site(tmp_path / "whole", text, train)
    whole.work()
    site = Site(tmp_path / "damaged", text, train)
    site.gate.touch()
    with site.worker() as worker:
        site.wait_for("waiting")
        trial = site.trial_process()
        worker.send_signal(signal.SIGKILL)
        worker.wait(TIMEOUT)
        wait_until(lambda: gone(trial), timeout=TIMEOUT)
    site.gate.unlink()
    slots = sorted(site.layout.checkpoint_dir(0).glob("*.h5"), key=lambda path: file.verify(path).serial)
    assert len(slots) == 2
    data = bytearray(slots[1].read_bytes())
    data[len(data) // 2] ^= 1
    slots[1].write_bytes(data)
    site.work()

    assert (site.root / "start-0-2").read_text() == "3"
    assert site.results()[0].end.value == whole.results()[0].end.value
    records = (lines.parse_line(line.data) for line in history.lines(site.layout, frozenset({b"note"})))
    notes = [note for note in records if isinstance(note, lines.Note) and note.event == "checkpoint skipped"]
    assert [(note.trial, note.attempt) for note in notes] == [(0, 2)]
    assert notes[0].text.startswith(f"{slots[1].name}: the checksum")
    assert notes[0] in [record for _, record in search.view_trial(site.run, 0).records]
