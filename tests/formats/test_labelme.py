# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import labelme
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def note(*shapes: str, image: str | None = None, flags: dict[str, bool] | None = None) -> str:
    """One file as LabelMe writes it."""
    content = {
        "version": "5.4.1",
        "flags": flags or {},
        "shapes": [
            {"label": label, "points": [[1, 2], [3.5, 4]], "group_id": None, "flags": {}}
            for label in shapes
        ],
        "imagePath": image,
        "imageData": None,
        "imageHeight": 4,
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def test_flags_that_are_true_and_shapes_are_the_labels(plant: Plant, labels: Any) -> None:
    files = {
        "a.json": note("dog", " dog ", image="a.jpg", flags={"sunny": True, "snow": False}),
        "b.json": note("猫, 大", image="b.jpg", flags={"sunny": False}),
        "c.json": note(image="c.jpg"),
    }
    done: list[tuple[int, int]] = []
    root = plant(files, "a.jpg", "b.jpg", "c.jpg")
    dataset = labelme.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["dog", "sunny", "猫, 大"]
    assert labels(dataset) == {
        "train": {"a.jpg": ["dog", "sunny"], "b.jpg": ["猫, 大"], "c.jpg": []}
    }
    assert dataset.account.names_left_out == {"snow": "the flag is true for no image"}
    assert dataset.notes == []
    assert (dataset.retire, done) == ([], [(1, 3), (2, 3), (3, 3)])


def test_a_class_file_keeps_flags_that_are_never_set(plant: Plant) -> None:
    files = {"a.json": note("dog", flags={"snow": False}), "classes.txt": "snow\ndog\n"}
    assert labelme.read(plant(files, "a.jpg"), Options()).label_names == ["snow", "dog"]


@pytest.mark.parametrize(
    ("json_path", "named", "image"),
    [
        ("annotations/a.json", r"..\images\x 1.JPG", "images/x 1.JPG"),
        ("annotations/a.json", "../images/x.jpg", "images/x.jpg"),
        ("annotations/a.json", "x.jpg", "images/x.jpg"),
        ("annotations/a.json", r"C:\Users\me\x.jpg", "images/x.jpg"),
        ("annotations/a.json", None, "images/a.jpg"),
        ("deep/er/a.JSON", "renamed.jpg", "deep/er/a.png"),
        ("deep/er/a.json", None, "deep/er/a.png"),
        ("a.json", "../../outside.jpg", "a.png"),
        ("a.json", "./b.png", "b.png"),
    ],
)
def test_the_image_is_the_named_one_or_the_one_called_like_the_file(
    plant: Plant, labels: Any, json_path: str, named: str | None, image: str
) -> None:
    dataset = labelme.read(plant({json_path: note("dog", image=named)}, image), Options())
    assert labels(dataset) == {"train": {image: ["dog"]}}


def test_folders_of_train_and_val_divide_and_test_is_left_alone(plant: Plant, labels: Any) -> None:
    files = {
        "annotations/train/a.json": note("cat", image="../../images/a.jpg"),
        "valid/b.json": note("dog", image="b.jpg"),
        "test/c.json": "{",
    }
    dataset = labelme.read(plant(files, "images/a.jpg", "valid/b.jpg", "test/c.jpg"), Options())
    assert labels(dataset) == {"train": {"images/a.jpg": ["cat"]}, "val": {"valid/b.jpg": ["dog"]}}
    assert dataset.notes == ["1 file in test/ is not used: test/c.json"]


def test_a_file_outside_of_train_and_val_is_refused(plant: Plant, refusal: Any) -> None:
    files = {"train/a.json": note("x"), "val/b.json": note("x"), "c.json": note("x")}
    message = refusal(labelme.read, plant(files, "train/a.jpg", "val/b.jpg", "c.jpg"))
    assert "is neither in a train nor in a val folder" in message
    assert "set/c.json" in message


def test_images_without_a_file_are_left_out_and_told(plant: Plant, labels: Any) -> None:
    root = plant({"a.json": note("cat", image="a.jpg")}, "a.jpg", "b.jpg", "test/c.jpg", "d.txt")
    dataset = labelme.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}}
    assert dataset.account.left_out == {
        "b.jpg": "no annotation names it",
        "d.txt": "not read",
        "test/c.jpg": "of the test subset",
    }
    assert dataset.account.not_named == 1


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ('{"images": [], "annotations": []}', "a.json is not a LabelMe file", "a.json"),
        ("[1, 2]", "a.json is not a LabelMe file, which is an object with `shapes`", "a.json"),
        ('{\n"shapes": [\n{"label": "x",}]}', "the JSON is damaged: trailing comma", "a.json:3"),
        ('{\n"shapes": [\n', "the JSON is damaged: Input data was truncated", "a.json:3"),
        ("", "the JSON is damaged: Input data was truncated", "a.json:1"),
        ('{"shapes": [{"label": null}]}', "got `null` - at `$.shapes[0].label`", "a.json"),
        ('{"shapes": [{}]}', "missing required field `label` - at `$.shapes[0]`", "a.json"),
        ('{"shapes": 1}', "Expected `array`, got `int` - at `$.shapes`", "a.json"),
        ('{"shapes": [], "flags": {"a": "yes"}}', "Expected `bool`, got `str`", "a.json"),
        ('{"shapes": [{"label": " "}]}', "the class name '' is empty", "a.json"),
        ('{"shapes": [{"label": "a\\nb"}]}', r"the class name 'a\nb' has a line end", "a.json"),
        ('{\n"shapes": [], "flags": {"été": true}}'.encode("latin-1"), "neither UTF", "a.json:2"),
        ('{"a": ' + "[" * 100_000, "the JSON is damaged: maximum recursion depth", "a.json:1"),
        (note(image="gone.jpg"), "gone.jpg is not there", "a.json"),
        (note(image="../../x.jpg"), "x.jpg lies outside the data set", "a.json"),
    ],
)
def test_a_wrong_file_is_named(
    plant: Plant, refusal: Any, text: str | bytes, what: str, where: str
) -> None:
    root = plant({"b.json": note("x"), "a.json": text}, "b.jpg")
    message = refusal(labelme.read, root)
    assert what in message
    assert f"where: {root / where}\n" in message


def test_every_file_of_another_kind_is_named_and_counted(plant: Plant, refusal: Any) -> None:
    files = {f"other{i:02}.json": "{}" for i in range(25)}
    message = refusal(labelme.read, plant({"a.json": note("x"), **files}, "a.jpg"))
    assert "not a LabelMe file: 25" in message
    assert "other19.json: other19.json is not a LabelMe file" in message
    assert "... and 5 more" in message


def test_a_folder_without_files_is_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"test/a.json": note("x")}, "a.jpg")
    assert "there is no .json file in the data set" in refusal(labelme.read, root)
    assert "the folder cannot be read" in refusal(labelme.read, root / "none")


def test_a_json_file_that_is_a_folder_is_not_read(plant: Plant) -> None:
    root = plant({"a.json": note("x")}, "a.jpg")
    (root / "b.json").mkdir()
    assert len(labelme.read(root, Options()).lists["train"]) == 1


def test_the_image_inside_a_file_is_not_kept(plant: Plant) -> None:
    content = json.loads(note("x"))
    content["imageData"] = "A" * 4_000_000
    root = plant({"a.json": json.dumps(content)}, "a.jpg")
    tracemalloc.start()
    labelme.read(root, Options())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000  # the file once; decoded it would be twice


def test_missing_images_are_left_out_when_asked(plant: Plant, labels: Any) -> None:
    files = {"a.json": note("cat", image="gone.jpg"), "b.json": note("dog")}
    dataset = labelme.read(plant(files, "b.jpg"), Options(skip_missing=True))
    assert labels(dataset) == {"train": {"b.jpg": ["dog"]}}
    assert dataset.notes == ["1 image is not there, left out: gone.jpg"]


def test_a_file_that_names_another_image_is_refused_and_the_option_helps(
    plant: Plant, refusal: Any, labels: Any
) -> None:
    files = {f"a{i}.json": note(f"c{i}", image=f"a{(i + 1) % 3}.jpg") for i in range(3)}
    root = plant(files, "a0.jpg", "a1.jpg", "a2.jpg")
    message = refusal(labelme.read, root)
    assert "by its own name the file belongs to a2.jpg, but it names a0.jpg" in message
    assert "-o CheckDataset.convert.image_from=field (" in message
    by_stem = labels(labelme.read(root, Options(image_from="stem")))
    assert by_stem == {"train": {"a0.jpg": ["c0"], "a1.jpg": ["c1"], "a2.jpg": ["c2"]}}
    by_field = labels(labelme.read(root, Options(image_from="field")))
    assert by_field == {"train": {"a1.jpg": ["c0"], "a2.jpg": ["c1"], "a0.jpg": ["c2"]}}


def paddlex(**more: str) -> dict[str, str]:
    """The layout of PaddleX's tutorials."""
    names = {"a": "helmet", "b": "head", "c": "helmet", "d": "head"}
    files = {
        f"annotations/{stem}.json": note(name, image=f"../images/{stem}.png")
        for stem, name in names.items()
    }
    files["train_anno_list.txt"] = "annotations/a.json\r\nannotations\\b.json\r\n"
    files["val_anno_list.txt"] = "annotations/c.json\n"
    files["label.txt"] = "helmet\nhead\n"
    return {**files, **more}


def test_the_lists_of_paddlex_divide_and_its_label_file_orders(plant: Plant, labels: Any) -> None:
    dataset = labelme.read(plant(paddlex(), *(f"images/{s}.png" for s in "abcd")), Options())
    assert dataset.label_names == ["helmet", "head"]
    assert labels(dataset) == {
        "train": {"images/a.png": ["helmet"], "images/b.png": ["head"]},
        "val": {"images/c.png": ["helmet"]},
    }
    assert dataset.notes == ["1 JSON files are in no list, left out: annotations/d.json"]
    assert dataset.account.left_out["annotations/d.json"] == "in no list"


def test_the_list_of_a_test_set_is_left_alone(plant: Plant, labels: Any) -> None:
    files = paddlex(**{"test_anno_list.txt": "annotations/d.json\n"})
    dataset = labelme.read(plant(files, *(f"images/{s}.png" for s in "abcd")), Options())
    assert "images/d.png" not in {**labels(dataset)["train"], **labels(dataset)["val"]}
    assert [note[:33] for note in dataset.notes] == ["test_anno_list.txt is not used: t"]


def test_a_line_without_a_file_and_a_class_without_a_name_are_refused(
    plant: Plant, refusal: Any
) -> None:
    files = paddlex(**{"val_anno_list.txt": "\nannotations/z.json\n", "label.txt": "helmet\n"})
    message = refusal(labelme.read, plant(files, *(f"images/{s}.png" for s in "abcd")))
    assert "val_anno_list.txt:2: annotations/z.json is not there" in message
    assert "the class 'head' is used but not named" in message


def test_files_for_the_options_of_labelme_order_the_classes(plant: Plant) -> None:
    files = {
        "a.json": note("owl", "bat", "yak", "__ignore__", flags={"snow": True}),
        "labels.txt": "__ignore__\n_background_\nyak\nowl\nemu\n",
        "flags.txt": "snow\n",
    }
    dataset = labelme.read(plant(files, "a.jpg"), Options())
    assert dataset.label_names == ["yak", "owl", "snow", "bat"]
    assert dataset.account.names_left_out == {
        "__ignore__": "LabelMe's word for what is no class (1 label)",
        "emu": "it is in labels.txt, but no image has it",
    }


def test_our_own_label_file_keeps_the_order_of_an_earlier_conversion(plant: Plant) -> None:
    files = {"a.json": note("owl", "bat", "ant"), "label.txt": "0 owl\n1 bat\n2 yak\n"}
    assert labelme.read(plant(files, "a.jpg"), Options()).label_names == ["owl", "bat", "ant"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_the_encoding_does_not_matter(plant: Plant, labels: Any, encoding: str) -> None:
    text = note("白色 卡车", image="图.jpg", flags={"夜晚": True})
    dataset = labelme.read(plant({"图.json": text.encode(encoding)}, "图.jpg"), Options())
    assert labels(dataset) == {"train": {"图.jpg": ["夜晚", "白色 卡车"]}}
    expected = {"utf-16": ["UTF-16"], "gb18030": ["GB18030"]}.get(encoding, [])
    assert list(dataset.account.encodings) == expected


def test_text_that_may_be_chinese_as_well_is_refused(
    plant: Plant, refusal: Any, labels: Any
) -> None:
    text = note("猫", image="a.jpg")
    root = plant({"a.json": text.encode("gbk")}, "a.jpg")
    assert "may be UTF-8 or GB18030: 'è' or '猫'" in refusal(labelme.read, root)
    (root / "a.json").write_text(text, "utf-8")  # as the repair says
    assert labels(labelme.read(root, Options())) == {"train": {"a.jpg": ["猫"]}}
    (root / "a.json").write_text(note("è", image="a.jpg"), "utf-8-sig")
    assert labels(labelme.read(root, Options())) == {"train": {"a.jpg": ["è"]}}


def test_files_of_x_anylabeling_are_read(plant: Plant, labels: Any) -> None:
    content = {
        "version": "2.4.4",
        "flags": {},
        "shapes": [
            {
                **{"label": "cat", "score": None, "points": [[1, 2], [3, 4]], "group_id": None},
                **{"description": "", "difficult": False, "shape_type": "rotation", "flags": {}},
                **{"attributes": {"colour": "red"}, "direction": 1.5, "kie_linking": []},
            }
        ],
        **{"imagePath": "a.jpg", "imageData": None, "imageHeight": 4, "imageWidth": 3},
        "description": "",
    }
    dataset = labelme.read(plant({"a.json": json.dumps(content)}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}}


def test_a_file_of_another_tool_is_refused_as_what_it_is(plant: Plant, refusal: Any) -> None:
    coco = '{"images": [], "annotations": [], "categories": []}'
    message = refusal(labelme.read, plant({"a.json": note("x"), "coco.json": coco}, "a.jpg"))
    assert "coco.json is not a LabelMe file" in message
    assert "it is a COCO file" in message
    assert "-o CheckDataset.convert.src_dataset_type=COCO" in message


def test_the_format_is_known_by_its_content(plant: Plant) -> None:
    root = plant({"a.json": "[]", "b/c.json": note("x").encode("utf-16")})
    assert labelme.recognise(Inventory(root)) == "b/c.json"
    (root / "b/c.json").write_text('{"images": []}')
    assert labelme.recognise(Inventory(root)) == ""
