# SPDX-License-Identifier: Apache-2.0
"""Reads the label files of a YOLO data set, image by image, and accounts for all of them."""

from __future__ import annotations

from paddlex_ml.formats.collector import Collector
from paddlex_ml.formats.yolo_images import TEST
from paddlex_ml.formats.yolo_labels import LabelFiles, find_subset
from paddlex_ml.formats.yolo_lines import FIX, ClassIds, sniff
from paddlex_ml.wording import count, first_names, part_of

_IMAGES, _HAVE = ("image", "images"), ("has", "have")


class YoloLabelReader:
    """Reads labels; keeps what it has read, and which images have no label file."""

    def __init__(self, collector: Collector, labels: LabelFiles, ids: ClassIds) -> None:
        self._collector = collector
        self._labels = labels
        self._ids = ids
        self._read: dict[str, frozenset[int]] = {}
        self._unusual: dict[str, list[str]] = {}  # folder -> "image = label file"
        self._owners: dict[str, dict[str, None]] = {}  # label file -> images
        self._claims = {
            image: (file, images) for file, images in labels.disputed.items() for image in images
        }

    def read(self, image: str, named: str = "") -> frozenset[int]:
        """Class ids of an image, by its path; `named` is the label file that a list names."""
        files = self._labels.found.get(image, [])
        named = named.replace("\\", "/").removeprefix("./")
        if named in self._labels:
            files = [named, *(file for file in files if file != named)]
        elif image in self._labels.unusual:
            file = self._labels.unusual[image]
            shown = self._unusual.setdefault(file.rpartition("/")[0], [])
            shown.append(f"{image} = {file}")
        if not files:
            self._note_without(image)
            return frozenset()
        sets = [self._parse(file) for file in files]
        if other := next(
            (file for file, ids in zip(files, sets, strict=True) if ids != sets[0]), ""
        ):
            text = f"{files[0]} and {other} may be its labels, and they differ"
            fix = f"remove one of the two files: {files[0]} or {other}"
            self._collector.add_fault("two label files", image, text, fix)
        self._owners.setdefault(files[0], {})[image] = None
        return sets[0]

    def close(self, images: int) -> None:
        """Account for what is left, when all `images` of the lists are read."""
        self._note_places()
        collector = self._collector
        self._leave_out_unlisted()
        unused = self._list_unused()
        without = list(collector.account.not_annotated)
        collector.account.left_out.update(dict.fromkeys(unused, "no image has its name"))
        if unused:
            shown = first_names(unused, 5)
            collector.notes.append(
                f"{count(len(unused), 'label file has', 'label files have')} no image: {shown}"
            )
        if unused and 2 * len(without) > images:
            text = (
                f"{part_of(len(without), images, _IMAGES, _HAVE)} no label file "
                f"({first_names(without, 3)}), but "
                f"{count(len(unused), 'label file has', 'label files have')} no image"
                f" ({first_names(unused, 3)})"
            )
            fix = f"{collector.layout}; or move these label files out of the data set"
            collector.add_fault("labels not read", "", text, fix)

    def _leave_out_unlisted(self) -> None:
        """Enter the label files of images that are in no list."""
        left_out = self._collector.account.left_out
        unlisted = []
        for image, files in self._labels.found.items():
            unread = [file for file in files if file not in self._read]
            is_test = left_out.get(image) == TEST or find_subset(image) == "test"
            left_out.update(dict.fromkeys(unread, TEST if is_test else "of an image in no list"))
            if len(unread) == len(files) and not is_test:
                unlisted.append(image)
        if unlisted:
            text = count(len(unlisted), "image with labels is", "images with labels are")
            self._collector.notes.append(f"{text} in no list: {first_names(unlisted, 5)}")

    def _note_without(self, image: str) -> None:
        """Enter an image without a label file, or with one that it may not have."""
        if image in self._claims:
            file, images = self._claims[image]
            text = f"{file} may be the labels of {first_names(images, 3)}"
            fix = self._collector.layout
            self._collector.add_fault("label file of several images", file, text, fix)
        else:
            self._collector.account.not_annotated[image] = None

    def _note_places(self) -> None:
        notes = self._collector.notes
        for folder, pairs in sorted(self._unusual.items()):
            place = f"{folder}/" if folder else "the data set folder"
            text = f"the labels of {count(len(pairs), 'image')} are read from {place}"
            notes.append(f"{text}: {first_names(pairs, 3)}")
        if shared := [file for file, images in self._owners.items() if len(images) > 1]:
            text = (
                f"{count(len(shared), 'label file is that', 'label files are those')} of "
                "several images each"
            )
            example = f"{shared[0]} of {first_names(list(self._owners[shared[0]]), 3)}"
            notes.append(f"{text}: {example}")
        if without := list(self._collector.account.not_annotated):
            shown = first_names(without, 5)
            notes.append(
                f"{count(len(without), 'image has', 'images have')} no label file, so no "
                f"label: {shown}"
            )

    def _list_unused(self) -> list[str]:
        """The label files that belong to no image; other text files stay unknown."""
        inventory = self._collector.inventory
        folders = {file.rpartition("/")[0] for file in self._read}
        unused = []
        for file in self._labels.list_unused():
            if file in self._read or find_subset(file) == "test":
                continue
            head = inventory.read_head(file)
            if sniff(head) or (not head.strip() and file.rpartition("/")[0] in folders):
                unused.append(file)
        return unused

    def _parse(self, file: str) -> frozenset[int]:
        if file in self._read:
            return self._read[file]
        found = set()
        records = 0
        for number, line in enumerate(self._collector.read_lines(file, records=False), 1):
            id_ = self._ids.parse(line or "")
            records += id_ is not None
            if isinstance(id_, int):
                found.add(id_)
            elif id_:
                self._collector.add_fault("malformed line", f"{file}:{number}", id_, FIX)
        self._collector.account.use(file, records)
        self._read[file] = frozenset(found)
        return self._read[file]
