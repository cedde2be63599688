# SPDX-License-Identifier: Apache-2.0
"""Records, staged files and links that a stranger has put into a data set."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from paddlex_ml.data import annotation, journal
from paddlex_ml.errors import PaddlexMLError
from tests.data.test_journal import NEW, OLD, fill, texts


def forge(root: Path, record: object, staged: str = "", *, when_signed: bool = False) -> Path:
    """Write a record and a staged file as a stranger would; returns the folder of records."""
    folder = root / journal.FOLDER
    (folder / "0001.new").mkdir(parents=True)
    (folder / "0001.new" / "0").write_text(staged)
    (folder / "0001.json").write_text(json.dumps(record))
    if when_signed:
        change = msgspec.convert(record, journal.Transaction)
        digest = hashlib.sha256(staged.encode()).hexdigest()
        digests = [digest for source, _ in change.arrive if ".new/" in source]
        journal._record(root, 1, replace(change, digests=digests))
    return folder


ESCAPES = [
    {"aside": [["../victim/secret.txt", "images/secret.txt"]]},
    {"arrive": [[".paddlex_ml/0001.new/0", "../victim/.bashrc"]]},
    {"aside": [["{victim}/secret.txt", "secret.txt.bak"]]},
    {"arrive": [[".paddlex_ml/0001.new/0", "{victim}/.bashrc"]]},
    {"arrive": [["../victim/secret.txt", "secret.txt"]]},
    {"arrive": [[".paddlex_ml/0001.new/0", ".git/hooks/post-commit"]]},
    {"arrive": [[".paddlex_ml/0001.new/0", "run.py"]]},
    {"arrive": [[".paddlex_ml/0001.new/0", "linked/new.txt"]]},
    {"aside": [["linked/secret.txt", "linked/secret.txt.bak"]]},
    {"aside": [["train.txt", "linked/train.txt.bak"]]},
    {"aside": [["train.txt", "val.txt"]]},
    {"arrive": [["train.txt", "train.txt"]]},
    {"arrive": [[".paddlex_ml/0001.new/0", ".paddlex_ml/0001.new/0"]]},
]


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("places", ESCAPES)
def test_the_record_of_a_stranger_moves_nothing(
    tmp_path: Path, places: dict[str, list[list[str]]], is_signed: bool, caplog
) -> None:
    victim, root = tmp_path / "victim", tmp_path / "set"
    fill(victim, {"secret.txt": "secret", ".bashrc": "mine"})
    fill(root, OLD)
    (root / "linked").symlink_to(victim)
    named = json.loads(json.dumps(places).replace("{victim}", str(victim)))
    forge(root, {"what": "forged", **named}, "evil", when_signed=is_signed)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # A place of a kind that we write; a backup lies beside its original.
    through_link = is_signed and ("linked/new" in str(places) or "linked/secret" in str(places))
    if through_link:
        with pytest.raises(PaddlexMLError, match=r"linked is a link to .*victim"):
            annotation.read(root, lists=[])
    else:
        annotation.read(root, lists=[])
        assert "is the record of an unfinished change by another user or machine" in caplog.text
    match = "linked is a link" if through_link else "recorded by another user or machine"
    with pytest.raises(PaddlexMLError, match=match):
        journal.undo(root)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    after.pop(root / journal.FOLDER / "lock", None)
    assert after == before


def test_without_a_backup_none_is_promised(tmp_path: Path) -> None:
    forge(fill(tmp_path / "my set", OLD), {"what": "forged"})
    with pytest.raises(PaddlexMLError, match="recorded by another user") as caught:
        journal.undo(tmp_path / "my set")
    command = caught.value.fix.partition(": ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    with pytest.raises(PaddlexMLError, match="there is no backup to put back"):
        journal.undo(tmp_path / "my set")


def test_a_change_goes_on_beside_the_record_of_a_stranger(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    folder = forge(tmp_path, {"what": "forged", "arrive": [[".paddlex_ml/0001.new/0", "new.txt"]]})
    journal.apply(tmp_path, "split", NEW)
    assert {name: texts(tmp_path)[name] for name in NEW} == NEW
    assert sorted(os.listdir(folder)) == ["0001.json", "0001.new", "0002.json", "lock"]
    assert journal.undo(tmp_path).what == "taken back: split"
    assert {name: texts(tmp_path)[name] for name in OLD} == OLD


def test_a_record_that_was_changed_or_copied_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    journal.apply(tmp_path, "split", NEW)
    path = tmp_path / journal.FOLDER / "0001.json"
    record = json.loads(path.read_text())
    path.rename(path.with_name("0002.json"))  # the number is signed too
    with pytest.raises(PaddlexMLError, match="recorded by another user"):
        journal.undo(tmp_path)
    record["aside"] = [["val.txt", "train.txt.bak"]]
    path.with_name("0002.json").unlink()
    path.write_text(json.dumps(record))
    with pytest.raises(PaddlexMLError, match="recorded by another user"):
        journal.undo(tmp_path)


@pytest.mark.parametrize("staged", ["cat.jpg\t0\n", NEW["train.txt"]])
def test_files_put_beside_an_old_record_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, staged: str
) -> None:
    fill(tmp_path, OLD)
    journal.apply(tmp_path, "split", {"train.txt": NEW["train.txt"]})
    if staged == NEW["train.txt"]:  # the very file that the record is about
        journal.apply(tmp_path, "again", {"train.txt": "by hand\n"})
    before = texts(tmp_path)
    (tmp_path / journal.FOLDER / "0001.new").mkdir()
    (tmp_path / journal.FOLDER / "0001.new" / "0").write_text(staged)
    journal.finish_interrupted(tmp_path)
    assert texts(tmp_path) == before
    assert "other files are staged: it is left alone" in caplog.text
    journal.apply(tmp_path, "more", {"val.txt": "more\n"})
    assert (tmp_path / "train.txt").read_text() == before["train.txt"]


def test_a_number_behind_which_there_is_none_is_told(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    (tmp_path / journal.FOLDER).mkdir()
    (tmp_path / journal.FOLDER / "999999999.json").touch()
    with pytest.raises(PaddlexMLError, match="last number that there is") as caught:
        journal.apply(tmp_path, "split", NEW)
    assert {name: texts(tmp_path)[name] for name in OLD} == OLD
    assert subprocess.run(shlex.split(caught.value.fix.partition(": ")[2])).returncode == 0
    journal.apply(tmp_path, "split", NEW)


def test_a_folder_with_the_name_of_an_incomplete_record_stays(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    (tmp_path / journal.FOLDER / ".0001.json.x").mkdir(parents=True)
    journal.apply(tmp_path, "split", NEW)
    assert (tmp_path / journal.FOLDER / ".0001.json.x").is_dir()


@pytest.mark.parametrize("name", ["0001.json", "lock"])
def test_a_pipe_in_place_of_a_record_does_not_block(tmp_path: Path, name: str) -> None:
    fill(tmp_path, OLD)
    (tmp_path / journal.FOLDER / "0001.new").mkdir(parents=True)
    os.mkfifo(tmp_path / journal.FOLDER / name)
    annotation.read(tmp_path, lists=[])
    journal.apply(tmp_path, "split", NEW)
    assert {key: texts(tmp_path)[key] for key in NEW} == NEW


def test_links_to_the_lock_and_the_records_are_set_aside(tmp_path: Path, caplog) -> None:
    victim, root = tmp_path / "victim", fill(tmp_path / "set", OLD)
    fill(victim, {"0001.new/0": "kept", "lock": "kept"})
    (root / journal.FOLDER).symlink_to(victim)
    annotation.read(root, lists=[])
    journal.apply(root, "split", NEW)
    assert "was a link to" in caplog.text
    assert os.readlink(root / f"{journal.FOLDER}.bak") == str(victim)
    (root / journal.FOLDER / "lock").unlink()
    (root / journal.FOLDER / "lock").symlink_to(victim / "lock")
    journal.undo(root)
    assert {path.name: path.read_text() for path in victim.rglob("*") if path.is_file()} == {
        "0": "kept",
        "lock": "kept",
    }


def test_a_file_of_others_among_the_staged_ones_stays(tmp_path: Path) -> None:
    fill(tmp_path, {**OLD, f"{journal.FOLDER}/0001.new/0": "half", "kept.txt": ""})
    (tmp_path / journal.FOLDER / "0001.new" / "notes.txt").write_text("mine")
    journal.apply(tmp_path, "split", NEW)
    assert os.listdir(tmp_path / journal.FOLDER / "0001.new") == ["notes.txt"]


def test_a_staged_folder_that_is_a_link_loses_nothing(tmp_path: Path) -> None:
    victim, root = fill(tmp_path / "victim", {"0": "mine", "1": "mine"}), fill(tmp_path / "s", OLD)
    (root / journal.FOLDER).mkdir()
    (root / journal.FOLDER / "0001.new").symlink_to(victim)
    journal.apply(root, "split", NEW)
    assert {path.name for path in victim.iterdir()} == {"0", "1"}
    assert os.readlink(root / journal.FOLDER / "0001.new.bak") == str(victim)


def test_a_number_that_no_file_name_can_follow_is_nobodys(tmp_path: Path) -> None:
    fill(tmp_path, {**OLD, f"{journal.FOLDER}/{'9' * 240}.json": "{}"})
    journal.apply(tmp_path, "split", NEW)
    assert (tmp_path / journal.FOLDER / "0001.json").is_file()
    assert journal.undo(tmp_path).what == "taken back: split"
