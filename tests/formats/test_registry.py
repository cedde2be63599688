# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry
from paddlex_ml.formats.collector import Options
from tests.formats.layouts import WRITERS, draw

Plant = Callable[..., Path]


def refuse(root: Path, source: str) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError) as caught:
        registry.read(root, source, Options())
    return caught.value


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("seed", range(6))
def test_auto_recognises_every_layout(tmp_path: Path, layout: str, seed: int) -> None:
    random = Random(seed)
    source, writer = WRITERS[layout]
    truth = draw(random)
    while layout == "CelebA" and any(" " in image for image in truth.labels):
        truth = draw(random)  # its columns are separated by spaces
    writer(tmp_path, truth, random)
    found = registry.recognise(tmp_path)
    assert [candidate.format.name for candidate in found] == [source]
    dataset = registry.read(tmp_path, registry.AUTO, Options())
    assert dataset.notes[0].startswith(f"recognised as {source}: ")


def test_each_reader_recognises_nothing_in_an_empty_folder(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path)
    assert [f.name for f in registry.FORMATS.values() if f.recognise(inventory)] == []
    error = refuse(tmp_path, registry.AUTO)
    assert error.what.startswith("no format is recognised")
    assert error.fix.endswith("data.md has all formats")


def test_two_formats_of_one_rank_are_both_named(plant: Plant) -> None:
    coco = '{"images": [], "annotations": [], "categories": []}'
    voc = "<annotation><object><name>cat</name></object></annotation>"
    texts = {"annotations/instances_train.json": coco, "Annotations/a.xml": voc}
    error = refuse(plant(texts, "JPEGImages/a.jpg"), registry.AUTO)
    assert "several formats: COCO (" in error.what
    assert "VOC (" in error.what
    assert error.fix == (
        "-o CheckDataset.convert.src_dataset_type=COCO "
        "or -o CheckDataset.convert.src_dataset_type=VOC"
    )


@pytest.mark.parametrize(
    ("files", "what", "fix"),
    [
        (["notes"], "there is no image and no annotation (1 other file)", "Global.dataset_dir"),
        (["1.jpg", "2.jpg"], "nothing says what the 2 images show", "or write a table"),
        (["cat/1.jpg"], "all images are in one folder, cat", "into the folder no_label"),
        (["images/1.jpg", "2.jpg"], "no folders of classes, but images", "or write a table"),
        (
            ["cat/1.jpg", "dog/2.jpg", "3.jpg"],
            "1 image is in no folder of a class: 3.jpg, beside the folders cat, dog",
            "-o CheckDataset.convert.src_dataset_type=ImageFolder",
        ),
        (["images/1.jpg", "masks/1.jpg"], "no folders of classes, but images, masks", "table"),
    ],
)
def test_why_images_alone_are_no_data_set_is_told(
    plant: Plant, files: list[str], what: str, fix: str
) -> None:
    error = refuse(plant({}, *files), registry.AUTO)
    assert what in error.what
    assert fix in error.fix


def test_a_list_of_ours_without_names_of_classes_asks_for_them(plant: Plant) -> None:
    root = plant({"train.txt": "a.jpg\t1,0\n", "label.txt": "cat\ndog\n"}, "a.jpg")
    error = refuse(root, registry.AUTO)
    assert error.what == "train.txt is a list of ours, but label.txt does not name its classes"
    assert error.where == str(root / "label.txt")


@pytest.mark.parametrize("values", ["1", "-1", "@0", "@?0", "@!0"])
def test_our_own_lists_need_no_conversion(plant: Plant, values: str) -> None:
    root = plant({"label.txt": "0 cat\n", "train.txt": f"a.jpg\t{values}\n"}, "a.jpg")
    error = refuse(root, registry.AUTO)
    assert error.what.endswith("train.txt is in ours already")
    assert error.fix == "-o CheckDataset.convert.enable=false"


def test_a_wrong_format_names_the_right_one(plant: Plant) -> None:
    root = plant({"tags.csv": "image,tags\na.jpg,cat\n"}, "a.jpg")
    error = refuse(root, "VOC")
    assert "or -o CheckDataset.convert.src_dataset_type=CSV (found tags.csv" in error.fix


def test_the_general_name_of_a_format_is_enough(plant: Plant) -> None:
    line = '{"image_url": "AmlDatastore://x/a.jpg", "label": ["cat"]}\n'
    dataset = registry.read(plant({"train.jsonl": line}, "a.jpg"), "JSONL", Options())
    assert dataset.notes[0].startswith("this JSONL is of the kind Azure: ")
    assert dataset.label_names == ["cat"]


def test_the_format_that_was_named_comes_before_another_of_its_rank(plant: Plant) -> None:
    texts = {"tags.csv": "image,tags\na.jpg,cat\n", "list.txt": "a.jpg dog\n"}
    root = plant(texts, "a.jpg")
    assert registry.read(root, "CSV", Options()).label_names == ["cat"]
    assert registry.read(root, "TextList", Options()).label_names == ["dog"]


VALUES = {
    "separator": "|",
    "image_column": "image",
    "label_columns": ["tags"],
    "label_value": "1",
    "image_from": "stem",
    "uncertain": "negative",
}


@pytest.mark.parametrize("source", registry.FORMATS)
def test_an_option_without_effect_is_refused(tmp_path: Path, source: str) -> None:
    assert VALUES.keys() == {*registry.CHOICES}
    for name in {*registry.CHOICES} - {*registry.FORMATS[source].options}:
        with pytest.raises(PaddlexMLError) as caught:
            registry.read(tmp_path, source, Options(**{name: VALUES[name]}))  # type: ignore[arg-type]
        assert caught.value.what == f"convert.{name} has no effect on the format {source}"
        assert f"-o CheckDataset.convert.{name}=null" in caught.value.fix


def test_an_option_without_effect_is_refused_for_a_recognised_format(plant: Plant) -> None:
    root = plant({"tags.csv": "image,tags\na.jpg,cat\n"}, "a.jpg")
    with pytest.raises(PaddlexMLError) as caught:
        registry.read(root, registry.AUTO, Options(image_from="stem"))
    assert "no effect on the format CSV (recognised as CSV: tags.csv" in caught.value.what
    assert caught.value.fix.endswith("=null (of use for VOC, LabelMe)")


def test_a_format_takes_the_options_that_it_proposes(plant: Plant) -> None:
    line = '{"path": "a.jpg", "labels": ["cat"], "category": "pet"}\n'
    root = plant({"train.jsonl": line}, "a.jpg")
    assert "convert.label_columns=" in refuse(root, "JSONL").fix
    options = Options(label_columns=("labels",), image_column="path")
    assert registry.read(root, "JSONL", options).label_names == ["cat"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("suffix", [".json", ".csv", ".txt", ".xml", ".yaml", ".xlsx", ".tar"])
def test_a_named_pipe_among_the_files_is_waited_for_by_no_reader(plant: Plant, suffix: str) -> None:
    root = plant({}, "a.jpg", "b/c.jpg")
    os.mkfifo(root / f"a{suffix}")
    for source in [*(each for each in registry.FORMATS if each != "ImageFolder"), registry.AUTO]:
        refuse(root, source)
