# SPDX-License-Identifier: Apache-2.0
"""Whatever layout a set has and whatever one thing is damaged: the true labels, or a refusal.

`python -m tests.formats.test_fuzz 20000` runs that many rounds and prints those that are wrong.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry
from paddlex_ml.formats.collector import Options, SourceDataset
from tests.formats.layouts import WRITERS, Truth, draw

ROUNDS = 300
TEXTS = (".txt", ".csv", ".json", ".jsonl", ".xml", ".yaml", ".ndjson", ".manifest", ".names")
IMAGES = (".jpg", ".jpeg", ".png")


def list_files(root: Path, *suffixes: str) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() in suffixes)


def recase(name: str, random: Random) -> str:
    return random.choice([name.upper(), name.lower(), name.title(), name.swapcase()])


def leave(root: Path, random: Random) -> None:
    """No damage."""


def rename_a_folder(root: Path, random: Random) -> None:
    folders = sorted(path for path in root.rglob("*") if path.is_dir())
    if folders:
        folder = random.choice(folders)
        folder.rename(folder.with_name(recase(folder.name, random)))


def rename_images_in_other_capitals(root: Path, random: Random) -> None:
    for image in list_files(root, *IMAGES):
        image.rename(image.with_name(image.stem + image.suffix.upper()))


def rename_text_files(root: Path, random: Random) -> None:
    suffix = random.choice(TEXTS)
    for path in list_files(root, suffix):
        path.rename(path.with_name(path.stem + path.suffix.upper()))


def move_images_deeper(root: Path, random: Random) -> None:
    for image in list_files(root, *IMAGES):
        (image.parent / "more").mkdir(exist_ok=True)
        image.rename(image.parent / "more" / image.name)


def move_everything_deeper(root: Path, random: Random) -> None:
    inner = root / "export"
    inner.mkdir()
    for path in sorted(root.iterdir()):
        if path != inner:
            path.rename(inner / path.name)


def convert_images(root: Path, random: Random) -> None:
    for image in list_files(root, *IMAGES):
        image.rename(image.with_suffix(".webp"))


def encode(root: Path, random: Random) -> None:
    encoding = random.choice(["utf-16", "utf-8-sig", "gb18030"])
    for path in list_files(root, *TEXTS):
        content = path.read_text("utf-8").encode(encoding)
        with suppress(UnicodeDecodeError):
            if encoding == "gb18030" and content.decode("utf-8"):
                continue  # the same bytes are another text in UTF-8, which counts
        path.write_bytes(content)


def end_lines_as_windows(root: Path, random: Random) -> None:
    for path in list_files(root, *TEXTS):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def write_paths_of_windows(root: Path, random: Random) -> None:
    for path in list_files(root, ".txt", ".csv"):
        path.write_text(re.sub(r"(\w)/(\w)", r"\1\\\2", path.read_text("utf-8")), "utf-8")


def add_prose(root: Path, random: Random) -> None:
    (root / "README.dataset.txt").write_text("A set of images. https://example.org", "utf-8")
    (root / "notes.txt").write_text("to do: label the rest", "utf-8")


def add_hidden_files(root: Path, random: Random) -> None:
    for folder in [root, *sorted(path for path in root.rglob("*") if path.is_dir())]:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "Thumbs.db").write_bytes(b"\0")


def cut_a_file(root: Path, random: Random) -> None:
    path = random.choice(list_files(root, *TEXTS) or [None])
    if path:
        content = path.read_bytes()
        path.write_bytes(content[: random.randint(0, max(0, len(content) - 1))])


Damage = Callable[[Path, Random], None]
DAMAGES: list[Damage] = [
    *(leave, rename_a_folder, rename_images_in_other_capitals, rename_text_files),
    *(move_images_deeper, move_everything_deeper, convert_images, encode, end_lines_as_windows),
    *(write_paths_of_windows, add_prose, add_hidden_files),
]


def labels_by_image(dataset: SourceDataset) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for images in dataset.lists.values():
        for path, row in zip(images.paths, images.targets, strict=True):
            names = {n for n, shows in zip(dataset.label_names, row > 0, strict=True) if shows}
            found.setdefault(Path(path).stem.casefold(), set()).update(names)
    return found


def compare(truth: Truth, dataset: SourceDataset, source: str) -> str:
    """What is wrong with the labels that were read; "" when nothing is."""
    found = labels_by_image(dataset)
    for image, labels in truth.labels.items():
        expected = set(labels)
        if source == "CelebA":
            expected = {name.replace(" ", "_") for name in expected}
        key = Path(image).stem.casefold()
        if key not in found:
            # Formats of one folder or row a label cannot name an image without any.
            if expected or source not in ("ImageFolder", "OpenImages"):
                return f"{image} is lost"
        elif found[key] != expected:
            return f"{image} has {sorted(found[key])}, not {sorted(expected)}"
    return f"{len(found)} images" if len(found) > len(truth.labels) else ""


def play(folder: Path, seed: int, damages: list[Damage]) -> tuple[str, str, str]:
    """One round: the layout and the damage, the result in a word, and what is wrong."""
    random = Random(seed)
    layout = random.choice(sorted(WRITERS))
    damage = random.choice(damages)
    source, writer = WRITERS[layout]
    if source == "ImageFolder" and damage is rename_a_folder:
        damage = leave  # a folder is a class there
    root = folder / "set"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    truth = draw(random)
    while layout == "CelebA" and any(" " in image for image in truth.labels):
        truth = draw(random)  # its columns are separated by spaces
    writer(root, truth, random)
    damage(root, random)
    asked = random.choice([source, registry.AUTO])
    told = f"{layout}, {damage.__name__}, read as {asked}"
    try:
        dataset = registry.read(root, asked, Options())
    except PaddlexMLError as error:
        return told, "refused", str(error) if damage is leave else ""
    return told, "read", compare(truth, dataset, source)


@pytest.mark.parametrize("part", range(10))
def test_the_true_labels_come_back_or_the_set_is_refused(tmp_path: Path, part: int) -> None:
    size = ROUNDS // 10
    for seed in range(part * size, (part + 1) * size):
        told, _, wrong = play(tmp_path, seed, DAMAGES)
        assert not wrong, f"round {seed}: {told}: {wrong}"


def test_a_file_that_was_cut_off_gives_no_wrong_label(tmp_path: Path) -> None:
    """A text that ends early may lose images or labels that nobody can miss, but adds none."""
    for seed in range(100):
        random = Random(seed)
        layout = random.choice(sorted(set(WRITERS) - {"CSV names", "CelebA", "OpenImages"}))
        source, writer = WRITERS[layout]
        root = tmp_path / str(seed)
        root.mkdir()
        truth = draw(random)
        writer(root, truth, random)
        cut_a_file(root, random)
        try:
            found = labels_by_image(registry.read(root, source, Options()))
        except PaddlexMLError:
            continue
        for image, labels in truth.labels.items():
            read = found.get(Path(image).stem.casefold(), set())
            extra = {n for n in read - set(labels) if not any(m.startswith(n) for m in labels)}
            assert not extra, f"round {seed}: {layout}: {image} has {extra}"


def main(rounds: int) -> None:
    """Play many rounds by hand, and print the wrong ones and how many were read."""
    results: Counter[tuple[str, str]] = Counter()
    refused: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(rounds):
            told, result, wrong = play(Path(folder), seed, DAMAGES)
            results[result, "wrong" if wrong else "right"] += 1
            if result == "refused":
                refused[told] += 1
            if wrong:
                print(f"round {seed}: {told}: {wrong.splitlines()[0]}")
    print(dict(results))
    for told, count in refused.most_common(int(os.environ.get("SHOWN", "40"))):
        print(f"{count:6} refused: {told}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
