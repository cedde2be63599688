# SPDX-License-Identifier: Apache-2.0
"""NUS-WIDE from its official lists and a folder of images: Train for training, Test for validation.

    ImageList.zip, Groundtruth.zip, ConceptsList.zip (each as it is, or unpacked into a folder)
    images/actor/0001_2124494179.jpg                 (a separate download: the lists have no images)
    -> images/actor/*.jpg, label.txt, train.txt, val.txt; the images hard links, or copies

- The classes are the lines of Concepts81.txt, in their order. We found no record of the sizes of
  the archives; instead there must be 81 classes, 161,789 images for training and 107,859 for
  validation.
- An image is `<folder>/<name>` of the list, or `<name>`, in the folder of images. Many are not on
  Flickr any more: a missing image is a fault, or is left out with `skip_missing`.
- A label that is neither 0 nor 1 (others report one in the published Labels_lake_Train.txt, line
  78372) is taken from Labels_<class>.txt, which has the labels of all images once more.
- An image that a list names twice becomes one line with the labels of both.

Tried with small sets of the same shape made by tests, not with all 269,648 images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.image_finder import ImageFinder, ImageProblem
from paddlex_ml.data.targets import Dense
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import nus_wide_lists, prepared
from paddlex_ml.formats.collector import SourceDataset
from paddlex_ml.formats.nus_wide_lists import SPLITS, NusWideLists
from paddlex_ml.formats.prepared import Prepared, Watch
from paddlex_ml.storage import folders
from paddlex_ml.wording import count, first_names

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
        merged = {name: _merge(fresh, paths[name], lists.targets[name], lists) for name in SPLITS}
        with watch("linked images") as progress:
            every = {path for listed in paths.values() for path in listed if path}
            for done, path in enumerate(sorted(every), 1):
                prepared.link(images / path, fresh / "images" / path)
                progress(done, len(every))
        source = SourceDataset(lists.label_names, merged, [], lists.notes)
        prepared.write(fresh, source)
    return prepared.describe(output, source)


def _find_images(root: Path, lists: NusWideLists, *, skip_missing: bool) -> dict[str, list[str]]:
    """Path of each image in the folder of images; "" for one that is left out."""
    finder, missing = ImageFinder(root), []
    paths: dict[str, list[str]] = {}
    for name, split in SPLITS.items():
        paths[name] = []
        for number, image in enumerate(lists.images[name], 1):
            path = _find_image(finder, image)
            if isinstance(path, ImageProblem) and path.kind == "image missing" and skip_missing:
                missing.append(image)
            elif isinstance(path, ImageProblem):
                fix = "restore the image, or leave out those that are not there: --skip-missing"
                fault = DatasetFault(path.kind, f"{split}Imagelist.txt:{number}", path.text, fix)
                lists.faults.append(fault)
            paths[name].append(path if isinstance(path, str) else "")
        if not any(paths[name]) and not lists.faults:
            text = f"no image of {split}Imagelist.txt is there"
            fix = "--images DIR (another folder)"
            lists.faults.append(DatasetFault("nothing found", "", text, fix))
    if missing:
        note = (
            f"{count(len(missing), 'image is', 'images are')} not there, left out: "
            f"{first_names(missing, 5)}"
        )
        lists.notes.append(note)
    return paths


def _find_image(finder: ImageFinder, image: str) -> str | ImageProblem:
    path = finder.find(image, _FOLDERS)
    if isinstance(path, str):
        return path
    without_folder = finder.find(image.replace("\\", "/").rpartition("/")[2], _FOLDERS)
    return without_folder if isinstance(without_folder, str) else path


def _merge(root: Path, paths: list[str], targets: Dense, lists: NusWideLists) -> ImageList:
    """One line for each image: the labels of lines that name the same one are merged."""
    rows: dict[str, int] = {}
    kept = [index for index, path in enumerate(paths) if path]
    row_numbers = [rows.setdefault(paths[index], len(rows)) for index in kept]
    merged = np.zeros((len(rows), targets.shape[1]), np.uint8)
    np.maximum.at(merged, row_numbers, targets[kept])
    if again := len(kept) - len(rows):
        named = count(again, "image is", "images are")
        lists.notes.append(f"{named} named more than once: their labels were merged")
    return ImageList(root, [f"images/{path}" for path in rows], merged)
