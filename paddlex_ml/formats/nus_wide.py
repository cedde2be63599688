# SPDX-License-Identifier: Apache-2.0
"""NUS-WIDE from its official lists and a folder of images: Train trains, Test validates.

    ImageList.zip, Groundtruth.zip, ConceptsList.zip (each as it is, or unpacked into a folder)
    images/actor/0001_2124494179.jpg                 (got apart: the lists come without images)
    -> images/actor/*.jpg, label.txt, train.txt, val.txt; the images hard links, or copies

- The classes are the lines of Concepts81.txt, in their order. The sizes of the archives were never
  recorded where we could find them; instead there have to be 81 classes, 161,789 images that train
  and 107,859 that validate.
- An image is `<folder>/<name>` as the list says, or `<name>`, in the folder of images. Many have
  vanished from Flickr since: one that is not there is a fault unless it is asked to leave them out.
- A label that is neither 0 nor 1 (others report one in the published Labels_lake_Train.txt, line
  78372) is taken from Labels_<class>.txt, which has the labels of all images once more.
- An image that a list names twice becomes one line with the labels of both.

Tried with small sets of the same shape made by tests, not with the 269,648 images.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlex_ml.data.annotation import ImageList, Targets
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import nus_wide_lists, prepared
from paddlex_ml.formats.collector import Absent, ImageFinder, SourceDataset, name_first
from paddlex_ml.formats.nus_wide_lists import PARTS, Lists
from paddlex_ml.formats.prepared import Prepared, Watch
from paddlex_ml.storage import folders

_FOLDERS = ("", "Flickr", "images")  # of the images, inside the folder that is named


def prepare(
    sources: Sequence[Path],
    images: Path,
    output: Path,
    watch: Watch,
    *,
    any_size: bool,
    skip_missing: bool,
) -> Prepared:
    """Bring lists and images together in `output`, a new or empty folder.

    sources: archives or folders (`nus_wide_lists.locate`). Raises one PaddlexMLError with every
    fault; then nothing is left in `output`. The folder of images is never changed.
    """
    if not images.is_dir():
        what = "is not a folder" if images.exists() else "does not exist"
        fix = "--images DIR, the folder that holds actor/0001_2124494179.jpg and all others"
        raise PaddlexMLError(f"the folder of images {what}", where=str(images), fix=fix)
    with folders.building(output) as fresh:
        lists = nus_wide_lists.read(sources, any_size=any_size)
        paths = _find_images(images, lists, skip_missing=skip_missing)
        if lists.faults:
            raise combine(lists.faults, images)
        united = {name: _unite(fresh, paths[name], lists.targets[name], lists) for name in PARTS}
        with watch("linked images") as progress:
            every = {path for listed in paths.values() for path in listed if path}
            for done, path in enumerate(sorted(every), 1):
                _link(images / path, fresh / "images" / path)
                progress(done, len(every))
        found = SourceDataset(lists.label_names, united, [], lists.notes)
        prepared.write(fresh, found)
    return prepared.describe(output, found)


def _find_images(root: Path, lists: Lists, *, skip_missing: bool) -> dict[str, list[str]]:
    """Path of each image in the folder of images; "" for one that is left out."""
    finder, missing = ImageFinder(root), []
    paths: dict[str, list[str]] = {}
    for name, part in PARTS.items():
        paths[name] = []
        for number, image in enumerate(lists.images[name], 1):
            path = _find_image(finder, image)
            if isinstance(path, Absent) and path.kind == "image missing" and skip_missing:
                missing.append(image)
            elif isinstance(path, Absent):
                fix = "restore the image, or leave out those that are not there: --skip-missing"
                fault = DatasetFault(path.kind, f"{part}Imagelist.txt:{number}", path.text, fix)
                lists.faults.append(fault)
            paths[name].append(path if isinstance(path, str) else "")
        if not any(paths[name]) and not lists.faults:
            text, fix = f"no image of {part}Imagelist.txt is there", "--images DIR (another folder)"
            lists.faults.append(DatasetFault("nothing found", "", text, fix))
    if missing:
        told = f"{len(missing):,} images are not there, left out: {name_first(missing)}"
        lists.notes.append(told)
    return paths


def _find_image(finder: ImageFinder, image: str) -> str | Absent:
    path = finder.find(image, _FOLDERS)
    if isinstance(path, Absent):
        bare = finder.find(image.replace("\\", "/").rpartition("/")[2], _FOLDERS)
        return bare if isinstance(bare, str) else path
    return path


def _unite(root: Path, paths: list[str], targets: Targets, lists: Lists) -> ImageList:
    """One line for each image: the labels of lines that name the same one are united."""
    rows: dict[str, int] = {}
    kept = [index for index, path in enumerate(paths) if path]
    place = [rows.setdefault(paths[index], len(rows)) for index in kept]
    united = np.zeros((len(rows), targets.shape[1]), np.uint8)
    np.maximum.at(united, place, targets[kept])
    if len(rows) < len(kept):
        again = len(kept) - len(rows)
        lists.notes.append(f"{again:,} images were named again: their labels were united")
    return ImageList(root, [f"images/{path}" for path in rows], united)


def _link(source: Path, target: Path) -> None:
    """Give the file a second name, or where the disk cannot, make a copy; the first one stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = Path(os.path.realpath(source))  # not a link to it, which may lead nowhere one day
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)
