"""`refit` and `test` by the command line: the chosen point again, and one look at the test side."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from hpc_search import search
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.records import checked
from hpc_search.records.vault import Opening, Result
from tests.e2e.command_line import Desk
from tests.refit_run import SEARCH, TRAIN, desk, refitted


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose search and refit are done."""
    return refitted(tmp_path_factory.mktemp("done")).root


@pytest.fixture
def ready(done: Path, tmp_path: Path) -> Desk:
    """A copy of it, at home where it is."""
    shutil.copytree(done, tmp_path / "desk")
    made = Desk(tmp_path / "desk")
    made.good("fsck", "runs/example", "--adopt")
    return made


def layout(made: Desk) -> Layout:
    return Layout(made.root / "runs/example")


def final(made: Desk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout(made).result("final_test_results.json").read_text())
    return found


def answer(made: Desk, text: str) -> tuple[int, str]:
    """Call `test` in a terminal and type *text*; return the exit code and what it printed."""
    outside, inside = pty.openpty()
    argv = made.argv("test", "runs/example")
    process = subprocess.Popen(
        argv, cwd=made.root, env=made.variables(), stdin=inside, stdout=inside, stderr=inside
    )
    os.close(inside)
    os.write(outside, f"{text}\n".encode())
    said = b""
    while True:
        try:
            piece = os.read(outside, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(outside)
    return process.wait(60), said.decode()


def test_a_refit_begins_by_itself_and_the_test_side_is_looked_at_once(ready: Desk) -> None:
    assert "already refitted" in ready.good("refit", "runs/example")
    assert "refit: 2 of 2 done" in ready.good("status", "runs/example")
    before = {path: path.read_bytes() for path in layout(ready).checkpoints.rglob("*.h5")}
    assert len(before) == 2, "what the search trained is gone, what the refit trained is kept"

    said = ready.refused("test", "runs/example")
    assert "there is no terminal to confirm it" in said
    assert "--yes" in said
    assert not layout(ready).vault.exists()
    said = ready.good("test", "runs/example", "--yes")
    assert "test: acc = 0.875" in said
    assert "95 % interval" in said
    assert "the test side was opened once: " in said
    found = final(ready)
    assert (found["opened"], [one["trial"] for one in found["units"]]) == (1, [6, 7])
    assert [one["metrics"]["rows"] for one in found["units"]] == [24.0, 24.0]
    assert found["values"][0]["interval"]["over"] == "24 samples"
    assert before == {path: path.read_bytes() for path in layout(ready).checkpoints.rglob("*.h5")}
    assert not [*layout(ready).reruns.iterdir()]
    assert "all of it verifies" in ready.good("fsck", "runs/example")
    assert "test side: opened 2" in ready.good("status", "runs/example")
    assert "test: acc = 0.875" in ready.good("collect", "runs/example")

    said = ready.refused("test", "runs/example", "--yes")
    assert "the test side was opened 2" in said
    assert "acc = 0.875" in said
    assert "needs a reason" in ready.refused("test", "runs/example", "--yes", "--force", " ")
    said = ready.good("test", "runs/example", "--yes", "--force", "the metric had a bug")
    assert "opened 2 times" in said
    assert "2: the metric had a bug" in said
    assert [one["reason"] for one in final(ready)["openings"]] == ["", "the metric had a bug"]
    told = json.loads(ready.good("test", "runs/example", "--yes", "--force", "third", "--json"))
    assert told["opened"] == 3


def test_in_a_terminal_the_name_of_the_run_is_typed(ready: Desk) -> None:
    code, said = answer(ready, "yes")
    assert (code, "nothing was opened" in said) == (2, True), said
    assert (
        "this opens the test side of runs/example: 24 rows\r\n  point 3 (point 2 again), seeds 0, 1" in said
    )
    assert not layout(ready).vault.exists()
    code, said = answer(ready, "example")
    assert (code, "test: acc = 0.875" in said) == (0, True), said


def test_a_refit_has_one_number_of_its_own_everywhere_and_says_which_point_it_is_again(ready: Desk) -> None:
    ready.good("test", "runs/example", "--yes")
    [one, _] = final(ready)["units"]
    assert (one["trial"], one["point"], one["searched"]) == (6, 3, 2)
    assert "stage refit: point 3 (point 2 again), fold 1, seed 0: done" in ready.good(
        "show", "runs/example", "6"
    )
    told = json.loads(ready.good("show", "runs/example", "6", "--json"))
    assert (told["point"], told["searched"]) == (3, 2)
    told = json.loads(ready.good("show", "runs/example", "5", "--json"))
    assert (told["point"], told["searched"]) == (2, None)
    audit = layout(ready).audit.read_text()
    assert "| trial finished | trial 6 attempt 1 point 3 (point 2 again) fold 1 seed 0 |" in audit
    assert "| trial finished | trial 5 attempt 1 point 2 fold 1 seed 0 |" in audit
    rows = layout(ready).result("results.csv").read_text().splitlines()
    assert rows[7].startswith("6,refit,3,1,0,done,")
    assert "(point 3 (point 2 again), seeds 0, 1)" in ready.refused("test", "runs/example", "--yes")


def test_before_anything_finished_nothing_is_refitted_or_tested(tmp_path: Path) -> None:
    made = desk(tmp_path)
    made.good("plan", "search.yaml")
    for verb in (["refit", "runs/example"], ["test", "runs/example", "--yes"]):
        said = made.refused(*verb)
        assert "the search has not ended: 6 of 6 trials are left (0, 1, 2, 3, 4, ...)" in said
        assert "`hpc-search submit runs/example` goes on; the refit then begins by itself" in said
    assert not layout(made).vault.exists()
    said = made.good("retry", "runs/example")
    assert "no failed trial is left: nothing was changed; 8 of 8 have not ended" in said
    for name in ("refit", "test", "retry"):
        assert "did you mean 'example'?" in made.refused(name, "runs/exmaple")
        assert "search.yaml is not a run: it is a file" in made.refused(name, "search.yaml")
        assert "runs is not a run: it has no plan.json" in made.refused(name, "runs")


#: Fails where *WHEN* is so; reports no scores of samples.
FAILS: Final = """
def train(trial):
    if WHEN:
        raise ValueError("as asked for")
    trial.save(1, state={"x": trial.params["x"]})
    return {"acc": 0.5}


def evaluate(trial):
    return {"acc": 0.5}
"""
RETRY: Final = "retry: {error: 1}\n"


def test_without_a_complete_point_no_refit_is_planned(tmp_path: Path) -> None:
    search = SEARCH.replace("refit: {seeds: [0, 1]}\n", RETRY)
    made = desk(tmp_path, search, FAILS.replace("WHEN", "trial.fold == 1"))
    made.good("plan", "search.yaml")
    made.go("runs/example", code=1)
    for verb in (["refit", "runs/example"], ["test", "runs/example", "--yes"]):
        said = made.refused(*verb)
        assert "the search has no complete point (trials: 3 done, 3 failed), so none can be chosen" in said
    assert not layout(made).later_plan(2).exists()


def test_with_a_failed_seed_nothing_is_tested_and_without_scores_it_is_said_what_gives_an_interval(
    tmp_path: Path,
) -> None:
    made = desk(tmp_path, SEARCH + RETRY, FAILS.replace("WHEN", "trial.refit and trial.seed == 1"))
    made.good("plan", "search.yaml")
    made.go("runs/example", code=1)
    refusal = made.refused("test", "runs/example", "--yes")
    assert "1 of 2 trials of the refit failed (7): `hpc-search retry runs/example --submit`" in refusal
    assert not layout(made).vault.exists()
    made.write("train.py", FAILS.replace("WHEN", "False"))
    made.good("retry", "runs/example")
    made.good("submit", "runs/example", "--resnapshot", "--launcher", "local", "--workers", "1", "--wait")
    said = made.good("test", "runs/example", "--yes")
    assert "No interval: `trial.report_samples` in train.py:evaluate would give one." in said


def test_a_test_side_is_not_trained_on_before_it_was_looked_at(ready: Desk) -> None:
    said = ready.refused("refit", "runs/example", "--on", "everything")
    assert "all folds share one test side" in said
    assert "another refit is another run" in ready.refused("refit", "runs/example", "--on", "train")
    assert "point 1 cannot be refitted: point 2 was" in ready.refused("refit", "runs/example", "--point", "1")
    ready.good("test", "runs/example", "--yes")
    options = ("--launcher", "local", "--workers", "1", "--wait")
    said = ready.good("refit", "runs/example", "--on", "everything", "--seeds", "1", *options)
    assert "point 2, " in said
    assert "again on everything, seed 0" in said
    assert "9 of 9 trials finished" in ready.good("collect", "runs/example")
    assert "the test side was opened 2" in ready.refused("test", "runs/example", "--yes")


def test_a_search_without_a_refit_gets_one_and_further_seeds_of_it(tmp_path: Path) -> None:
    made = refitted(tmp_path, SEARCH.replace("refit: {seeds: [0, 1]}\n", ""))
    said = made.refused("test", "runs/example", "--yes")
    assert "nothing was refitted: `hpc-search refit runs/example` trains the chosen point" in said
    options = ("--launcher", "local", "--workers", "1", "--wait")
    assert "no point 7" in made.refused("refit", "runs/example", "--point", "7")
    said = made.good("refit", "runs/example", "--point", "2", *options)
    assert "point 2, as asked for; by acc (max) it is number 1 of 3 complete points" in said
    assert "again on train+val, seed 0" in said
    assert "already refitted" in made.good("refit", "runs/example")
    said = made.good("refit", "runs/example", "--seeds", "3", *options)
    assert "seeds 1, 2" in said
    assert "this run is a copy" not in made.good("test", "runs/example", "--yes")
    assert [one["seed"] for one in final(made)["units"]] == [0, 1, 2]
    assert {(one["point"], one["searched"]) for one in final(made)["units"]} == {(3, 2)}
    assert "all of it verifies" in made.good("fsck", "runs/example")


def test_what_is_missing_for_a_test_is_told_at_once(tmp_path: Path) -> None:
    text = SEARCH.replace("test: train.py:evaluate\n", "").replace(", test_share: 0.25", "")
    made = refitted(tmp_path, text)
    said = made.refused("test", "runs/example", "--yes")
    assert "write `test: train.py:evaluate` (test) into it" in said
    assert "the plan has no test side" in said
    assert not layout(made).vault.exists()


def test_a_state_or_a_manifest_that_was_edited_is_not_tested(ready: Desk) -> None:
    [slot] = layout(ready).checkpoint_dir(7).glob("*.h5")
    content = slot.read_bytes()
    slot.write_bytes(content[:-9] + b"x" + content[-8:])
    said = ready.refused("test", "runs/example", "--yes", code=4)
    assert f"{slot.name} is not as it was saved" in said
    slot.unlink()
    assert "trial 7 kept no state" in ready.refused("test", "runs/example", "--yes", code=4)
    slot.write_bytes(content)
    manifest = layout(ready).split_manifest(1, "val")
    text = manifest.read_text()
    manifest.write_text(text.replace("s", "t", 1))
    assert "is not what was planned" in ready.refused("test", "runs/example", "--yes", code=4)
    manifest.write_text(text)
    assert not layout(ready).vault.exists()
    ready.good("test", "runs/example", "--yes")


def test_the_test_sides_manifest_is_read_after_the_opening_is_on_record_and_then_checked(ready: Desk) -> None:
    manifest = layout(ready).split_manifest(1, "test")
    text = manifest.read_text()
    os.unlink(manifest)
    os.mkfifo(manifest)
    # Whoever opened it would wait for ever.
    said = ready.refused("test", "runs/example")
    assert "there is no terminal" in said
    assert not layout(ready).vault.exists()
    manifest.unlink()
    manifest.write_text(text.replace("s", "t", 1))
    said = ready.refused("test", "runs/example", "--yes", code=4)
    assert "test.csv is not what was planned" in said
    assert "the same `test` goes on with this opening" in said
    ready.good("fsck", "runs/example", "--repair")
    ready.good("test", "runs/example", "--yes")
    [opening] = final(ready)["openings"]
    assert (opening["interrupted"], len(opening["refused"])) == (0, 1)


def test_data_that_were_edited_are_a_refusal_on_record_and_neither_an_interruption_nor_a_result(
    ready: Desk, done: Path
) -> None:
    table = done / "data.csv"
    text = table.read_text()
    table.write_text(text.replace("s3,1", "s3,0"))
    try:
        said = ready.refused("test", "runs/example", "--yes", code=4)
        assert "so nothing was tested: data.csv: 1 label changed: s3 (1 -> 0)" in said
        assert "the same `test` goes on with this opening" in said
        record = layout(ready).vault_refused(1, 0)
        assert str(done) not in record.read_text(), "a record has no path of this machine"
        ready.refused("test", "runs/example", "--yes", code=4)
        assert len(list(layout(ready).vault.iterdir())) == 2, "that they still differ is no news"
        words = "refused, as the data are not those of the plan: data.csv: 1 label changed"
        assert words in ready.good("status", "runs/example")
        assert "That is no result" in " ".join(ready.good("collect", "runs/example").split())
    finally:
        table.write_text(text)
    said = ready.good("test", "runs/example", "--yes")
    assert "refused 1 time, as the data were others, before anything was tested" in said
    [opening] = final(ready)["openings"]
    assert (opening["interrupted"], opening["finished"]) == (0, True)
    assert opening["refused"][0]["why"] == ["data.csv: 1 label changed: s3 (1 -> 0)"]
    assert "| test refused | opening 1 |" in layout(ready).audit.read_text()
    assert "all of it verifies" in ready.good("fsck", "runs/example")
    content = record.read_bytes()
    record.write_bytes(content.replace(b'"after":0', b'"after":1'))
    assert "vault/refused.001.00.json: it has one wrong byte" in ready(*_fsck()).out


def test_a_copy_that_is_tested_says_that_it_does_not_know_of_the_other_one(ready: Desk) -> None:
    shutil.copytree(layout(ready).root, ready.root / "runs/copy")
    assert "can be read, not run" in ready.refused("test", "runs/copy", "--yes")
    ready.good("fsck", "runs/copy", "--adopt")
    words = "whether the same test side was opened there, or in other copies, is not known here"
    assert words in ready.good("test", "runs/copy", "--yes")
    assert words in (ready.root / "runs/copy/results/final_test_results.json").read_text()


def test_a_vault_that_is_no_directory_is_damage_wherever_it_is_looked_at(ready: Desk) -> None:
    layout(ready).vault.write_text("")
    words = "runs/example/vault is no directory: what it says of the test side is not known"
    assert words in ready.refused("test", "runs/example", "--yes", code=4)
    assert words in ready.good("status", "runs/example")
    assert words in ready.good("collect", "runs/example")
    ready.good(*_fsck("--repair"))
    assert "opened once" in ready.good("test", "runs/example", "--yes")


def test_a_result_that_is_gone_is_known_by_the_journals_and_is_not_simply_made_again(ready: Desk) -> None:
    ready.good("test", "runs/example", "--yes")
    result = layout(ready).vault_result(1)
    content = result.read_bytes()
    result.unlink()
    layout(ready).audit.unlink()
    assert "vault/result.001.json: it is missing: a journal says that it was there" in ready(*_fsck()).out
    said = ready.refused("test", "runs/example", "--yes", code=4)
    assert "the journals say that the test side gave a result, and the record of that is gone" in said
    assert '--force "REASON"` opens the test side again' in said
    assert "gave a result" in ready.good("collect", "runs/example")
    record = checked.decode(content, Result, result.name)
    result.write_bytes(checked.encode(msgspec.structs.replace(record, notes=("by hand",))))
    assert "it is not the result that a journal tells of: somebody changed it" in ready(*_fsck()).out
    result.write_bytes(content)
    assert "the test side was opened 2" in ready.refused("test", "runs/example", "--yes")


def test_a_repair_of_the_vault_is_told_of_the_vault_alone_and_the_test_goes_on(ready: Desk) -> None:
    ready.good("test", "runs/example", "--yes")
    result = layout(ready).vault_result(1)
    content = result.read_bytes()
    result.write_bytes(content[:100] + b"xx" + content[102:])
    said = ready(*_fsck()).out
    assert "vault/result.001.json: it does not verify" in said
    assert "audit.log" not in said
    said = ready.good(*_fsck("--repair"))
    assert "audit.log" not in said
    assert "audit.log" not in ready.good(*_fsck())
    ready.good("test", "runs/example", "--yes")
    assert "all of it verifies" in ready.good(*_fsck())


def test_a_state_that_was_changed_while_the_name_was_typed_is_not_tested(ready: Desk) -> None:
    [slot] = layout(ready).checkpoint_dir(7).glob("*.h5")
    found = search.ready_to_test(search.open_run(str(layout(ready).root)))
    (slot.parent / "files").mkdir()
    (slot.parent / "files/more").write_text("more")
    with pytest.raises(DamagedError, match="files/more is new"):
        search.test(found)
    shutil.rmtree(slot.parent / "files")
    assert "opened once" in ready.good("test", "runs/example", "--yes")
    assert not list(layout(ready).reruns.iterdir()), "copies of tests that ended are removed"


def test_an_opening_that_is_gone_is_known_by_the_journals_whatever_is_removed_beside_it(ready: Desk) -> None:
    ready.good("test", "runs/example", "--yes")
    found = layout(ready)
    shutil.rmtree(found.vault)
    said = ready.good("collect", "runs/example")
    assert "warning: the journals say that the test side was opened" in said
    shutil.rmtree(found.root / "results")
    found.audit.unlink()
    assert "the journals say" in ready.refused("test", "runs/example", "--yes", code=4)
    assert "the journals say" in ready.refused("test", "runs/example", "--yes", "--force", "why not", code=4)
    said = ready(*_fsck()).out
    assert "vault/opening.001.json: it is missing: a journal says that it was there" in said


def test_an_opening_that_was_written_anew_with_its_checksum_is_not_believed(ready: Desk) -> None:
    ready.good("test", "runs/example", "--yes")
    path, result = layout(ready).vault_opening(1), layout(ready).vault_result(1)
    record = checked.decode(path.read_bytes(), Opening, path.name)
    path.write_bytes(checked.encode(msgspec.structs.replace(record, chosen=("by hand",))))
    result.unlink()
    assert "it is not the opening that a journal tells of: somebody changed it" in ready(*_fsck()).out
    assert "is another one" in ready.refused("test", "runs/example", "--yes", code=4)


def test_a_test_that_fails_goes_on_with_the_same_opening_after_its_code_was_corrected(tmp_path: Path) -> None:
    made = refitted(
        tmp_path, train=TRAIN.replace("    right =", "    raise ValueError('no such file')\n    right =")
    )
    failed = made("test", "runs/example", "--yes")
    assert failed.code == 1
    assert "the test of trial 6 failed: " in failed.err
    assert "ValueError: no such file" in failed.err
    assert "nothing came of it yet" in made.good("status", "runs/example")
    [slot] = layout(made).checkpoint_dir(7).glob("*.h5")
    kept = slot.rename(slot.with_suffix(".kept"))
    assert "was for other states" in made.refused("test", "runs/example", "--yes", code=4)
    kept.rename(slot)
    made.write("train.py", TRAIN)
    made.good("submit", "runs/example", "--resnapshot", "--launcher", "local")
    made.good("test", "runs/example", "--yes")
    found = final(made)
    assert (found["opened"], found["openings"][0]["interrupted"]) == (1, 1)
    codes = [json.loads(path.read_text())["by"]["code"] for path in sorted(layout(made).vault.iterdir())]
    assert len(set(codes)) == 2, "the opening says with which code, and so does whoever went on"


def test_records_of_the_vault_are_checked_and_no_repair_removes_an_opening(ready: Desk) -> None:
    ready.good("test", "runs/example", "--yes")
    opening, result = layout(ready).vault_opening(1), layout(ready).vault_result(1)
    content = opening.read_bytes()
    opening.write_bytes(content.replace(b'"user":"', b'"user":"x', 1))
    assert "vault/opening.001.json: it does not verify" in ready(*_fsck()).out
    assert "who opened the test side" in ready(*_fsck("--repair")).out
    assert opening.exists()
    assert "does not verify" in ready.refused("test", "runs/example", "--yes", code=4)
    opening.unlink()
    assert "vault/opening.001.json: it is missing" in ready(*_fsck()).out
    opening.write_bytes(content)
    result.unlink()
    assert "nothing came of it yet" in ready(*_fsck()).out
    opening.unlink()
    assert "vault: its records are gone" in ready(*_fsck()).out
    assert "the journals say that the test side was opened" in ready.refused(
        "test", "runs/example", "--yes", code=4
    )


def _fsck(*more: str) -> tuple[str, ...]:
    return ("fsck", "runs/example", *more)
