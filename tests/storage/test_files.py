# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files


def test_a_new_file_holds_exactly_what_was_written(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    files.write_text(path, "标签 é\n")
    assert path.read_bytes() == "标签 é\n".encode()
    files.write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_output_folder_is_made_and_tried_and_left_empty(tmp_path):
    files.make_output(tmp_path / "deep" / "er")
    assert os.listdir(tmp_path / "deep" / "er") == []
    (tmp_path / "file").write_text("a user's")
    with pytest.raises(PaddlexMLError) as caught:
        files.make_output(tmp_path / "file" / "out")
    assert caught.value.where == str(tmp_path / "file" / "out")
    assert "-o Global.output=" in caught.value.fix


def test_line_ends_are_the_same_on_every_system(tmp_path):
    files.write_text(tmp_path / "a.txt", "a\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\nb\n"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), SystemExit()]
)
def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with files.replacing(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_until_the_end_the_old_file_stands(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.replacing(path) as temporary:
        assert temporary.parent == path.parent  # a rename works within one disk alone
        assert temporary.suffix == ".txt"  # some writers look at it
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_write_into_a_folder_may_lock_it(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        (tmp_path / "shared").mkdir()
        with files.lock_at(tmp_path / "shared" / "lock"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "shared" / "lock").stat().st_mode & 0o777 == mode


def test_a_folder_that_is_only_read_needs_no_lock_of_its_own_kind(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o555)
    try:
        with files.one_at_a_time(folder / "model"):  # root gets the lock, others go on without
            pass
    finally:
        folder.chmod(0o755)


def test_a_lock_that_is_held_is_the_same_after_a_change_of_permissions(tmp_path):
    with files.lock_at(tmp_path / "lock") as held:
        tmp_path.chmod(0o750)
        assert files.lock_at(tmp_path / "lock") is held


def test_json_is_readable_by_people_and_ends_with_a_newline(tmp_path):
    files.write_json(tmp_path / "a.json", {"name": "猫", "list": [1, None, True]})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert text.startswith('{\n  "name": "猫",\n')
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "猫", "list": [1, None, True]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused_and_the_old_file_stays(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"map": value})
    assert path.read_text() == "{}"


def test_a_path_that_is_not_utf_8_survives_in_json(tmp_path):
    files.write_json(tmp_path / "a.json", {"path": os.fsdecode(b"caf\xe9.jpg")})
    loaded = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert os.fsencode(loaded["path"]) == b"caf\xe9.jpg"


@pytest.mark.parametrize(
    ("number", "message", "repair"),
    [
        (errno.ENOSPC, "No space left on device", "free some space there"),
        (errno.EACCES, "Permission denied", "give yourself write permission"),
        (errno.EROFS, "Read-only file system", "the disk is read-only"),
        (errno.ENOTDIR, "Not a directory", "a file is where a folder is needed"),
        (errno.EISDIR, "Is a directory", "a folder is where a file is needed"),
    ],
)
def test_an_error_of_the_system_is_explained(number, message, repair):
    error = files.explain(OSError(number, "whatever", "output/latest"))
    assert error is not None
    assert (error.what, error.where) == (message, "output/latest")
    assert repair in error.fix
    assert "-o Global.output=" in error.fix


def test_an_error_without_a_file_is_about_the_output_folder():
    error = files.explain(OSError(errno.ENOSPC, "full"))
    assert error is not None
    assert error.where == "the output folder"


def test_a_folder_in_place_of_a_file_is_named_itself(tmp_path):
    target = tmp_path / "per_class.csv"
    target.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.write_text(target, "x")
    assert f"where: {target}\n" in str(files.explain(caught.value))


def test_what_no_user_can_repair_is_not_explained():
    assert files.explain(OSError(errno.EBADF, "bad file descriptor")) is None
    assert files.explain(FileNotFoundError(errno.ENOENT, "absent", "x")) is None


def test_a_file_in_place_of_a_folder_is_explained(tmp_path):
    (tmp_path / "output").write_text("")
    with pytest.raises(OSError, match=r"exists|Not a directory") as caught:
        files.write_text(tmp_path / "output" / "a.txt", "x")
    error = files.explain(caught.value)
    assert error is not None
    assert error.where == str(tmp_path / "output")
    assert "a file is where a folder is needed" in error.fix


def test_a_backup_never_takes_the_name_of_another(tmp_path):
    path = tmp_path / "inference.yml"
    copies = []
    for text in ("first", "second", "third"):
        path.write_text(text)
        copies.append(files.back_up(path))
        assert path.read_text() == text
        files.write_text(path, "changed")
    assert [copy.name for copy in copies] == [
        "inference.yml.bak", "inference.yml.bak.1", "inference.yml.bak.2"
    ]  # fmt: skip
    assert [copy.read_text() for copy in copies] == ["first", "second", "third"]


def test_a_backup_is_made_on_a_disk_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.txt"
    for text in ("first", "second"):
        path.write_text(text)
        files.back_up(path)
    assert [(tmp_path / f"a.txt.bak{end}").read_text() for end in ("", ".1")] == ["first", "second"]


def test_another_folder_is_one_that_can_be_written_and_is_free(tmp_path, monkeypatch):
    (tmp_path / "work" / "output").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    assert files.write_elsewhere("/proc/x/y") == "-o Global.output=output_2"
    monkeypatch.setattr(os, "access", lambda path, _: path != Path())
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "a b"))
    (tmp_path / "a b").mkdir()
    assert files.write_elsewhere("x") == f"-o 'Global.output={tmp_path}/a b/output'"


def test_a_named_pipe_is_set_aside_before_a_writer_waits_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "train.log"
    os.mkfifo(path)
    files.set_link_aside(path)
    assert not path.exists()
    assert (tmp_path / "train.log.bak").is_fifo()
    assert f"{path} was no plain file: it is train.log.bak now" in caplog.text


def test_windows_flushes_what_is_open_for_writing(tmp_path, monkeypatch):
    """Its `_commit` refuses other files with EBADF."""

    def commit(file: int) -> None:
        os.write(file, b"")  # EBADF for a file that is open for reading
        flushed.append(file)

    flushed: list[int] = []
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    monkeypatch.setattr(os, "fsync", commit)
    files.write_text(tmp_path / "a.txt", "whole")
    files.flush_folder(tmp_path)
    assert len(flushed) == 1
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_file_that_a_program_has_open_is_explained_on_windows(tmp_path, monkeypatch):
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Access is denied", str(source), 5, str(target))

    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    monkeypatch.setattr(systems, "_PATIENCE", 0.0)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError) as caught:
        files.write_text(tmp_path / "per_class.csv", "x")
    error = files.explain(caught.value)
    assert error is not None
    assert error.where == str(tmp_path / "per_class.csv")
    assert error.fix.startswith("close the program that has it open, such as Excel; otherwise give")
    assert os.listdir(tmp_path) == []
