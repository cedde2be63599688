# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.config.schema import SOURCES
from paddlex_ml.data import annotation, check, journal
from paddlex_ml.data.annotation import LISTS
from paddlex_ml.data.split import Division
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry, rewrite
from paddlex_ml.formats.collector import Options

NAMES = ["cat", "dog", "rare"]
HALF = Division(val_percent=50)


def touch(root: Path, count: int) -> list[str]:
    """Make image files (nothing in them: no reader opens them) and return their names."""
    (root / "images").mkdir(parents=True)
    names = [f"{i:02d}.jpg" for i in range(count)]
    for name in names:
        (root / "images" / name).touch()
    return names


def write_lists(root: Path, train: int = 8, val: int = 4) -> None:
    names = [f"images/{name}" for name in touch(root, train + val)]
    targets = np.zeros((len(names), 3), np.uint8)
    targets[::2, 0] = targets[::3, 1] = 1
    targets[:2, 2] = 1
    annotation.write_labels(root / "label.txt", NAMES)
    annotation.write_list(root / "train.txt", names[:train], targets[:train])
    if val:
        annotation.write_list(root / "val.txt", names[train:], targets[train:])


def write_coco(root: Path, lists: tuple[str, ...] = ("train", "val")) -> None:
    names = touch(root, 12)
    (root / "annotations").mkdir()
    for number, key in enumerate(lists):
        mine = names[number :: len(lists)]
        content = {
            "images": [{"id": int(name[:2]), "file_name": name} for name in mine],
            "annotations": [
                {"id": i, "image_id": int(name[:2]), "category_id": 3 + 4 * (i % 3)}
                for i, name in enumerate(mine)
            ],
            "categories": [{"id": 3 + 4 * i, "name": name} for i, name in enumerate(NAMES)],
        }
        (root / "annotations" / f"instance_{key}.json").write_text(json.dumps(content))


def lines(root: Path) -> Counter[str]:
    """How often each line stands in the lists of a data set."""
    read = ((root / f"{name}.txt").read_text().splitlines() for name in ("train", "val"))
    return Counter(line for text in read for line in text)


def snapshot(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    names = ((path.relative_to(root).as_posix(), path) for path in files)
    return {n: p.read_bytes() for n, p in names if not n.startswith(journal.FOLDER)}


def test_every_format_of_the_configuration_has_a_reader():
    assert (registry.AUTO, *registry.FORMATS) == SOURCES


def test_a_division_keeps_every_line_and_makes_backups(tmp_path):
    write_lists(tmp_path)
    before, old = lines(tmp_path), snapshot(tmp_path)
    result = rewrite.resplit(tmp_path, HALF)
    assert lines(tmp_path) == before
    now = snapshot(tmp_path)
    assert now["train.txt.bak"] == old["train.txt"]
    assert now["val.txt.bak"] == old["val.txt"]
    assert "label.txt.bak" not in now
    dataset = annotation.read(tmp_path)
    assert (len(dataset.train), len(dataset.val)) == (6, 6)
    assert (dataset.train.targets.any(axis=0) & dataset.val.targets.any(axis=0)).all()
    assert result.images == ("all images", 8, 4, 6, 6)
    assert sorted(row[:3] for row in result.classes) == [
        ("cat", 4, 2),
        ("dog", 3, 1),
        ("rare", 2, 0),
    ]


def test_a_second_division_with_the_same_seed_changes_nothing(tmp_path):
    write_lists(tmp_path)
    rewrite.resplit(tmp_path, HALF)
    once = snapshot(tmp_path)
    summary = rewrite.resplit(tmp_path, HALF).format_lines(tmp_path)
    assert "the lists are already as asked" in summary
    assert snapshot(tmp_path) == once


def test_a_division_is_taken_back(tmp_path):
    write_lists(tmp_path)
    old = snapshot(tmp_path)
    rewrite.resplit(tmp_path, HALF)
    journal.undo(tmp_path)
    now = snapshot(tmp_path)
    assert {name: now[name] for name in old} == old
    assert {*now} - {*old} == {"train.txt.undone", "val.txt.undone"}


def test_one_list_alone_is_divided_in_two(tmp_path):
    write_lists(tmp_path, train=12, val=0)
    before = Counter((tmp_path / "train.txt").read_text().splitlines())
    rewrite.resplit(tmp_path, Division(val_percent=25))
    assert lines(tmp_path) == before
    assert len((tmp_path / "val.txt").read_text().splitlines()) == 3


def test_the_same_image_in_both_lists_is_refused_and_nothing_changes(tmp_path):
    write_lists(tmp_path)
    (tmp_path / "val.txt").write_text((tmp_path / "train.txt").read_text())
    old = snapshot(tmp_path)
    with pytest.raises(PaddlexMLError, match="8 images are listed more than once"):
        rewrite.resplit(tmp_path, HALF)
    assert snapshot(tmp_path) == old


def test_faulty_lists_are_refused_with_file_and_line(tmp_path):
    write_lists(tmp_path)
    with (tmp_path / "val.txt").open("a") as file:
        file.write("images/00.jpg\t0,1\n")
    old = snapshot(tmp_path)
    with pytest.raises(PaddlexMLError, match="label vector has 2 values") as caught:
        rewrite.resplit(tmp_path, HALF)
    assert caught.value.where == f"{tmp_path}/val.txt:5"
    assert snapshot(tmp_path) == old


def test_frames_of_a_video_stay_together(tmp_path):
    write_lists(tmp_path)
    division = Division(val_percent=50, group_regex=r"/(\d)")
    rewrite.resplit(tmp_path, division)
    dataset = annotation.read(tmp_path)
    first = {path[7] for path in dataset.train.paths}, {path[7] for path in dataset.val.paths}
    assert sorted(map(sorted, first)) == [["0"], ["1"]]


def test_coco_becomes_lists_that_our_own_reader_takes(tmp_path):
    write_coco(tmp_path)
    result = rewrite.convert(tmp_path, "COCO", Options())
    dataset = annotation.read(tmp_path)
    assert dataset.label_names == NAMES
    assert (len(dataset.train), len(dataset.val)) == (6, 6)
    assert result.lists == ("train", "val")
    assert (tmp_path / "annotations" / "instance_train.json.bak").is_file()
    summary = result.format_lines(tmp_path)
    assert "annotations/instance_train.json is now annotations/instance_train.json.bak" in summary
    assert summary[-1] == f"to take this back: {journal.undo_command(tmp_path)}"


def test_a_second_conversion_says_that_it_happened_and_how_to_undo_it(tmp_path):
    write_coco(tmp_path)
    rewrite.convert(tmp_path, "COCO", Options())
    old = snapshot(tmp_path)
    with pytest.raises(PaddlexMLError, match="converted already") as caught:
        rewrite.convert(tmp_path, "COCO", Options())
    assert "restore_backup.py" in caught.value.fix
    assert "CheckDataset.convert.enable=false" in caught.value.fix
    assert snapshot(tmp_path) == old
    journal.undo(tmp_path)
    rewrite.convert(tmp_path, "COCO", Options())
    assert annotation.read(tmp_path).label_names == NAMES


def test_a_source_with_one_list_gives_one_list_and_an_old_val_list_steps_aside(tmp_path):
    write_coco(tmp_path, ("train",))
    (tmp_path / "val.txt").write_text("of other classes\n")
    result = rewrite.convert(tmp_path, "COCO", Options())
    assert result.lists == ("train",)
    assert not (tmp_path / "val.txt").exists()
    assert (tmp_path / "val.txt.bak").read_text() == "of other classes\n"
    assert len((tmp_path / "train.txt").read_text().splitlines()) == 12


def test_conversion_and_division_are_one_change(tmp_path):
    write_coco(tmp_path, ("train",))
    result = rewrite.convert(tmp_path, "COCO", Options(), Division(val_percent=25))
    assert result.images == ("all images", 12, 0, 9, 3)
    assert (tmp_path / journal.FOLDER / "0001.json").exists()
    assert not (tmp_path / journal.FOLDER / "0002.json").exists()
    journal.undo(tmp_path)
    assert not (tmp_path / "train.txt").exists()


def test_a_class_on_one_side_is_told(tmp_path):
    write_lists(tmp_path)
    text = (tmp_path / "train.txt").read_text().replace("\t1,1,1\n", "\t1,1,0\n")
    (tmp_path / "train.txt").write_text(text)
    summary = rewrite.resplit(tmp_path, HALF).format_lines(tmp_path)
    sides = [f"1 class has one image only, in {side}: rare" for side in LISTS]
    assert len({*sides} & {*summary}) == 1


Act = Callable[[Path], object]
DEEDS: dict[str, tuple[Act, Act]] = {
    "convert": (write_coco, lambda root: rewrite.convert(root, "COCO", Options())),
    "convert and split": (write_coco, lambda root: rewrite.convert(root, "COCO", Options(), HALF)),
    "split": (write_lists, lambda root: rewrite.resplit(root, HALF)),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_kill_at_every_step_loses_nothing_and_running_again_works(
    tmp_path: Path, kill_at_every_step: Callable[[Act, Act], list[Path]], deed: str
) -> None:
    prepare, act = DEEDS[deed]
    (tmp_path / "model").mkdir()
    prepare(tmp_path / "model")
    old = snapshot(tmp_path / "model")
    act(tmp_path / "model")
    new = snapshot(tmp_path / "model")
    seen = set()
    roots = kill_at_every_step(prepare, act)
    assert len(roots) > 15
    for root in roots:
        assert {*old.values()} <= {*snapshot(root).values()}  # under one name or another
        journal.finish_interrupted(root)
        found = snapshot(root)
        assert found in (old, new)
        seen.add(found == new)
        if found == old:
            act(root)
            assert snapshot(root) == new
    assert seen == {False, True}


def test_relations_complete_the_labels_of_a_conversion(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "relations.yaml").write_text("implies: {rare: dog}\n")
    draft = rewrite.draft_conversion(tmp_path, "auto", Options())
    known, faults = check.read_relations(draft.parsed, required=True)
    assert faults == []
    assert known is not None
    rewritten = draft.complete(known).write()
    assert {name: done[1:] for name, done in rewritten.completed.items()} == {
        "train": (2, 0, 0, 0),
        "val": (2, 0, 0, 0),
    }
    dataset = annotation.read(tmp_path)
    for images in (dataset.train, dataset.val):
        assert (images.targets[:, 1] >= images.targets[:, 2]).all()
    journal.undo(tmp_path)
    assert not (tmp_path / "train.txt").exists()


def test_the_tool_renames_classes_and_takes_a_choice_about_uncertain_labels(tmp_path):
    touch(tmp_path, 2)
    (tmp_path / "x.csv").write_text("image,cat,dog,puppy\n00.jpg,1,0,-1\n01.jpg,-1,1,0\n")
    door = Path(__file__).resolve().parents[2] / "dataset_tools" / "convert.py"
    command = [sys.executable, str(door), str(tmp_path), "--rename", "puppy=dog", "cat=feline"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "label.txt").read_text() == "0 feline\n1 dog\n"
    lines = "images/00.jpg\t1,-1\nimages/01.jpg\t-1,1\n"
    assert (tmp_path / "train.txt").read_text() == lines
    assert "labels: 2 of 4 are unknown" in done.stdout
    subprocess.run([*command, "--uncertain", "negative"], capture_output=True, check=True)
    assert (tmp_path / "train.txt").read_text() == lines.replace("-1", "0")
    assert ", are unknown; to take them for present: --uncertain positive\n" in done.stdout
    assert "CheckDataset" not in done.stdout
    failed = subprocess.run([*command, "--rename", "pup=dog"], capture_output=True, text=True)
    assert "  where: --rename\n" in failed.stderr
    assert failed.returncode == 2
    assert "no class has the name 'pup'" in failed.stderr
