# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in the json files: a result or one clear error, and never a changed file."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco
from paddlex_ml.formats.collector import Options, SourceDataset

FILES = ("annotations/instance_train.json", "annotations/instance_val.json")
CONTENT = {
    "info": {"year": 2017, "description": "sound"},
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 4} for i in (1, 5, 9)],
    "annotations": [
        {"id": k, "image_id": i, "category_id": c, "bbox": [1, 2, 3.5, 4], "segmentation": [[1, 2]]}
        for k, (i, c) in enumerate([(1, 2), (1, 4), (5, 2)])
    ],
    "categories": [{"id": 2, "name": "cat"}, {"id": 4, "name": "dog", "supercategory": "animal"}],
}
TEXT = json.dumps(CONTENT, indent=1).encode()

# No database: hypothesis would leave a folder in the tree. The same examples on every machine.
bounded = settings(max_examples=150, derandomize=True, database=None, deadline=None)

# All that UTF-8 has. Without naming them Hypothesis tries each of a million: two seconds.
CHARACTERS = st.characters(exclude_categories=["Cs"])
names = st.sampled_from(
    ["1.jpg", "5.jpg", "../x.jpg", "/etc/hosts", "", ".", "a\\5.jpg", "\0", "a\tb"]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(CHARACTERS, max_size=5)
    | names,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(CHARACTERS, max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def list_entries(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every entry of a JSON value, as the keys that lead to it."""
    yield path
    for key in (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    ):
        yield from list_entries(value[key], (*path, key))


ENTRIES = list(list_entries(CONTENT))


def replaced(entry: tuple[Any, ...], value: Any) -> Any:
    """The sound content with another value for one entry; without the key for `...`."""
    if not entry:
        return None if value is ... else value
    content = json.loads(TEXT)
    inner = content
    for key in entry[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[entry[-1]]
    else:
        inner[entry[-1]] = value
    return content


@pytest.fixture(scope="module")
def read_damaged() -> Iterator[Callable[[bytes], SourceDataset | None]]:
    """Reads a data set whose train or val json has these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "annotations").mkdir()
        (root / "images").mkdir()
        for i in (1, 5, 9):
            (root / "images" / f"{i}.jpg").touch()

        def read(text: bytes, other: bytes = TEXT, damaged: int = 0) -> SourceDataset | None:
            for number, name in enumerate(FILES):
                (root / name).write_bytes(text if number == damaged else other)
            before = snapshot(root)
            dataset, message = attempt(root)
            assert snapshot(root) == before
            if dataset is None:
                assert "instance_" in message or "has a label" in message
            else:
                assert_sound(dataset)
            return dataset

        yield read


def attempt(root: Path) -> tuple[SourceDataset | None, str]:
    try:
        return coco.read(root, Options()), ""
    except PaddlexMLError as error:
        return None, str(error)


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


def assert_sound(dataset: SourceDataset) -> None:
    """What was read can be written, and comes back the same."""
    with tempfile.TemporaryDirectory() as folder:
        annotation.write_labels(Path(folder, "label.txt"), dataset.label_names)
        assert annotation.read_labels(Path(folder, "label.txt")) == dataset.label_names
        for name, images in dataset.lists.items():
            annotation.write_list(Path(folder, f"{name}.txt"), images.paths, images.targets)
    for images in dataset.lists.values():
        assert images.targets.shape == (len(images.paths), len(dataset.label_names))
        assert images.targets.max(initial=0) <= 1
        assert len(set(images.paths)) == len(images.paths)
        assert [path for path in images.paths if not images.root.joinpath(path).is_file()] == []


def test_the_sound_content_is_read(read_damaged: Callable[..., SourceDataset | None]) -> None:
    dataset = read_damaged(TEXT)
    assert dataset is not None
    assert dataset.lists["train"].targets.tolist() == [[1, 1], [1, 0], [0, 0]]


@bounded
@given(entry=st.sampled_from(ENTRIES), value=values, damaged=st.integers(0, 1))
def test_any_value_anywhere(
    read_damaged: Callable[..., SourceDataset | None],
    entry: tuple[Any, ...],
    value: Any,
    damaged: int,
) -> None:
    read_damaged(
        json.dumps(replaced(entry, value)).encode("utf-8", "surrogatepass"), damaged=damaged
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_any_key_removed(
    read_damaged: Callable[..., SourceDataset | None], entry: tuple[Any, ...]
) -> None:
    read_damaged(json.dumps(replaced(entry, ...)).encode())


@bounded
@given(at=st.integers(0, len(TEXT) - 1), byte=st.integers(0, 255), damaged=st.integers(0, 1))
def test_any_byte_replaced(
    read_damaged: Callable[..., SourceDataset | None], at: int, byte: int, damaged: int
) -> None:
    read_damaged(TEXT[:at] + bytes([byte]) + TEXT[at + 1 :], damaged=damaged)


@bounded
@given(begin=st.integers(0, len(TEXT)), length=st.integers(0, 300), junk=st.binary(max_size=4))
def test_any_part_cut_out_or_replaced(
    read_damaged: Callable[..., SourceDataset | None], begin: int, length: int, junk: bytes
) -> None:
    read_damaged(TEXT[:begin] + junk + TEXT[begin + length :])


@bounded
@given(
    text=st.binary(max_size=60)
    | st.text(alphabet='[]{}",:1e-."nulltrue ', max_size=40).map(str.encode)
)
def test_any_bytes(read_damaged: Callable[..., SourceDataset | None], text: bytes) -> None:
    read_damaged(text)
    read_damaged(text, other=text)


@pytest.mark.parametrize("write", [int, str])
@pytest.mark.parametrize(("images", "classes"), [(20_000, 2), (2, 20_000)])
def test_ids_of_one_hash_take_the_time_of_others(
    tmp_path: Path, write: Callable[[int], Any], images: int, classes: int
) -> None:
    (tmp_path / "0.jpg").touch()
    seconds = []
    for step in (1, 2**61 - 1):  # one table of ids that share a place would take seconds
        ids = [write(step * i) for i in range(1, max(images, classes) + 1)]
        content = {
            "images": [{"id": i, "file_name": "0.jpg"} for i in ids[:images]],
            "annotations": [{"image_id": i, "category_id": ids[0]} for i in ids[:images]],
            "categories": [{"id": i, "name": f"class {i}"} for i in ids[:classes]],
        }
        content["annotations"] += [{"image_id": ids[0], "category_id": i} for i in ids[:classes]]
        (tmp_path / "train.json").write_text(json.dumps(content))
        start = time.process_time()
        dataset = coco.read(tmp_path, Options())
        seconds.append(time.process_time() - start)
    assert seconds[1] < 3 * seconds[0]
    assert len(dataset.label_names) == classes
