# SPDX-License-Identifier: Apache-2.0
"""YOLO: one text file an image, one object a line (`src_dataset_type: YOLO`).

    data.yaml            names: [cat, dog]   train: images/train   val: images/val
    images/train/a.jpg   labels/train/a.txt: "1 0.5 0.5 0.2 0.3"

This is what Ultralytics (https://docs.ultralytics.com/datasets/detect/), Roboflow, CVAT
(https://docs.cvat.ai/docs/dataset_management/formats/format-yolo/), PaddleLabel, Label Studio and
labelImg write, and the DOTA set (https://captain-whu.github.io/DOTA/dataset.html).

- The YAML file is `data.yaml`, or the only other one that has `names`: a list, or `0: cat` and so
  on. Names are used as they are written: `yes` and `1` are names. Without a YAML file, darknet's
  `obj.data` counts: `names = obj.names`, `train = train.txt`, `valid = valid.txt`.
- Else the names are the lines of `classes.txt`, `obj.names`, `labels.txt` or another `*.names`
  file. Several files of names must agree. The classes are in the order of their ids.
- `train` and `val` name a folder (searched in all depths), a `.txt` list of images, or several of
  these. They are relative to `path`, where that is a folder of the data set, else to the YAML file;
  `../train/images`, as Roboflow writes it, is `train/images` where nothing else is there. A path of
  another computer, or in other capitals, is the one folder or list that ends alike; a note says so.
  With one of the two there is one list. `test` is not used.
- Without these two, lists named `train.txt`, `val.txt`, `train_list.txt` and so on divide the
  images. A line has the path of an image; PaddleLabel adds that of its label file. Without lists
  the images are those of `images/` and all others with labels, or all where there is no such
  folder. Those in folders `train/` and `val/` (or `valid/`, `train_images/`, `val2017/`) make these
  lists; `test/` is not used.
- The labels of `images/x/a.jpg` are in `labels/x/a.txt` (the last folder `images` of the path
  counts), or in the `.txt` file beside the image. They may also be in a folder of another name,
  such as `Annotations/`, `labelTxt/` or `train_labels/`, in other capitals, and in `a.jpg.txt`; a
  note says where they were found. Two files that differ, or two images for one file, are an error.
- Each line has a class id, then at least four numbers: a box, an oriented box, a polygon or key
  points; all count as the label. Lines of DOTA have eight numbers, the name of the class and the
  difficulty; then a file of names is not needed, and the classes are in alphabetical order.
- An image without a label file has no label, and a note counts these; another counts the label
  files without an image.
"""

from __future__ import annotations

import os
from pathlib import Path

from paddlex_ml.data.annotation import LABEL_FILE, TRAIN_FILE, VAL_FILE
from paddlex_ml.data.image_finder import fold
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import resolve_inside
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import yolo_darknet, yolo_names, yolo_yaml
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.yolo_images import ImageSource, YoloImage, resolve
from paddlex_ml.formats.yolo_label_reader import YoloLabelReader
from paddlex_ml.formats.yolo_labels import LabelFiles
from paddlex_ml.formats.yolo_lines import ClassIds, sniff
from paddlex_ml.formats.yolo_yaml import NAMES_FIX, DataFile

_LAYOUT = (
    "put the labels of images/a.jpg into labels/a.txt, lines `<class id> <x> <y> <width> <height>`"
)
_SNIFFED = 1000  # files: the first ones may be empty


def recognise(inventory: Inventory) -> str:
    """The files by which the format is known: label files named like images, and the names."""
    label_file = _find_label_file(inventory)
    if not label_file:
        return ""
    try:
        file = yolo_yaml.find(inventory) or yolo_darknet.find(inventory)
    except PaddlexMLError:  # several, which `read` refuses
        file = ""
    names = [file] if file else yolo_names.find(inventory)
    return " and ".join([*names[:1], label_file])


def read(root: Path, options: Options) -> SourceDataset:
    """Read names, images and label files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    inventory = collector.inventory
    data = DataFile()
    if file := yolo_yaml.find(inventory):
        data = yolo_yaml.read(collector, file)
    elif file := yolo_darknet.find(inventory):
        data = yolo_darknet.read(collector, file)
    name_files = _list_name_files(collector, data)
    source = ImageSource(collector, data)
    lists = source.list_named()
    paths = _resolve(collector, lists)
    own = _leave_known_files_out(collector)
    labels = LabelFiles(inventory, {*name_files, *source.list_files, *own})
    labels.match(dict.fromkeys([*inventory.images, *paths.values()]))
    if not lists:
        lists = source.list_folders(labels)
        paths = _resolve(collector, lists)
    ids = _read_names(collector, data, name_files, labels)
    reader = YoloLabelReader(collector, labels, ids)
    done, total = 0, sum(map(len, lists.values()))
    for name, images in lists.items():
        collector.open_list(name)
        for image in images:
            found = reader.read(paths[image], image.label) if image in paths else set()
            collector.add(name, image.name, image.folders, found, image.where)
            done += 1
            options.progress(done, total)
    reader.close(total)
    numbers = {name: number for number, name in enumerate(ids.names)}
    names = ids.names if name_files or data.names else sorted(ids.names)
    return collector.finish(names, [numbers[name] for name in names])


def _find_label_file(inventory: Inventory) -> str:
    """A file named like an image whose lines are those of a label file; "" for none."""
    images = {fold(path.rpartition("/")[2]) for path in inventory.images}
    images |= {os.path.splitext(name)[0] for name in images}
    opened = 0
    for path in inventory.find(".txt"):
        if fold(os.path.splitext(path.rpartition("/")[2])[0]) in images:
            if sniff(inventory.read_head(path)):
                return path
            opened += 1
            if opened == _SNIFFED:
                break
    return ""


def _resolve(collector: Collector, lists: dict[str, list[YoloImage]]) -> dict[YoloImage, str]:
    """The paths of the images that are there."""
    return {
        image: path
        for images in lists.values()
        for image in images
        if (path := resolve(collector, image)) is not None
    }


def _leave_known_files_out(collector: Collector) -> list[str]:
    """Enter files that are known and not used; return the lists that a conversion has written."""
    names = collector.inventory.names("")
    used = collector.account.records
    own = [name for name in (LABEL_FILE, TRAIN_FILE, VAL_FILE) if name in names]
    own = [name for name in own if name not in used] if LABEL_FILE in names else []
    left_out = collector.account.left_out
    left_out.update(dict.fromkeys(own, "written by an earlier conversion"))
    if "notes.json" in names and "classes.txt" in names:
        left_out["notes.json"] = "the notes of Label Studio: classes.txt has the names"
    return own


def _list_name_files(collector: Collector, data: DataFile) -> list[str]:
    """The text files with class names; the one that data.yaml or obj.data names is the first."""
    files = yolo_names.find(collector.inventory)
    if data.names_file is None:
        return files
    own = os.path.dirname(data.file)
    named = data.names_file.text
    tried = [resolve_inside(collector.root, named, folder) for folder in (own, "")]
    there = [path for path in tried if path in collector.inventory.files]
    last = fold(named.replace("\\", "/").rpartition("/")[2])
    there += [path for path in files if fold(path.rpartition("/")[2]) == last]
    return list(dict.fromkeys([*filter(None, there[:1]), *files]))


def _read_names(
    collector: Collector, data: DataFile, files: list[str], labels: LabelFiles
) -> ClassIds:
    """The classes, from data.yaml, else from the first file of names, else from DOTA lines."""
    file, names, others = data.file, data.names, files
    if names is None and not data.faults and files:
        file, others = files[0], files[1:]
        names = yolo_names.read(collector, file)
    if names is not None:
        names = yolo_names.agree(collector, file, names, others)
        return ClassIds(names, None if collector.faults else len(names))
    if data.faults:
        return ClassIds([], None)
    heads = (collector.inventory.read_head(paths[0]) for paths in labels.found.values())
    if next(filter(None, map(sniff, heads)), "") == "names":
        return ClassIds([], 0, grow=True)
    fix = "write the names of the classes into classes.txt, one a line, in the order of ids"
    if data.file:
        text = "the key `names` is missing, and there is no file of class names"
        collector.add_fault("nothing found", f"{data.file}:1", text, f"{NAMES_FIX}; or {fix}")
    else:
        text = f"there is neither a data.yaml with `names`, nor {yolo_names.USUAL}"
        collector.add_fault("nothing found", "", text, fix)
    return ClassIds([], None)
