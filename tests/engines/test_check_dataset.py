# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from paddlex_ml.config.schema import (
    CheckDatasetConfig,
    Config,
    ConvertConfig,
    GlobalConfig,
    SplitConfig,
    TrainConfig,
)
from paddlex_ml.data import annotation, check, journal
from paddlex_ml.engines import check_dataset
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import exporters
from paddlex_ml.pictures import dataset_page, plots

KEYS = [
    "done_flag",
    "check_pass",
    "attributes",
    "analysis",
    "dataset_path",
    "show_type",
    "dataset_type",
    "warnings",
    "report",
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
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


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
    assert os.listdir(tmp_path / "output") == ["check_dataset"]  # nothing left aside


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
        assert os.listdir(root) == ["check_dataset"]
    assert endings.count({}) == (0 if way_to_swap == "in one step" else 1)
    assert [ending for ending in endings if ending not in (old, new, {})] == []
    assert (endings[0], endings[-1]) == (old, new)


def test_a_failed_check_names_every_fault_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "0" / "0.jpg").write_bytes(b"")
    lines = (folder / "train.txt").read_text().splitlines()
    lines[6] = lines[6].replace("1,1", "1,2")
    (folder / "train.txt").write_text("\n".join(lines))
    with pytest.raises(PaddlexMLError, match="2 faults of 2 kinds") as caught:
        check_dataset.run(configure(folder, tmp_path / "output"))
    assert "train.txt:7: the value of class 1 is '2'" in str(caught.value)
    assert "train.txt:1: train/0/0.jpg: the image file is empty" in str(caught.value)
    assert not (tmp_path / "output").exists()


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


def test_a_source_without_val_is_converted_and_a_split_is_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "val.txt").unlink()
    exporters.export(folder, "CSV")
    with pytest.raises(PaddlexMLError, match=r"val\.txt is missing") as caught:
        check_dataset.run(rewrite_config(folder, tmp_path / "output", **EXPORTED))
    assert "-o CheckDataset.convert.enable=false -o CheckDataset.split.enable=true" in str(
        caught.value.fix
    )
    result = run(rewrite_config(folder, tmp_path / "output", **HALF))
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
