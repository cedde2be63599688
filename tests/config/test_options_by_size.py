# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path

import pytest

from paddlex_ml import gpus
from paddlex_ml.config import load, options_by_size, shipped
from paddlex_ml.config.options_by_size import Values
from paddlex_ml.config.schema import Config

BY_REFERENCE = "CheckDataset.convert.by_reference"
AUTO = "CheckDataset.convert.src_dataset_type=auto"
NEEDED = ["Global.mode=train", "Global.dataset_dir=photos"]


def configure(*overrides: str, file: Path | None = None) -> load.Loaded:
    return load.load(file or shipped.find("PP-LCNet_x1_0_ML")[0], [*NEEDED, *overrides])


def chosen(*overrides: str, images: int = 100, side: int = 4000) -> Values:
    loaded = configure(AUTO, *overrides)
    return options_by_size.choose(loaded.config, loaded.typed, images, side)


@pytest.mark.parametrize(("options", "is_asked"), [
    ([AUTO], True),
    ([AUTO.upper().replace("CHECKDATASET.CONVERT.SRC_DATASET_TYPE", AUTO.partition("=")[0])], True),
    ([AUTO, "CheckDataset.convert.enable=true"], False),
    (["CheckDataset.convert.src_dataset_type=COCO"], False),
    (["CheckDataset.convert.src_dataset_type=COCO", f"{BY_REFERENCE}=true"], True),
    ([f"{BY_REFERENCE}=true"], False),
    ([AUTO, "CheckDataset.convert.enable=true", f"{BY_REFERENCE}=true"], False),
    ([], False),
])  # fmt: skip
def test_a_source_is_recognised_only_where_auto_is_asked_for(
    options: list[str], is_asked: bool
) -> None:
    assert options_by_size.is_by_reference(configure(*options).config) == is_asked


@pytest.mark.parametrize("images", [1, 50, 51, 250, 251, 1_000, 1_001, 10_000, 10_001, 10**7])
def test_each_row_of_the_table_loads_and_fits_its_rules(images: int) -> None:
    values = chosen(images=images)
    assert set(values) <= {
        *("Train.epochs_iters", "Train.save_interval", "Train.batch_size", "Train.image_size")
    }
    words = [f"{key}={value}" for key, value in values.items()]
    config = options_by_size.apply(configure(AUTO).config, values)
    assert config == configure(AUTO, *words).config
    assert config.Train.epochs_iters / config.Train.save_interval <= 20


def test_fewer_images_are_seen_more_often() -> None:
    epochs = [row.values.get("Train.epochs_iters", 20) for row in options_by_size.TABLE]
    assert epochs == sorted(epochs, reverse=True)
    assert [row.most for row in options_by_size.TABLE] == [50, 250, 1_000, 10_000, math.inf]


def test_what_the_user_has_chosen_stays(tmp_path: Path) -> None:
    assert "Train.epochs_iters" in chosen()
    assert "Train.epochs_iters" not in chosen("Train.epochs_iters=20")  # typed, the shipped number
    assert chosen("Train.auto=false") == {}
    file = tmp_path / "own.yaml"
    text = (shipped.folder() / "PP-LCNet_x1_0_ML.yaml").read_text("utf-8")
    file.write_text(text.replace("epochs_iters: 20", "epochs_iters: 7"))
    loaded = configure(AUTO, file=file)
    values = options_by_size.choose(loaded.config, loaded.typed, 30, 4000)
    assert "Train.epochs_iters" not in values
    assert "Train.save_interval" in values


@pytest.mark.parametrize(
    ("device", "has_gpu", "side", "size"),
    [
        ("cpu", True, 4000, 160), ("auto", False, 4000, 160), ("auto", True, 4000, None),
        ("gpu", True, 4000, None), ("gpu", True, 300, 320), ("cpu", False, 100, 128),
        ("cpu", False, 20, 96),
    ],
)  # fmt: skip
def test_the_image_size_suits_device_and_images(
    device: str, has_gpu: bool, side: int, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "are_missing", lambda: not has_gpu)
    assert chosen(f"Global.device={device}", side=side).get("Train.image_size") == size


def test_keys_that_belong_to_a_source_alone_are_refused_elsewhere() -> None:
    from tests.config.test_foreign_words import refuse

    image_root = "CheckDataset.convert.image_root"
    assert refuse(f"{image_root}=photos").fix == f"-o {image_root}=null"
    assert "that is there" in refuse(AUTO, "Train.dist_ips='10.0.0.1,10.0.0.2'").what
    assert isinstance(configure(AUTO, f"{image_root}=photos").config, Config)
    rename = ["CheckDataset.convert.rename={cat: tiger}", "Global.mode=check_dataset"]
    assert "only a conversion" in refuse(*rename).what
    assert isinstance(configure(AUTO, *rename).config, Config)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ([], set()),
        (["Train.batch_size=auto"], {"Train.batch_size"}),
        ([AUTO, "Train.auto=false"], {"Global.dataset_dir"}),
        (
            [AUTO, "Train.epochs_iters=7", "Train.image_size=96"],
            {"Global.dataset_dir", "Train.batch_size", "Train.save_interval"},
        ),
    ],
)
def test_what_a_training_chooses_by_itself_is_known_before(
    options: list[str], keys: set[str]
) -> None:
    assert options_by_size.left_to_training(configure(*options).config) == keys
