# SPDX-License-Identifier: Apache-2.0
"""Check a data set before training: text files and every image -> a report (no output).

parse the lists -> decode each image once, on all cores -> faults -> warnings, counts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddlex_ml import program
from paddlex_ml.data import annotation, class_names, findings, relations, soft_targets, targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset, Parsed
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.findings import Finding
from paddlex_ml.data.inspect_images import Inspected, inspect_images
from paddlex_ml.data.lost_images import leave_out
from paddlex_ml.data.relations import Relations, Violations
from paddlex_ml.metrics.known import is_present
from paddlex_ml.progress import ReportProgress, ignore_progress, named
from paddlex_ml.wording import count, first_names

_MATRIX = 200  # classes: a larger table of pairs would be most of the result file
_STRONGEST = 50  # pairs of classes that replace a larger table
_ROWS = 1 << 14  # targets multiplied at once
_PAIRS = 1 << 21  # pairs of labels counted at once
_TABLE = 1 << 21  # cells of a table of pairs: of many classes there are several tables


@dataclass(frozen=True)
class Report:
    """The findings. With faults there are no warnings, and `dataset` has only the sound lines."""

    dataset: MLClsDataset
    faults: list[DatasetFault]
    warnings: list[Finding]
    images: dict[str, Inspected]
    """Every image file named in a list and present, by normalised path."""
    violations: Sequence[Violations] | None = None
    """Of each rule of relations.yaml; None without such a file."""


def check(
    dataset_dir: Path, progress: ReportProgress = ignore_progress, workers: int | None = None
) -> Report:
    """Check the text files and decode every image.

    `progress(done, total)` is called as images are done. `workers`: None for one process per core
    (a small set is done in this process), 0 for this process. Raises PaddlexMLError when a worker
    is killed; faults of the data set are returned, not raised.
    """
    parsed = annotation.parse(Path(dataset_dir))
    images = inspect(parsed, progress, workers)
    known, wrong = read_relations(parsed)
    return make_report(parsed, images, [*find_faults(parsed, images), *wrong], known)


def read_relations(
    parsed: Parsed, *, required: bool = False
) -> tuple[Relations | None, list[DatasetFault]]:
    """The relations.yaml of the data set and its faults; nothing where it has none, or where the
    class names are not known. A `required` file that is not there is a fault."""
    root = parsed.dataset.root
    if not root.is_dir() or any(f.where.startswith(annotation.LABEL_FILE) for f in parsed.faults):
        return None, []
    found, faults = relations.parse(root / relations.FILE, parsed.dataset.label_names)
    if required and found is None and not faults:
        text = f"CheckDataset.repair.relations adds what {relations.FILE} says, but there is none"
        page = program.page("data.md")
        fix = f"write it ({page} shows how), or -o CheckDataset.repair.relations=false"
        faults = [DatasetFault("file missing", relations.FILE, text, fix)]
    return found, faults


def inspect(
    parsed: Parsed, progress: ReportProgress = ignore_progress, workers: int | None = None
) -> dict[str, Inspected]:
    """Decode every image that a list names; arguments and errors as those of `check`."""
    paths = {path: None for lines in parsed.lines.values() for path in lines}
    return inspect_images(parsed.dataset.root, list(paths), progress, workers)


def find_faults(
    parsed: Parsed, images: Mapping[str, Inspected], *, is_written: bool = True
) -> list[DatasetFault]:
    """All faults of the text files and of the images.

    Broken images are named by their lines; by their paths where the lists are not written yet.
    """
    locations: dict[str, list[str]] = {  # path -> ["train.txt:7", "val.txt:3"]
        path: [] for path, image in images.items() if image.problem
    }
    for name, lines in parsed.lines.items():
        for path in locations.keys() & lines.keys():
            locations[path].append(f"{name}.txt:{lines[path]}" if is_written else path)
    broken = [
        DatasetFault(
            "image not decodable",
            ", ".join(dict.fromkeys(where)),
            f"{path}: {images[path].problem}" if is_written else str(images[path].problem),
            f"{images[path].fix}; or leave such lines out: {leave_out('broken')}",
        )
        for path, where in locations.items()
        if where
    ]
    faulty = {fault.where.partition(".txt")[0] for fault in parsed.faults}
    lists = {"train": parsed.dataset.train, "val": parsed.dataset.val}
    bare = [
        findings.find_unlabelled_list(name, listed)
        for name, listed in lists.items()
        if name not in faulty
    ]
    return [*parsed.faults, *broken, *filter(None, bare)]


@named("comparing images and counting labels")
def make_report(
    parsed: Parsed,
    images: dict[str, Inspected],
    faults: list[DatasetFault],
    known: Relations | None = None,
) -> Report:
    """The report; warnings about a faulty set would mislead, they come when the set is sound."""
    warnings, violations = [], None
    if not faults:
        warnings = findings.find(parsed.dataset, parsed.lines, images)
        warnings += [*_find_spellings(parsed.dataset.label_names), *_find_readings(parsed, images)]
        if known is not None:
            lists = {"train": parsed.dataset.train, "val": parsed.dataset.val}
            violations = relations.check(known, lists)
            warnings += relations.warn(violations, lists)
    return Report(parsed.dataset, faults, warnings, images, violations)


def _find_spellings(names: list[str]) -> Iterator[Finding]:
    groups = class_names.find_spellings(names)
    if groups:
        shown = [" and ".join(map(class_names.show_name, group)) for group in groups]
        yield Finding(
            f"{count(len(groups), 'class is', 'classes are')} named in several spellings, "
            "which differ only in capitals, "
            f"spaces, width or characters that cannot be seen: {first_names(shown)}; if they mean "
            "the same, make them one class in label.txt and the lists"
        )


def _find_readings(parsed: Parsed, images: Mapping[str, Inspected]) -> Iterator[Finding]:
    """What was not read as it is stored: pages beyond the first, and samples that were scaled."""
    if not any(image.reading or image.frames > 1 for image in images.values()):
        return
    scaled: dict[str, list[str]] = {}
    films: list[str] = []
    for path in dict.fromkeys([*parsed.dataset.train.paths, *parsed.dataset.val.paths]):
        image = images[annotation.normalise_path(path)]
        if image.reading:
            scaled.setdefault(image.reading, []).append(path)
        if image.frames > 1:
            films.append(path)
    if films:
        yield Finding(
            f"{count(len(films), 'image has', 'images have')} several pages or frames, of "
            "which only the first is used: "
            f"{first_names(films, 5)}; save the others as images of their own if they count",
            [(path,) for path in films],
        )
    for reading, paths in scaled.items():
        yield Finding(
            f"{count(len(paths), 'image shows', 'images show')} {reading} by their largest "
            "value, and are scaled by that "
            f"range: {first_names(paths, 5)}; save them with 8 bits if their brightness is another",
            [(path,) for path in paths],
        )


def summarise(report: Report) -> dict[str, Any]:
    """Counts of a report without faults, as plain JSON values; image sizes are in pixels.

    class_counts        list -> class -> images
    labels_per_image    list -> mean, images by number of labels
    image_sizes         width and height: min, median, max
    image_formats       format -> images
    co_occurrence       train and val together: classes, and `counts` [C][C] of images that show
                        both; for more than 200 classes the 50 most frequent `pairs` instead
    warnings            text, number of images or pairs, all of them, and the classes concerned
    unknown_labels      list -> labels, share of all, and images where each class is known; only
                        where a list has unknown labels
    soft_labels         labels and images of train with soft values, if any
    weights             images of train with a weight other than 1, if any; min, median, max
    """
    names = report.dataset.label_names
    lists = {"train": report.dataset.train, "val": report.dataset.val}
    return {
        "class_counts": {
            name: dict(zip(names, count_positives(images), strict=True))
            for name, images in lists.items()
        },
        "labels_per_image": {name: _labels_per_image(images) for name, images in lists.items()},
        "image_sizes": measure_images(report),
        "image_formats": count_formats(report),
        "co_occurrence": _describe_pairs(list(lists.values()), names),
        "warnings": [
            {
                "text": finding.text,
                "count": len(finding.images),
                "images": [list(paths) for paths in finding.images],
                "names": list(finding.names),
            }
            for finding in report.warnings
        ],
        **describe_unknown(lists, names),
        **soft_targets.summarise(report.dataset.train.soft, report.dataset.train.weights),
    }


def describe_unknown(lists: Mapping[str, ImageList], names: Sequence[str]) -> dict[str, Any]:
    """`unknown_labels` of `summarise`, or nothing where all labels are known."""
    tables = {name: images.values for name, images in lists.items()}
    if not any(map(targets.count_unknown, tables.values())):
        return {}
    described = {}
    for name, values in tables.items():
        cells, known = targets.count_unknown(values), targets.count(values).known.tolist()
        described[name] = {
            "labels": cells,
            "share": round(cells / max(1, len(values) * len(names)), 6),
            "known_images": dict(zip(names, known, strict=True)),
        }
    return {"unknown_labels": described}


def measure_images(report: Report) -> dict[str, dict[str, int]]:
    """Width and height of the images in pixels: min, median, max; empty without images."""
    sound = [image for image in report.images.values() if not image.problem]
    sides = {"width": [i.width for i in sound], "height": [i.height for i in sound]}
    return {
        side: {"min": min(pixels), "median": int(np.median(pixels)), "max": max(pixels)}
        for side, pixels in sides.items()
        if pixels
    }


def count_formats(report: Report) -> dict[str, int]:
    """Format -> images, the most frequent first."""
    return dict(Counter(image.format for image in report.images.values()).most_common())


def count_positives(images: ImageList) -> list[int]:
    """For each class, how many images of the list show it."""
    return [int(number) for number in targets.count(images.values).present]


def count_pairs(
    lists: Iterable[ImageList], classes: npt.NDArray[np.int64] | slice = slice(None)
) -> npt.NDArray[np.int64]:
    """How many images show both of two classes, [C, C]; the diagonal counts the images of a class.

    `classes` chooses some. A table of all would take gigabytes for many thousands.
    """
    counts: Any = 0
    for images in lists:
        for start in range(0, max(1, len(images)), _ROWS):
            part = targets.take(images.values, np.arange(start, min(start + _ROWS, len(images))))
            shown = is_present(targets.dense(part)[:, classes])
            rows = shown.astype(np.float32)  # exact: far below 2 ** 24
            counts = counts + (rows.T @ rows).astype(np.int64)
    return np.asarray(counts)


def _describe_pairs(lists: Sequence[ImageList], names: list[str]) -> dict[str, Any]:
    if len(names) <= _MATRIX:
        return {"classes": names, "counts": count_pairs(lists).tolist()}
    tables = [images.values for images in lists]
    classes = np.concatenate([targets.cells(table)[1].astype(np.int32) for table in tables])
    sizes = np.concatenate([targets.labels_per_image(table) for table in tables])
    ends = np.repeat(np.cumsum(sizes), sizes)  # for each label: where those of its image end
    order = np.argsort(classes, kind="stable")  # the labels by class
    step = max(1, _TABLE // len(names))
    strongest: list[tuple[int, int, int]] = []
    for start in range(0, len(names), step):
        low, high = np.searchsorted(classes, (start, start + step), sorter=order)
        table = np.zeros(step * len(names), np.int64)
        at_once = max(1, _PAIRS // max(1, int(sizes.max(initial=1))))
        for begin in range(low, high, at_once):
            entries = order[begin : min(high, begin + at_once)]
            following = ends[entries] - entries - 1  # labels of the same image, of later classes
            second = np.arange(int(following.sum())) + np.repeat(
                entries + 1 - np.cumsum(following) + following, following
            )
            first = np.repeat(classes[entries] - start, following).astype(np.int64)
            table += np.bincount(first * len(names) + classes[second], minlength=len(table))
        seen = np.flatnonzero(table)
        seen = seen[np.argsort(-table[seen], kind="stable")[:_STRONGEST]]
        found = [(int(table[k]), *divmod(int(k), len(names))) for k in seen]
        strongest += [(count, start + first, second) for count, first, second in found]
    strongest.sort(key=lambda pair: -pair[0])
    return {"pairs": [[names[i], names[k], count] for count, i, k in strongest[:_STRONGEST]]}


def _labels_per_image(images: ImageList) -> dict[str, Any]:
    counts = targets.labels_per_image(images.values)
    spread = np.bincount(counts)
    return {
        "mean": round(float(counts.mean()), 3) if len(counts) else 0.0,
        "images_by_number_of_labels": {str(k): int(n) for k, n in enumerate(spread) if n},
    }
