# SPDX-License-Identifier: Apache-2.0
"""check_dataset_result.json, one type for all its readers.

The order of the fields is the order of the keys in the file. Paths are relative to the output
folder, except in warnings: those are relative to the data set.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class LabelsPerImage(msgspec.Struct, frozen=True):
    """How many labels the images of one list have."""

    mean: float
    images_by_number_of_labels: dict[str, int]


class SideLengths(msgspec.Struct, frozen=True):
    """Width or height of the images, in pixels."""

    min: int
    median: int
    max: int


class CoOccurrence(msgspec.Struct, frozen=True):
    """Images that show two classes: a table, or only the most frequent pairs of many classes."""

    classes: list[str] | UnsetType = UNSET
    counts: list[list[int]] | UnsetType = UNSET
    """[C][C]; the diagonal counts the images of a class."""
    pairs: list[tuple[str, str, int]] | UnsetType = UNSET


class CheckWarning(msgspec.Struct, frozen=True):
    """One warning. The text names the first; `images` has all images or groups of images."""

    text: str
    count: int
    images: list[list[str]]
    names: list[str]
    """All classes that the warning is about, where these may be many."""


class UnknownLabels(msgspec.Struct, frozen=True):
    """Labels of one list that nobody has looked up."""

    labels: int
    """Pairs of image and class."""
    share: float
    """Of all pairs, 0 to 1."""
    known_images: dict[str, int]
    """Class -> images where it is known whether they show it."""


class SoftLabels(msgspec.Struct, frozen=True):
    """Labels of train.txt with values between 0 and 1."""

    labels: int
    """Pairs of image and class."""
    images: int


class ImageWeights(msgspec.Struct, frozen=True):
    """Weights of the images of train.txt, as written there."""

    images: int
    """Those with a weight other than 1."""
    min: float
    median: float
    max: float


class DatasetCounts(msgspec.Struct, frozen=True):
    """Counts of a data set, as `data.check.summarise` gives them."""

    class_counts: dict[str, dict[str, int]]
    """List -> class -> images."""
    labels_per_image: dict[str, LabelsPerImage]
    image_sizes: dict[str, SideLengths]
    """`width` and `height`; empty without images."""
    image_formats: dict[str, int]
    co_occurrence: CoOccurrence
    warnings: list[CheckWarning]
    unknown_labels: dict[str, UnknownLabels] | UnsetType = UNSET
    """By list; only where a list has some."""
    soft_labels: SoftLabels | UnsetType = UNSET
    weights: ImageWeights | UnsetType = UNSET


class CheckAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """Size of the data set, and the sample images that were drawn."""

    label_file: str
    num_classes: int
    train_samples: int
    train_sample_paths: list[str]
    val_samples: int
    val_sample_paths: list[str]


class CheckAnalysis(msgspec.Struct, frozen=True):
    """The pictures of the whole data set."""

    histogram: str
    report: str


class ClassCounts(msgspec.Struct, frozen=True):
    """Images of one class before and after a split."""

    name: str
    train_before: int
    val_before: int
    train_after: int
    val_after: int


class FilesOfSource(msgspec.Struct, frozen=True):
    """Files that may have annotations."""

    seen: int
    used: int


class RecordsOfSource(msgspec.Struct, frozen=True):
    """Annotation records: rows, boxes, tags."""

    read: int
    dropped: dict[str, int]
    """Reason -> records without effect."""


class ImagesOfSource(msgspec.Struct, frozen=True):
    """Images in the folder of a source."""

    seen: int
    with_labels: int
    without_labels: int
    not_annotated: int
    """Images of the lists that no annotation describes; they have no label."""
    not_named: int
    """Images that no annotation names: they are in no list."""


class ClassesOfSource(msgspec.Struct, frozen=True):
    """What became of the class names."""

    names: list[str]
    merged: dict[str, list[str]]
    """Class -> other spellings that were merged into it."""
    left_out: dict[str, str]
    """Name -> why it is no class."""


class ConversionAccount(msgspec.Struct, frozen=True):
    """What a conversion did with every file, record, image and class name of a source."""

    annotation_files: FilesOfSource
    records: RecordsOfSource
    images: ImagesOfSource
    classes: ClassesOfSource
    left_out: dict[str, int]
    """Reason -> files and folders that have no part; conversion.csv names them."""
    left_out_files: dict[str, list[str]]
    """Reason -> the first 1,000 of them."""
    encodings: dict[str, int]
    """Encoding other than UTF-8 -> text files."""
    guesses: list[list[str]]
    """Images not found as written, the first 1,000: name, path, how, where it is named."""
    unknown_labels: int = 0
    """Labels of images in the lists that the source leaves open."""


class CompletedLabels(msgspec.Struct, frozen=True):
    """Labels of one list that were changed to follow relations.yaml."""

    absent_to_present: int
    unknown_to_present: int
    unknown_to_absent: int
    not_repaired: int
    """Images that show exclusive classes; they stay as they are."""


class RuleViolations(msgspec.Struct, frozen=True):
    """A rule of relations.yaml, and how many images of each list contradict it."""

    rule: str
    train: int
    val: int


class RewrittenLists(msgspec.Struct, frozen=True):
    """What a conversion, a repair or a split changed in the data set."""

    files: list[str]
    notes: list[str]
    class_counts: list[ClassCounts]
    account: ConversionAccount | UnsetType = UNSET
    """Only of a conversion."""
    repaired: list[list[str]] | UnsetType = UNSET
    """Lines with another path, the first 1,000: position, path as it was, how found, path."""
    dropped: dict[str, int] | UnsetType = UNSET
    """Reason -> lines that are left out; conversion.csv names them."""
    completed: dict[str, CompletedLabels] | UnsetType = UNSET
    """By list; only where relations completed the labels."""


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """Content of check_dataset_result.json for a data set without a fault."""

    done_flag: bool = True
    check_pass: bool = True
    attributes: CheckAttributes
    analysis: CheckAnalysis
    dataset_path: str
    show_type: str = "image"
    dataset_type: str = "MLClsDataset"
    warnings: list[str]
    report: DatasetCounts
    rewritten: RewrittenLists | UnsetType = UNSET
    """Only where the run converted, repaired or split the data set."""
    relations: list[RuleViolations] | UnsetType = UNSET
    """Each rule of relations.yaml; only where the data set has this file."""
