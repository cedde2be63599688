# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import places


@pytest.mark.parametrize("name", ["a", "a/b.txt", "..a", "a..", "Ünïcode/図.txt", "a b", "ab:c"])
def test_plain_relative_paths_are_inner(name: str) -> None:
    assert places.is_inner(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../a", "a/../b", "a/..", "/a", "//host/a", "a//b", "./a", "a/"),
        *("C:/a", "c:a", "\\\\host\\a", "a\\..\\b", "a\0b"),
    ],
)
def test_everything_else_is_not(name: str) -> None:
    assert not places.is_inner(name)


def test_a_link_on_the_way_out_is_refused_and_the_repair_works_as_printed(tmp_path: Path) -> None:
    root, outside = tmp_path / "my set", tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "a.json").write_text("{}")
    root.mkdir()
    (root / "annotations").symlink_to(outside)
    with pytest.raises(
        PaddlexMLError, match=r"annotations is a link to .*outside, where"
    ) as caught:
        places.refuse_linked(root, ["train.txt", "annotations/deep/a.json"])
    command = caught.value.fix.partition(": ")[2]
    subprocess.run(command, shell=True, check=True)
    places.refuse_linked(root, ["annotations/deep/a.json"])
    shutil.rmtree(root / "annotations")
    assert (outside / "deep" / "a.json").read_text() == "{}"


def test_links_of_files_and_links_inside_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "set" / "real").mkdir(parents=True)
    (tmp_path / "set" / "inside").symlink_to("real")
    (tmp_path / "set" / "train.txt").symlink_to(tmp_path / "list")
    places.refuse_linked(tmp_path / "set", ["train.txt", "inside/a.json", "none/b.json"])
    (tmp_path / "named").symlink_to(tmp_path / "set")  # the user has named the data set by a link
    places.refuse_linked(tmp_path / "named", ["inside/a.json"])
