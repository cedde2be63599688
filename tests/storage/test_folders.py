# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from paddlex_ml.storage.folders import replacing

OLD = {"inference.json": "old graph", "inference.yml": "old", "notes.txt": "mine", "deep/a": "a"}
NEW = {"inference.json": "new graph", "inference.yml": "new"}
MIXED = {**NEW, "notes.txt": "mine", "deep/a": "a"}


def fill(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def export(root: Path) -> None:
    with replacing(root / "inference") as fresh:
        fill(fresh, NEW)


@pytest.fixture(params=["in one step", "in three renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How two folders swap their names: as Linux can, or as systems and disks must that cannot."""
    if request.param == "in three renames":
        nothing = SimpleNamespace(renameat2=lambda *_: -1)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: nothing)
    return str(request.param)


def test_a_folder_that_was_not_there_is_made_with_its_parents(tmp_path: Path) -> None:
    export(tmp_path / "deep")
    assert read(tmp_path) == {f"deep/inference/{name}": text for name, text in NEW.items()}


@pytest.mark.usefixtures("way")
def test_products_are_replaced_and_what_is_a_users_stays(tmp_path: Path) -> None:
    fill(tmp_path / "inference", OLD | {"inference.pdmodel": "of another format"})
    (tmp_path / "inference" / "link").symlink_to("notes.txt")
    export(tmp_path)
    assert read(tmp_path / "inference") == MIXED | {"link": "mine"}
    assert os.readlink(tmp_path / "inference" / "link") == "notes.txt"
    assert os.listdir(tmp_path) == ["inference"]


@pytest.mark.parametrize("links", [True, False])
def test_files_of_a_user_are_copied_where_the_disk_has_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    fill(tmp_path / "inference", OLD)
    number = (tmp_path / "inference" / "notes.txt").stat().st_ino
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: os.stat(tmp_path / "missing"))
    export(tmp_path)
    assert read(tmp_path / "inference") == MIXED
    assert ((tmp_path / "inference" / "notes.txt").stat().st_ino == number) == links


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_folder_and_leaves_nothing_beside_it(
    tmp_path: Path, error: BaseException
) -> None:
    def fail() -> None:
        with replacing(tmp_path / "inference") as fresh:
            fill(fresh, {"inference.json": "ne"})
            raise error

    fill(tmp_path / "inference", OLD)
    with pytest.raises(type(error)):
        fail()
    assert read(tmp_path) == {f"inference/{name}": text for name, text in OLD.items()}


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", OLD)
    (tmp_path / "inference").symlink_to("elsewhere")
    export(tmp_path)
    assert (tmp_path / "inference").is_symlink()
    assert read(tmp_path / "elsewhere") == MIXED


def test_a_file_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "inference").write_text("mine")
    with pytest.raises(NotADirectoryError):
        export(tmp_path)
    assert read(tmp_path) == {"inference": "mine"}


def test_a_kill_at_every_step_leaves_the_old_folder_or_the_new_one(
    kill_at_every_step: Callable[..., list[Path]], way: str
) -> None:
    roots = kill_at_every_step(lambda root: fill(root / "inference", OLD), export)
    assert len(roots) > 8
    endings = [read(root / "inference") for root in roots]
    gone = [ending for ending in endings if not ending]
    assert len(gone) == (0 if way == "in one step" else 1)
    assert all(ending in (OLD, MIXED, {}) for ending in endings)
    assert (endings[0], endings[-1]) == (OLD, MIXED)
    for root in roots:  # and the next export works, whatever was left there
        export(root)
        assert read(root) == {f"inference/{name}": text for name, text in MIXED.items()}
