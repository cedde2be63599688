# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from paddlex_ml import cli
from paddlex_ml.config.schema import (
    CheckDatasetConfig,
    Config,
    ConvertConfig,
    GlobalConfig,
    RepairConfig,
    SplitConfig,
    TrainConfig,
)
from paddlex_ml.data import annotation, check, journal
from paddlex_ml.engines import check_dataset
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import exporters
from paddlex_ml.pictures import dataset_page, plots

KEYS = [
    *("done_flag", "check_pass", "attributes", "analysis", "dataset_path", "show_type"),
    *("dataset_type", "warnings", "report"),
]


def configure(root: Path | None, output: Path, num_classes: int | None = None) -> Config:
    return Config(
        Global=GlobalConfig(
            model="PP-LCNet_x1_0_ML", mode="check_dataset", dataset_dir=root, output=output
        ),
        Train=TrainConfig(learning_rate=1e-3, warmup_steps=1, num_classes=num_classes),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve train and two val images of two classes; every base name twice, in two folders."""
    root = tmp_path / "set"
    annotation.write_labels(root / "label.txt", ["猫", "dog"])
    lists = {"train": 12, "val": 2}
    for key, number in lists.items():
        paths = [f"{key}/{i % 2}/{i // 2}.{'bmp' if i > 9 else 'jpg'}" for i in range(number)]
        for i, path in enumerate(paths):
            pixels = np.random.default_rng([len(key), i]).integers(0, 256, (40, 35, 3))
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / path)
        annotation.write_list(root / f"{key}.txt", paths, np.ones((number, 2), np.uint8))
    return root


def run(config: Config) -> dict[str, Any]:
    """The content of the result file."""
    content: dict[str, Any] = msgspec.to_builtins(check_dataset.run(config))
    return content


def files_below(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.endswith("lock"))


def test_the_result_has_the_documented_keys_in_order_and_every_path_exists(
    folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    result = run(configure(folder, output))
    assert list(result) == KEYS
    attributes = result["attributes"]
    assert list(attributes) == [
        "label_file",
        "num_classes",
        "train_samples",
        "train_sample_paths",
        "val_samples",
        "val_sample_paths",
    ]
    assert attributes["label_file"] == "../set/label.txt"
    numbers = [attributes[key] for key in ("num_classes", "train_samples", "val_samples")]
    assert numbers == [2, 12, 2]
    paths = [*attributes["train_sample_paths"], *attributes["val_sample_paths"]]
    assert len(paths) == len({path.lower() for path in paths}) == 12
    assert sorted([*paths, *result["analysis"].values()]) == files_below(output)
    assert result["report"]["class_counts"]["train"] == {"猫": 12, "dog": 12}
    assert json.loads(json.dumps(result)) == result


def test_pictures_of_an_earlier_run_do_not_stay_and_foreign_files_do(
    folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "output" / "check_dataset"
    (place / "demo_img").mkdir(parents=True)
    (place / "demo_img" / "old.jpg").touch()
    (place / "notes.txt").touch()
    check_dataset.run(configure(folder, tmp_path / "output"))
    found = files_below(place)
    assert "demo_img/old.jpg" not in found
    assert "notes.txt" in found
    assert len(found) == 15
    assert {*os.listdir(tmp_path / "output")} == {"check_dataset", ".paddlex_ml.lock"}


def test_a_kill_at_every_step_leaves_the_pictures_of_one_run(
    folder: Path,
    kill_at_every_step: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    way_to_swap: str,
) -> None:
    def draw(_dataset: object, demos: Path, _seed: int) -> dict[str, list[str]]:
        demos.mkdir()
        (demos / "new.jpg").write_bytes(b"new")
        return {"train": [], "val": []}

    def write(path: Path, *_: object) -> None:
        path.write_bytes(b"new")

    def prepare(root: Path) -> None:
        for name in ("demo_img/old.jpg", *others):
            (root / "check_dataset" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "check_dataset" / name).write_text("old")

    def act(root: Path) -> None:
        check_dataset._draw_pictures(report, root, seed=0)

    others = ("histogram.png", "report.html", "mine/notes.txt")
    report = check.check(folder, workers=0)
    monkeypatch.setattr(check_dataset, "_draw_demos", draw)
    monkeypatch.setattr(check_dataset, "_fill_page", lambda *_: None)  # no thread after a fork
    monkeypatch.setattr(plots, "histogram", write)
    monkeypatch.setattr(dataset_page, "write", write)
    old = {"demo_img/old.jpg": "old"} | dict.fromkeys(others, "old")
    new = {"demo_img/new.jpg": "new"} | dict.fromkeys(others, "new") | {"mine/notes.txt": "old"}
    endings = []
    for root in kill_at_every_step(prepare, act):
        place = root / "check_dataset"
        endings.append({name: (place / name).read_text() for name in files_below(place)})
        act(root)
        assert {name: (place / name).read_text() for name in files_below(place)} == new
        assert {*os.listdir(root)} == {"check_dataset", ".paddlex_ml.lock"}
    assert endings.count({}) == (0 if way_to_swap == "in one step" else 1)
    assert [ending for ending in endings if ending not in (old, new, {})] == []
    assert (endings[0], endings[-1]) == (old, new)


def test_a_failed_check_names_every_fault_and_draws_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "0" / "0.jpg").write_bytes(b"")
    lines = (folder / "train.txt").read_text().splitlines()
    lines[6] = lines[6].replace("1,1", "1,2")
    (folder / "train.txt").write_text("\n".join(lines))
    with pytest.raises(PaddlexMLError, match="2 faults of 2 kinds") as caught:
        check_dataset.run(configure(folder, tmp_path / "output"))
    assert "train.txt:7: the value of class 1 is '2'" in str(caught.value)
    assert "train.txt:1: train/0/0.jpg: the image file is empty" in str(caught.value)
    assert files_below(tmp_path / "output") == ["check_dataset/faults.csv"]


def test_no_dataset_dir_names_the_override(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match=r"-o Global\.dataset_dir="):
        check_dataset.run(configure(None, tmp_path))


def test_a_contradicting_class_count_is_a_warning_with_the_override(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(configure(folder, tmp_path / "output", num_classes=33))
    (warning,) = result["warnings"]
    assert "Train.num_classes is 33, but label.txt names 2 classes" in warning
    assert "-o Train.num_classes=2" in warning
    assert warning in caplog.text


def test_without_a_terminal_progress_is_ten_log_lines_at_most(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        check_dataset.run(configure(folder, tmp_path / "output"))
    lines = [text for text in caplog.messages if text.startswith("decoded")]
    assert lines[-1] == "decoded images: 14 of 14"
    assert len(lines) <= 10


def test_large_images_become_small_ones_in_the_demo_folder(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500)).save(folder / "val" / "0" / "0.jpg")
    result = run(configure(folder, tmp_path))
    widths = []
    for path in result["attributes"]["val_sample_paths"]:
        with Image.open(tmp_path / path) as picture:
            widths.append(picture.width)
    assert max(widths) == 1024


def test_demo_images_cover_many_classes_and_repeat_with_the_seed() -> None:
    targets = np.zeros((1000, 12), np.uint8)
    targets[:, 0] = 1
    targets[np.arange(11), np.arange(1, 12)] = 1  # eleven rare classes, one image each
    images = annotation.ImageList(Path(), ["x"] * 1000, targets)
    chosen = check_dataset.choose_varied(images, 10, seed=3)
    assert len(set(chosen)) == 10
    assert targets[chosen].any(axis=0).sum() == 11
    assert chosen == check_dataset.choose_varied(images, 10, seed=3)
    assert chosen != check_dataset.choose_varied(images, 10, seed=4)


def test_images_without_labels_can_be_chosen() -> None:
    images = annotation.ImageList(Path(), ["x"] * 3, np.zeros((3, 2), np.uint8))
    assert sorted(check_dataset.choose_varied(images, 10, seed=0)) == [0, 1, 2]


def rewrite_config(root: Path, output: Path, **sections: dict[str, Any]) -> Config:
    base = configure(root, output)
    convert = ConvertConfig(**sections.get("convert", {}))
    split = SplitConfig(**sections.get("split", {}))
    return replace(base, CheckDataset=CheckDatasetConfig(convert=convert, split=split))


EXPORTED: dict[str, dict[str, Any]] = {"convert": {"enable": True, "src_dataset_type": "CSV"}}
HALF: dict[str, dict[str, Any]] = {
    "split": {"enable": True, "train_percent": 50, "val_percent": 50}
}


def test_a_source_is_converted_divided_and_checked_in_one_run(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exporters.export(folder, "CSV")
    for name in ("label.txt", "train.txt", "val.txt"):
        (folder / name).unlink()
    config = rewrite_config(folder, tmp_path / "output", **EXPORTED, **HALF)
    with caplog.at_level(logging.INFO):
        result = run(config)
    assert (result["attributes"]["train_samples"], result["attributes"]["val_samples"]) == (7, 7)
    assert result["rewritten"]["files"] == [
        "label.txt is written",
        "train.txt is written",
        "val.txt is written",
    ]
    assert result["rewritten"]["class_counts"][0] == {
        "name": "猫", "train_before": 12, "val_before": 2, "train_after": 7, "val_after": 7,
    }  # fmt: skip
    assert "images of each class, the most uneven first:" in caplog.text
    assert f"to take this back: {journal.undo_command(folder)}" in caplog.text


def test_the_account_of_a_conversion_is_on_the_page(folder: Path, tmp_path: Path) -> None:
    exporters.export(folder, "CSV")
    for name in ("label.txt", "train.txt", "val.txt"):
        (folder / name).unlink()
    Image.new("RGB", (40, 30)).save(folder / "nobody.jpg")
    result = run(rewrite_config(folder, tmp_path / "output", **EXPORTED, **HALF))
    page = (tmp_path / "output" / result["analysis"]["report"]).read_text("utf-8")
    assert "What became of the annotations" in page
    assert "1 file or folder left out: no annotation names it" in page
    assert "<li>nobody.jpg</li>" in page
    left_out = result["rewritten"]["account"]["left_out_files"]
    assert left_out["no annotation names it"] == ["nobody.jpg"]
    run(configure(folder, tmp_path / "output"))
    assert "What became" not in (tmp_path / "output/check_dataset/report.html").read_text("utf-8")


def test_a_source_without_val_asks_for_a_split_first(folder: Path, tmp_path: Path) -> None:
    (folder / "val.txt").unlink()
    exporters.export(folder, "CSV")
    before = files_below(folder)
    with pytest.raises(PaddlexMLError, match="nothing is written yet") as caught:
        check_dataset.run(rewrite_config(folder, tmp_path / "output", **EXPORTED))
    assert "-o CheckDataset.split.enable=true -o CheckDataset.split.train" in caught.value.fix
    assert files_below(folder) == before
    result = run(rewrite_config(folder, tmp_path / "output", **EXPORTED, **HALF))
    assert result["attributes"]["val_samples"] == 6


def test_a_division_with_groups_and_its_table_are_in_the_result(
    folder: Path, tmp_path: Path
) -> None:
    split = {**HALF["split"], "group_regex": "^(train|val)/", "strategy": "random"}
    result = run(rewrite_config(folder, tmp_path / "output", split=split))
    sizes = result["attributes"]["train_samples"], result["attributes"]["val_samples"]
    assert sorted(sizes) == [2, 12]
    assert [row["name"] for row in result["rewritten"]["class_counts"]] == ["猫", "dog"]


def test_a_check_alone_changes_no_file_of_the_data_set(folder: Path, tmp_path: Path) -> None:
    before = files_below(folder)
    result = run(configure(folder, tmp_path / "output"))
    assert "rewritten" not in result
    assert files_below(folder) == before


def tidy_config(
    root: Path, output: Path, sections: dict[str, Any], repair: bool = False, drop: str = ""
) -> Config:
    base = rewrite_config(root, output, **sections)
    asked = replace(base.CheckDataset, repair=RepairConfig(enable=repair), drop=tuple(drop.split()))
    return replace(base, CheckDataset=asked)


def change_lines(root: Path, name: str, change: Callable[[str], str]) -> None:
    lines = (root / name).read_text(encoding="utf-8").splitlines()
    (root / name).write_text("".join(change(line) + "\n" for line in lines), encoding="utf-8")


def table(output: Path, name: str) -> list[list[str]]:
    with (output / "check_dataset" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_every_fault_is_in_a_table_that_the_error_names_and_a_sound_set_removes(
    folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    sound = (folder / "train.txt").read_text(encoding="utf-8")
    gone = "".join(f"gone/x{i}.jpg\t1,0\n" for i in range(55))
    (folder / "train.txt").write_text(sound + gone, encoding="utf-8")
    with pytest.raises(PaddlexMLError, match="and 35 more") as caught:
        check_dataset.run(configure(folder, output))
    assert f"all of them: {output / 'check_dataset' / 'faults.csv'}" in caught.value.what
    head, *rows = table(output, "faults.csv")
    assert head == ["file", "line", "kind", "what", "repair"]
    assert [row[:4] for row in rows[::54]] == [
        ["train.txt", "13", "image missing", "gone/x0.jpg does not exist"],
        ["train.txt", "67", "image missing", "gone/x54.jpg does not exist"],
    ]
    (folder / "train.txt").write_text(sound, encoding="utf-8")
    check_dataset.run(configure(folder, output))
    assert not (output / "check_dataset" / "faults.csv").exists()


def test_faults_of_a_conversion_are_in_the_table_too(folder: Path, tmp_path: Path) -> None:
    exporters.export(folder, "CSV")
    change_lines(folder, "train.csv", lambda line: line.replace("/0/", "/9/"))
    (folder / "train" / "0" / "1.jpg").rename(folder / "train" / "0" / "x.jpg")
    with pytest.raises(PaddlexMLError, match=r"faults\.csv"):
        check_dataset.run(rewrite_config(folder, tmp_path / "output", **EXPORTED))
    assert ["train.csv", "4", "image missing"] in [
        row[:3] for row in table(tmp_path / "output", "faults.csv")
    ]


def test_wrong_paths_are_refused_with_a_repair_that_works(folder: Path, tmp_path: Path) -> None:
    before = (folder / "train.txt").read_text(encoding="utf-8")
    change_lines(folder, "train.txt", lambda line: line.replace("/", "\\"))
    change_lines(folder, "val.txt", str.upper)
    old = (folder / "train.txt").read_bytes()
    with pytest.raises(PaddlexMLError, match=r"-o CheckDataset\.repair\.enable=true"):
        check_dataset.run(configure(folder, tmp_path / "output"))
    result = run(tidy_config(folder, tmp_path / "output", {}, repair=True))
    assert (folder / "train.txt").read_text(encoding="utf-8") == before
    assert (folder / "train.txt.bak").read_bytes() == old
    rewritten = result["rewritten"]
    assert len(rewritten["repaired"]) == 14
    assert rewritten["repaired"][12] == [
        "val.txt:1", "VAL/0/0.JPG", "found with other capitals", "val/0/0.jpg",
    ]  # fmt: skip
    assert rewritten["dropped"] == {}
    assert table(tmp_path / "output", "conversion.csv")[1] == [
        "train/0/0.jpg", "found with / instead of \\", "train.txt:1 names train\\0\\0.jpg",
    ]  # fmt: skip
    journal.undo(folder)
    assert (folder / "train.txt").read_bytes() == old


def test_lines_are_left_out_and_counted(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "train/0/0.jpg").write_bytes(b"%PDF-1.7")
    (folder / "train/0/1.jpg").unlink()
    (folder / "train/0/2.jpg").write_bytes((folder / "val/0/0.jpg").read_bytes())
    change_lines(folder, "train.txt", lambda line: line.replace("0/3.jpg\t1,1", "0/3.jpg\t0,0"))
    with caplog.at_level(logging.INFO):
        config = tidy_config(folder, tmp_path, {}, drop="broken missing empty duplicates")
        result = run(config)
    assert result["attributes"]["train_samples"] == 8
    assert result["rewritten"]["dropped"] == {
        "missing": 1, "broken": 1, "duplicates": 1, "empty": 1,
    }  # fmt: skip
    assert result["rewritten"]["files"] == [
        "train.txt is now train.txt.bak",
        "train.txt is written",
    ]
    assert "1 lines are left out, broken: train.txt:1 train/0/0.jpg" in caplog.text
    assert len(table(tmp_path, "conversion.csv")) == 5
    assert not (folder / "val.txt.bak").exists()


def test_nothing_is_written_while_something_is_faulty(folder: Path, tmp_path: Path) -> None:
    change_lines(folder, "train.txt", str.upper)
    (folder / "val/0/0.jpg").write_bytes(b"")
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    for sections in ({}, HALF):
        with pytest.raises(PaddlexMLError, match="the image file is empty"):
            check_dataset.run(tidy_config(folder, tmp_path / "output", sections, repair=True))
        assert {name: (folder / name).read_bytes() for name in files_below(folder)} == before


def test_a_conversion_writes_nothing_while_an_image_is_broken(folder: Path, tmp_path: Path) -> None:
    exporters.export(folder, "CSV")
    for name in ("label.txt", "train.txt", "val.txt"):
        (folder / name).unlink()
    (folder / "val/0/0.jpg").write_bytes(b"<html></html>")
    before = files_below(folder)
    with pytest.raises(PaddlexMLError, match=r"^not an image, but an HTML page"):
        check_dataset.run(rewrite_config(folder, tmp_path / "output", **EXPORTED))
    assert files_below(folder) == before
    result = run(tidy_config(folder, tmp_path / "output", EXPORTED, drop="broken"))
    assert result["attributes"]["val_samples"] == 1
    assert result["rewritten"]["dropped"] == {"broken": 1}


def test_repair_drop_and_split_are_one_change(folder: Path, tmp_path: Path) -> None:
    change_lines(folder, "train.txt", str.upper)
    (folder / "val/0/0.jpg").unlink()
    old = (folder / "train.txt").read_bytes()
    config = tidy_config(folder, tmp_path / "output", HALF, repair=True, drop="missing")
    result = run(config)
    sizes = result["attributes"]["train_samples"], result["attributes"]["val_samples"]
    assert sorted(sizes) == [6, 7]
    row = result["rewritten"]["class_counts"][0]
    assert row["train_before"] + row["val_before"] == 13
    assert len(list((folder / journal.FOLDER).glob("*.json"))) == 1
    journal.undo(folder)
    assert (folder / "train.txt").read_bytes() == old


def test_sound_lists_are_not_written_again(folder: Path, tmp_path: Path) -> None:
    (folder / "train.txt").write_bytes((folder / "train.txt").read_bytes().replace(b"\n", b"\r\n"))
    before = files_below(folder)
    result = run(tidy_config(folder, tmp_path / "output", {}, repair=True, drop="broken"))
    assert result["rewritten"]["files"] == []
    assert files_below(folder) == before


def test_lists_without_labels_beside_annotations_name_the_conversion(
    folder: Path, tmp_path: Path
) -> None:
    exporters.export(folder, "COCO")
    for name in ("train.txt", "val.txt"):
        change_lines(folder, name, lambda line: line.replace("1,1", "0,0"))
    with pytest.raises(
        PaddlexMLError, match="none of the 12 images of train has a label"
    ) as caught:
        check_dataset.run(configure(folder, tmp_path / "output"))
    assert "-o CheckDataset.convert.enable=true" in str(caught.value)
    assert "-o CheckDataset.convert.src_dataset_type=COCO" in str(caught.value)


CASES = {
    "native-upper-case": ["-o", "CheckDataset.repair.enable=true"],
    "native-windows-paths": ["-o", "CheckDataset.repair.enable=true"],
    "check-lists-20-of-55": ["-o", "CheckDataset.drop=[missing]"],
    "broken-images": ["-o", "CheckDataset.drop=[missing, broken]"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_collected_case_is_refused_with_a_repair_that_works(
    case: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shared / "cases" / "data" / case
    if not source.is_dir():
        pytest.skip("needs the collected cases")
    root = shutil.copytree(source, tmp_path / case)
    command = ["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=check_dataset"]
    command += ["-o", f"Global.dataset_dir={root}", "-o", f"Global.output={tmp_path / 'out'}"]
    assert cli.main(command) == 2
    assert CASES[case][1].partition("[")[0] in capsys.readouterr().err
    assert cli.main(command + CASES[case]) == 0


@pytest.mark.parametrize("divided", [True, False])
def test_annotations_beside_the_photographs_are_met_with_the_convert_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], divided: bool
) -> None:
    exporters.export(folder, "CSV")
    for name in ("label.txt", "train.txt", "val.txt", *([] if divided else ["val.csv"])):
        (folder / name).unlink()
    (folder / "classes.txt").unlink(missing_ok=True)
    command = ["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=check_dataset"]
    command += ["-o", f"Global.dataset_dir={folder}", "-o", f"Global.output={tmp_path / 'out'}"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "label.txt is not there, but annotations in the format CSV are: " in error
    fix = error.partition("fix:")[2].splitlines()[0].split()
    assert ("CheckDataset.split.enable=true" in fix) != divided
    assert cli.main(command + fix) == 0, capsys.readouterr().err
    assert annotation.read(folder).label_names == ["猫", "dog"]
