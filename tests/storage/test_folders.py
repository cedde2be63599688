# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, folders

LOCK = ".paddlex_ml.lock"
PRODUCTS = ("inference.json", "inference.yml", "inference.pdmodel")
OLD = {"inference.json": "old graph", "inference.yml": "old", "notes.txt": "mine", "deep/a": "a"}
NEW = {"inference.json": "new graph", "inference.yml": "new"}
MIXED = {**NEW, "notes.txt": "mine", "deep/a": "a"}


def fill(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    """Path -> content, but for the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def entries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name != LOCK]


def is_product(path: Path) -> bool:
    return path.name in PRODUCTS


def export(root: Path) -> None:
    with folders.replacing(root / "inference", is_product) as fresh:
        fill(fresh, NEW)


def test_a_folder_that_was_not_there_is_made_with_its_parents(tmp_path: Path) -> None:
    export(tmp_path / "deep")
    assert read(tmp_path) == {f"deep/inference/{name}": text for name, text in NEW.items()}


@pytest.mark.usefixtures("way_to_swap")
def test_products_are_replaced_and_what_is_a_users_stays(tmp_path: Path) -> None:
    fill(tmp_path / "inference", OLD | {"inference.pdmodel": "of another format"})
    (tmp_path / "inference" / "link").symlink_to("notes.txt")
    export(tmp_path)
    assert read(tmp_path / "inference") == MIXED | {"link": "mine"}
    assert os.readlink(tmp_path / "inference" / "link") == "notes.txt"
    assert entries(tmp_path) == ["inference"]


def test_a_folder_keeps_its_permissions(tmp_path: Path) -> None:
    fill(tmp_path / "inference", OLD)
    (tmp_path / "inference").chmod(0o2775)
    export(tmp_path)
    assert (tmp_path / "inference").stat().st_mode & 0o7777 == 0o2775


def test_a_folder_is_replaced_where_no_lock_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "inference", OLD)
    monkeypatch.setattr(files, "lock_of", Mock(side_effect=OSError(28, "No space left on device")))
    export(tmp_path)
    assert read(tmp_path / "inference") == MIXED


def test_a_replacement_that_waits_for_another_process_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import sys; from pathlib import Path; from paddlex_ml.storage import files\n"
        "with files.one_at_a_time(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    folder = tmp_path / "inference"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with caplog.at_level("INFO"), ThreadPoolExecutor() as pool:
            waiting = pool.submit(export, tmp_path)
            while "waiting for it" not in caplog.text:
                assert not waiting.done()
            assert not folder.exists()
            holder.stdin.close()
            waiting.result(60)
    assert read(folder) == NEW


REPLACE = """
import sys, time
from pathlib import Path
from paddlex_ml.storage import folders
for _ in range(20):
    with folders.replacing(Path(sys.argv[1]), lambda path: path.suffix == ".ours") as fresh:
        for name in "abc":
            (fresh / f"{name}.ours").write_text(sys.argv[2])
            time.sleep(0.001)
"""


def test_processes_that_replace_one_folder_take_turns(tmp_path: Path) -> None:
    fill(tmp_path / "inference", {"notes.txt": "mine"})
    processes = [
        subprocess.Popen([sys.executable, "-c", REPLACE, str(tmp_path / "inference"), str(number)])
        for number in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    content = read(tmp_path / "inference")
    assert content.pop("notes.txt") == "mine"
    assert sorted(content) == ["a.ours", "b.ours", "c.ours"]
    assert len(set(content.values())) == 1  # all files of one process
    assert entries(tmp_path) == ["inference"]


@pytest.mark.parametrize("links", [True, False])
def test_files_of_a_user_are_copied_where_the_disk_has_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    fill(tmp_path / "inference", OLD)
    number = (tmp_path / "inference" / "notes.txt").stat().st_ino
    if not links:
        refusal = OSError(errno.EPERM, os.strerror(errno.EPERM))
        monkeypatch.setattr(os, "link", Mock(side_effect=refusal))
    export(tmp_path)
    assert read(tmp_path / "inference") == MIXED
    assert ((tmp_path / "inference" / "notes.txt").stat().st_ino == number) == links


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_folder_and_leaves_nothing_beside_it(
    tmp_path: Path, error: BaseException
) -> None:
    def fail() -> None:
        with folders.replacing(tmp_path / "inference", is_product) as fresh:
            fill(fresh, {"inference.json": "ne"})
            raise error

    fill(tmp_path / "inference", OLD)
    with pytest.raises(type(error)):
        fail()
    assert read(tmp_path) == {f"inference/{name}": text for name, text in OLD.items()}


def test_where_a_link_leads_nothing_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "elsewhere", OLD)
    (tmp_path / "inference.bak").write_text("mine")
    (tmp_path / "inference").symlink_to("elsewhere")
    export(tmp_path)
    assert not (tmp_path / "inference").is_symlink()
    assert read(tmp_path / "elsewhere") == OLD
    assert os.readlink(tmp_path / "inference.bak.1") == "elsewhere"
    assert (tmp_path / "inference.bak").read_text() == "mine"
    assert "where nothing is changed; the link is inference.bak.1 now" in caplog.text


@pytest.mark.parametrize("state", ["old", "new", "new.old"])
def test_a_link_that_looks_like_a_kill_moves_nothing(tmp_path: Path, state: str) -> None:
    fill(tmp_path / "victim", {"a": "mine", "inference.yml": "mine"})
    (tmp_path / f".inference.{state}").symlink_to("victim")
    folders.finish_interrupted(tmp_path / "inference", is_product)
    assert not (tmp_path / "inference").exists()
    export(tmp_path)
    folders.finish_interrupted(tmp_path / "inference", is_product)
    assert read(tmp_path / "victim") == {"a": "mine", "inference.yml": "mine"}


def test_a_file_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "inference").write_text("mine")
    with pytest.raises(NotADirectoryError):
        export(tmp_path)
    assert read(tmp_path) == {"inference": "mine"}


def test_a_file_of_a_user_never_covers_a_new_one(tmp_path: Path) -> None:
    fill(tmp_path / "set", {"a": "mine", "b": "mine"})
    with folders.replacing(tmp_path / "set", lambda _: False) as fresh:
        fill(fresh, {"a": "new"})
    assert read(tmp_path / "set") == {"a": "new", "b": "mine"}


def test_a_rename_that_fails_gives_the_old_folder_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = systems.rename

    def fail(path: Path, target: Path) -> None:
        if path.name == ".inference.new":
            raise PermissionError(13, "Permission denied")
        rename(path, target)

    fill(tmp_path / "inference", OLD)
    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    monkeypatch.setattr(systems, "rename", fail)
    with pytest.raises(PermissionError):
        export(tmp_path)
    assert read(tmp_path) == {f"inference/{name}": text for name, text in OLD.items()}


def test_everything_is_on_the_disk_before_the_names_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for name in ("flush", "flush_folder"):
        monkeypatch.setattr(files, name, lambda path, name=name: events.append(f"{name} {path}"))
    monkeypatch.setattr(folders, "_exchange", lambda *_: events.append("exchange") or True)
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(95, "Operation not supported")))
    fill(tmp_path / "inference", OLD)
    export(tmp_path)
    fresh = tmp_path / ".inference.new"
    flushed = {f"flush {fresh / name}" for name in MIXED}
    assert flushed | {f"flush_folder {fresh}", f"flush_folder {fresh}/deep"} == {*events[:-2]}
    assert events[-2:] == ["exchange", f"flush_folder {tmp_path}"]


def test_a_kill_at_every_step_leaves_the_old_folder_or_the_new_one(
    kill_at_every_step: Callable[..., list[Path]], way_to_swap: str
) -> None:
    roots = kill_at_every_step(lambda root: fill(root / "inference", OLD), export)
    assert len(roots) > 8
    endings = [read(root / "inference") for root in roots]
    gone = [ending for ending in endings if not ending]
    assert len(gone) == (0 if way_to_swap == "in one step" else 1)
    assert all(ending in (OLD, MIXED, {}) for ending in endings)
    assert (endings[0], endings[-1]) == (OLD, MIXED)
    for root, ending in zip(roots, endings, strict=True):
        folders.finish_interrupted(root / "inference", is_product)
        assert read(root / "inference") == (ending or MIXED)
        export(root)  # the next export works, whatever was left there
        assert read(root) == {f"inference/{name}": text for name, text in MIXED.items()}


def test_what_a_kill_left_is_finished_at_every_step_of_finishing(
    kill_at_every_step: Callable[..., list[Path]],
) -> None:
    def prepare(root: Path) -> None:  # as version 0.1.0 left a checkpoint: nothing carried over yet
        fill(root / ".inference.old", OLD)
        fill(root / ".inference.new", NEW)

    def finish(root: Path) -> None:
        folders.finish_interrupted(root / "inference", is_product)

    roots = kill_at_every_step(prepare, finish)
    assert len(roots) > 5
    for root in roots:
        finish(root)
        assert read(root) == {f"inference/{name}": text for name, text in MIXED.items()}


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({".inference.old": OLD}, OLD),
        ({".inference.old": OLD, "inference": NEW}, MIXED),
        ({".inference.new.old": OLD, ".inference.new": MIXED}, OLD),  # an export of version 0.1.0
        ({".inference.new.old": OLD, "inference": MIXED}, MIXED),
        ({".inference.new": {"inference.json": "ne"}, "inference": OLD}, OLD),
    ],
)
def test_what_a_kill_left_is_finished(
    tmp_path: Path, left: dict[str, dict[str, str]], expected: dict[str, str]
) -> None:
    for name, content in left.items():
        fill(tmp_path / name, content)
    folders.finish_interrupted(tmp_path / "inference", is_product)
    assert read(tmp_path / "inference") == expected
    export(tmp_path)
    assert read(tmp_path) == {f"inference/{name}": text for name, text in MIXED.items()}


# Folders that were not there, or empty


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_the_folder_appears_when_it_is_complete(tmp_path: Path, before: str) -> None:
    output = tmp_path / "deep" / "my set"
    if before != "nothing":
        output.mkdir(parents=True)
    with folders.building(output) as fresh:
        (fresh / "a.txt").write_text("a")
        assert not (output / "a.txt").exists()
    assert names(output) == ["a.txt"]
    assert names(output.parent) == ["my set"]


def test_others_may_look_into_the_folder_as_the_system_says(tmp_path: Path) -> None:
    with folders.building(tmp_path / "set") as fresh:
        (fresh / "images").mkdir()
    modes = [(tmp_path / "set" / name).stat().st_mode for name in ("", "images")]
    assert modes[0] == modes[1]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def build() -> None:
        with folders.building(tmp_path / "set") as fresh:
            (fresh / "a.txt").write_text("a")
            raise KeyboardInterrupt

    (tmp_path / "set").mkdir()
    with pytest.raises(KeyboardInterrupt):
        build()
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == []


@pytest.mark.parametrize(
    ("full", "what"), [("set/a", "a folder with files in it"), ("set", "a file")]
)
def test_nothing_is_overwritten(tmp_path: Path, full: str, what: str) -> None:
    (tmp_path / full).parent.mkdir(exist_ok=True)
    (tmp_path / full).write_text("mine")
    with pytest.raises(PaddlexMLError, match=what), folders.building(tmp_path / "set"):
        raise AssertionError
    assert (tmp_path / full).read_text() == "mine"


def test_a_link_to_nowhere_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "set").symlink_to(tmp_path / "none")
    with pytest.raises(PaddlexMLError, match="nothing is overwritten"):
        folders.refuse_full(tmp_path / "set")


def test_a_link_to_an_empty_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set").symlink_to("elsewhere")
    with folders.building(tmp_path / "set") as fresh:
        (fresh / "a.txt").write_text("a")
    assert (tmp_path / "set").is_symlink()
    assert names(tmp_path / "elsewhere") == ["a.txt"]


def test_what_a_kill_left_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".set.abc.unfinished").mkdir()
    with folders.building(tmp_path / "set"):
        pass
    left = tmp_path / ".set.abc.unfinished"
    assert f"{left} is from a run that was killed or is still at work" in caplog.text
    assert left.is_dir()


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_a_kill_at_every_step_leaves_no_half_built_folder(
    kill_at_every_step: Callable[..., list[Path]], before: str
) -> None:
    def build(root: Path) -> None:
        with folders.building(root / "set") as fresh:
            fill(fresh, MIXED)

    prepare = (lambda root: None) if before == "nothing" else (lambda root: (root / "set").mkdir())
    roots = kill_at_every_step(prepare, build)
    assert len(roots) > 6
    endings = [read(root / "set") for root in roots]
    assert [ending for ending in endings if ending not in ({}, MIXED)] == []
    assert endings[-1] == MIXED
    assert all((root / "set").is_dir() for root in roots if before != "nothing")
    for root, ending in zip(roots, endings, strict=True):
        if not ending:
            build(root)
        assert read(root / "set") == MIXED


@pytest.mark.usefixtures("way_to_swap")
def test_a_disk_without_links_permissions_and_sync_serves_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(number: int) -> Callable[..., None]:
        def call(path: object, *_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return call

    monkeypatch.setattr(files, "_told", set())
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    monkeypatch.setattr(os, "chmod", refuse(errno.EPERM))
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    monkeypatch.setattr(os, "rmdir", refuse(errno.ENOTEMPTY))
    fill(tmp_path / "inference", OLD)
    for _ in range(3):
        export(tmp_path)
        assert read(tmp_path / "inference") == MIXED
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5
    assert len(set(told)) == 5
    assert any("hard links would save room: Operation not permitted" in text for text in told)
    assert any("a power cut may lose" in text for text in told)
    assert any("empty folders stay: Directory not empty" in text for text in told)
    monkeypatch.undo()
    export(tmp_path)  # the disk has let go of what was left
    assert entries(tmp_path) == ["inference"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_broken_or_full_disk_is_no_disk_without_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fill(tmp_path / "inference", OLD)
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(OSError, match=os.strerror(number)):
        export(tmp_path)
    assert read(tmp_path / "inference") == OLD


def test_the_folder_of_all_others_has_nothing_to_complete() -> None:
    def is_ours(entry: Path) -> bool:
        raise AssertionError(entry)

    folders.finish_interrupted(Path(Path.cwd().anchor), is_ours)
