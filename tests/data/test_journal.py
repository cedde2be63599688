# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml import systems
from paddlex_ml.data import annotation, journal
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files

OLD = {"label.txt": "0 a\n", "train.txt": "x.jpg\t1\n", "val.txt": "y.jpg\t0\n"}
NEW = {"train.txt": "y.jpg\t0\n", "val.txt": "x.jpg\t1\n"}


def fill(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def texts(root: Path) -> dict[str, str]:
    """Every file but the tool's own records."""
    found = (path for path in root.rglob("*") if path.is_file())
    names = {path: path.relative_to(root).as_posix() for path in found}
    return {n: p.read_text() for p, n in names.items() if not n.startswith(journal.FOLDER)}


def test_originals_become_backups_and_new_files_take_their_names(tmp_path):
    fill(tmp_path, OLD)
    change = journal.apply(tmp_path, "split", NEW)
    backups = {"train.txt.bak": OLD["train.txt"], "val.txt.bak": OLD["val.txt"]}
    assert texts(tmp_path) == {"label.txt": "0 a\n", **NEW, **backups}
    assert change.lines() == [
        "train.txt is now train.txt.bak",
        "val.txt is now val.txt.bak",
        "train.txt is written",
        "val.txt is written",
    ]
    assert sorted(p.name for p in (tmp_path / journal.FOLDER).iterdir()) == ["0001.json", "lock"]


def test_no_backup_is_ever_overwritten(tmp_path):
    fill(tmp_path, {**OLD, "train.txt.bak": "mine", "val.txt.bak.1": "mine too"})
    for number in range(3):
        journal.apply(tmp_path, "again", {"train.txt": f"t{number}", "val.txt": f"v{number}"})
    assert texts(tmp_path) == {
        "label.txt": "0 a\n",
        "train.txt": "t2",
        "train.txt.bak": "mine",
        "train.txt.bak.1": OLD["train.txt"],
        "train.txt.bak.2": "t0",
        "train.txt.bak.3": "t1",
        "val.txt": "v2",
        "val.txt.bak": OLD["val.txt"],
        "val.txt.bak.1": "mine too",
        "val.txt.bak.2": "v0",
        "val.txt.bak.3": "v1",
    }


def test_a_file_with_the_same_content_stays_and_nothing_to_do_leaves_no_record(tmp_path):
    fill(tmp_path, OLD)
    journal.apply(tmp_path, "part", {**NEW, "label.txt": OLD["label.txt"]})
    assert "label.txt.bak" not in texts(tmp_path)
    before = texts(tmp_path)
    assert journal.apply(tmp_path, "nothing", NEW).lines() == []
    assert texts(tmp_path) == before
    assert not (tmp_path / journal.FOLDER / "0002.json").exists()


def test_retired_files_become_backups_where_they_stand(tmp_path):
    fill(tmp_path, {"annotations/a.json": "{}", "annotations/b.json": "[]"})
    journal.apply(tmp_path, "convert", OLD, retire=[tmp_path / "annotations" / "a.json"])
    found = texts(tmp_path)
    assert found == {**OLD, "annotations/a.json.bak": "{}", "annotations/b.json": "[]"}


def test_a_link_steps_aside_as_a_link(tmp_path):
    elsewhere = fill(tmp_path / "elsewhere", {"list": "old"}) / "list"
    root = tmp_path / "set"
    root.mkdir()
    (root / "train.txt").symlink_to(elsewhere)
    journal.apply(root, "split", NEW)
    assert elsewhere.read_text() == "old"
    assert (root / "train.txt.bak").is_symlink()
    assert not (root / "train.txt").is_symlink()


def test_changes_are_taken_back_one_after_the_other(tmp_path):
    fill(tmp_path, {**OLD, "annotations/a.json": "{}"})
    journal.apply(tmp_path, "first", NEW)
    journal.apply(
        tmp_path, "second", {**OLD, "more.txt": "new"}, retire=[tmp_path / "annotations/a.json"]
    )
    change = journal.undo(tmp_path)
    assert change.what == "taken back: second"
    found = texts(tmp_path)
    assert {name: found[name] for name in NEW} == NEW
    assert found["annotations/a.json"] == "{}"
    assert "more.txt" not in found
    assert found["more.txt.undone"] == "new"
    assert journal.undo(tmp_path).what == "taken back: first"
    found = texts(tmp_path)
    assert {name: found[name] for name in OLD} == OLD
    assert [name for name in found if ".bak" in name] == []
    assert found["train.txt.undone"] == OLD["train.txt"]
    assert found["train.txt.undone.1"] == NEW["train.txt"]
    with pytest.raises(PaddlexMLError, match="there is no backup to put back"):
        journal.undo(tmp_path)


def test_what_was_edited_after_a_change_is_kept_when_it_is_taken_back(tmp_path):
    fill(tmp_path, OLD)
    journal.apply(tmp_path, "split", NEW)
    fill(tmp_path, {"train.txt": "edited"})
    journal.undo(tmp_path)
    assert texts(tmp_path)["train.txt.undone"] == "edited"
    assert texts(tmp_path)["train.txt"] == OLD["train.txt"]


def test_a_lost_backup_is_named_and_nothing_moves(tmp_path):
    fill(tmp_path, OLD)
    journal.apply(tmp_path, "split", NEW)
    (tmp_path / "val.txt.bak").unlink()
    before = texts(tmp_path)
    with pytest.raises(PaddlexMLError, match=r"the backup val\.txt\.bak is gone"):
        journal.undo(tmp_path)
    assert texts(tmp_path) == before


def test_backups_of_another_tool_are_put_back_the_newest_of_each(tmp_path):
    fill(tmp_path, {**OLD, "train.txt.bak": "1", "train.txt.bak.2": "3", "train.txt.bak.1": "2"})
    fill(tmp_path, {"annotations/instance_val.json.bak": "{}"})
    journal.undo(tmp_path)
    found = texts(tmp_path)
    assert (found["train.txt"], found["train.txt.undone"]) == ("3", OLD["train.txt"])
    assert found["annotations/instance_val.json"] == "{}"
    assert (found["train.txt.bak"], found["train.txt.bak.1"]) == ("1", "2")
    journal.undo(tmp_path)
    assert texts(tmp_path)["train.txt"] == "2"


def act(root: Path) -> None:
    journal.apply(root, "convert", {**NEW, "more.txt": "m"}, retire=[root / "annotations/a.json"])


BEFORE = {**OLD, "annotations/a.json": "{}", "train.txt.bak": "older"}
AFTER = {
    "label.txt": OLD["label.txt"],
    "more.txt": "m",
    **NEW,
    "annotations/a.json.bak": "{}",
    "train.txt.bak": "older",
    "train.txt.bak.1": OLD["train.txt"],
    "val.txt.bak": OLD["val.txt"],
}
BACK = {
    **BEFORE,
    "more.txt.undone": "m",
    "train.txt.undone": NEW["train.txt"],
    "val.txt.undone": NEW["val.txt"],
}


def test_a_kill_at_every_step_leaves_the_old_set_or_the_new_one(
    tmp_path: Path, kill_at_every_step: Callable[..., list[Path]]
) -> None:
    roots = kill_at_every_step(lambda root: fill(root, BEFORE), act)
    assert len(roots) > 25
    seen = []
    for root in roots:
        left = texts(root)
        # Nobody sees a mixture: while names change, the lists are the old, the new, or not there.
        assert left.get("train.txt") != NEW["train.txt"] or left.get("val.txt") != OLD["val.txt"]
        assert left.get("train.txt") != OLD["train.txt"] or left.get("val.txt") != NEW["val.txt"]
        annotation.read(root, lists=[])  # any command that reads a data set
        found = texts(root)
        assert found in (BEFORE, AFTER)
        seen.append(found == AFTER)
        act(root)
        assert texts(root) == AFTER
        names = {path.name for path in (root / journal.FOLDER).iterdir()}
        assert names == {"0001.json", "lock"}
    assert seen == sorted(seen)  # old until the record is written, new from then on
    assert {*seen} == {False, True}


def test_a_kill_while_a_change_is_taken_back_is_finished_later(
    kill_at_every_step: Callable[..., list[Path]],
) -> None:
    def prepare(root: Path) -> None:
        fill(root, BEFORE)
        act(root)

    seen = []
    for root in kill_at_every_step(prepare, journal.undo):
        journal.finish_interrupted(root)
        found = texts(root)
        assert found in (AFTER, BACK)
        if found == AFTER:
            journal.undo(root)
        assert texts(root) == BACK
        seen.append(found == BACK)
    assert {*seen} == {False, True}


def test_what_a_user_wrote_after_a_kill_is_kept(kill_at_every_step):
    for root in kill_at_every_step(lambda root: fill(root, BEFORE), act):
        fill(root, {"train.txt": "by hand", "val.txt": "by hand too"})
        before = {*texts(root).values()}
        journal.finish_interrupted(root)
        assert before <= {*texts(root).values()}


def test_a_read_only_data_set_is_refused_clearly(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(tmp_path))

    fill(tmp_path, OLD)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PaddlexMLError, match="cannot be changed: Read-only file system") as caught:
        journal.apply(tmp_path, "split", NEW)
    assert caught.value.fix.startswith("make the folder writable")
    assert texts(tmp_path) == OLD


def test_a_full_disk_leaves_the_old_set_and_no_staged_file(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    fill(tmp_path, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(PaddlexMLError, match="No space left on device"):
            journal.apply(tmp_path, "split", NEW)
    assert texts(tmp_path) == OLD
    assert os.listdir(tmp_path / journal.FOLDER) == ["lock"]


@pytest.mark.parametrize("text", ['{"what": 3}', "[" * 100_000, "", '{"what": "a", "undoes": "x"}'])
def test_a_damaged_record_is_named_and_the_newest_backups_can_be_put_back(tmp_path, text):
    fill(tmp_path, OLD)
    journal.apply(tmp_path, "split", NEW)
    (tmp_path / journal.FOLDER / "0001.json").write_text(text)
    with pytest.raises(PaddlexMLError, match="recorded by another user or machine") as caught:
        journal.undo(tmp_path)
    assert caught.value.where.endswith("0001.json")
    command = caught.value.fix.partition(": ")[2]
    subprocess.run(command, shell=True, capture_output=True, check=True)
    assert {name: texts(tmp_path)[name] for name in OLD} == OLD


def test_another_process_waits_until_a_change_is_over(tmp_path):
    fill(tmp_path, OLD)
    script = (
        "import sys; from pathlib import Path; from paddlex_ml.data import journal; "
        "print('ready', flush=True); journal.apply(Path(sys.argv[1]), 'theirs', {'val.txt': 'v'})"
    )
    with journal.writing(tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        waited = threading.Event()
        assert not waited.wait(0.3)
        assert child.poll() is None
        assert texts(tmp_path) == OLD
        journal.apply(tmp_path, "ours", {"train.txt": "t"})
    assert child.wait(20) == 0
    child.stdout.close()
    found = texts(tmp_path)
    assert (found["train.txt"], found["val.txt"]) == ("t", "v")


def test_only_a_lock_appears_where_nothing_is_changed(tmp_path):
    with pytest.raises(KeyError), journal.writing(tmp_path):
        dict[str, int]()["absent"]
    with pytest.raises(PaddlexMLError, match="there is no backup"):
        journal.undo(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [
        tmp_path / journal.FOLDER / "lock"
    ]


def test_finishing_writes_nothing_where_nothing_is_pending(tmp_path):
    journal.finish_interrupted(tmp_path)
    journal.finish_interrupted(tmp_path / "not there")
    assert os.listdir(tmp_path) == []


def test_the_command_that_takes_a_change_back_works_as_printed(tmp_path):
    root = fill(tmp_path / "my set", OLD)
    journal.apply(root, "split", NEW)
    command = journal.undo_command(root)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "taken back: split"
    assert {name: texts(root)[name] for name in OLD} == OLD
    again = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert again.returncode == 2
    assert "there is no backup to put back" in again.stderr


def test_the_command_names_the_tool_from_another_drive(tmp_path, monkeypatch):
    root = fill(tmp_path / "set", OLD)
    monkeypatch.setattr(systems, "relative", lambda *_: None)
    name = journal.undo_command(root).split()[-2]
    assert os.path.isabs(name) or name == "paddlex_ml.dataset_tools.restore_backup"


def test_two_processes_with_their_own_temporary_folder_take_turns(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    script = (
        "import sys; from pathlib import Path; from paddlex_ml.data import journal; "
        "journal._WAIT = 0.1; journal.apply(Path(sys.argv[1]), 'theirs', {'val.txt': 'v'})"
    )
    other = tmp_path / "tmp"
    other.mkdir()
    with journal.writing(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env={**os.environ, "TMPDIR": str(other)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert "another process has been changing this data set" in done.stderr
    assert texts(tmp_path)["val.txt"] == OLD["val.txt"]


def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch, caplog) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    fill(tmp_path, OLD)
    monkeypatch.setattr(files, "wait_for", refuse)
    journal.apply(tmp_path, "split", NEW)
    assert texts(tmp_path)["val.txt"] == NEW["val.txt"]
    assert "is on a disk without locks" in caplog.text


def test_a_file_name_that_is_not_utf_8_is_recorded_and_taken_back(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    odd = tmp_path / "annotations" / os.fsdecode(b"\xff.json")
    odd.parent.mkdir()
    odd.write_text("{}")
    journal.apply(tmp_path, "convert", NEW, retire=[odd])
    assert not odd.exists()
    journal.undo(tmp_path)
    assert odd.read_text() == "{}"
