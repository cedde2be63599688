# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml import machine_memory
from paddlex_ml.data import image_cache, loader, transforms
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset, SampleIndex
from paddlex_ml.data.preprocess import standard
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import file_state

ROOT = Path(__file__).resolve().parents[2]
SIZE = 16
COUNT = 6
AUGMENTATION = Augmentation(seed=5, cutout=0.5, randaugment=True, flip=True)


@pytest.fixture
def images(tmp_path):
    """Six small photographs of noise, one of them a JPEG four times larger than needed twice."""
    root = tmp_path / "set"
    root.mkdir()
    rng = np.random.default_rng(0)
    paths = [f"{i}.png" for i in range(COUNT - 1)] + ["large.jpg"]
    for path in paths:
        sides = (130, 140) if path == "large.jpg" else (20, 24)
        Image.fromarray(rng.integers(0, 256, (*sides, 3)).astype(np.uint8)).save(root / path)
    return ImageList(root, paths, rng.integers(0, 2, (COUNT, 3)).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


def opened(kind, images, folder, reduced=False):
    (found,) = image_cache.open_caches(kind, [(images, reduced)], SIZE, folder=folder)
    return found


def plain(images, index, min_side=None):
    return standard(SIZE).resize(transforms.read_image(images.path(index), min_side))


def fill(dataset):
    for index in range(len(dataset)):
        dataset[SampleIndex(0, index)]


def kept(cache, images):
    """Numbers of the images that come from the cache, with the pixels that they should have."""
    found = []
    for index in range(COUNT):
        read = []
        pixels = cache.get(
            index, images.path(index), lambda path, r=read: r.append(path) or NOTHING
        )
        if not read:
            found.append(index)
            assert np.array_equal(pixels, plain(images, index))
    return found


NOTHING = np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_kept_images_are_those_that_are_read_bit_for_bit(images, folder, kind, num_workers):
    cached = MultiLabelDataset(
        images, standard(SIZE), AUGMENTATION, cache=opened(kind, images, folder)
    )
    fresh = MultiLabelDataset(images, standard(SIZE), AUGMENTATION)
    for epoch in range(3):
        draws = [
            [SampleIndex(epoch, k), SampleIndex(epoch, COUNT - 1 - k)] for k in range(COUNT // 2)
        ]
        for ours, theirs in zip(
            loader.batches(cached, draws, num_workers), loader.batches(fresh, draws, 0), strict=True
        ):
            assert np.array_equal(ours[0].numpy(), theirs[0].numpy())
            assert np.array_equal(ours[1].numpy(), theirs[1].numpy())
    assert len(kept(cached.cache, images)) == COUNT  # what the workers have filled is seen here


def test_a_second_run_finds_what_the_first_left_on_the_disk(images, folder):
    fill(MultiLabelDataset(images, standard(SIZE), cache=opened("disk", images, folder)))
    assert kept(opened("disk", images, folder), images) == list(range(COUNT))
    assert [path.stat().st_size for path in folder.iterdir()] == [4096 + COUNT * SIZE * SIZE * 3]


def test_another_size_list_or_way_of_decoding_has_a_file_of_its_own(images, folder):
    fill(MultiLabelDataset(images, standard(SIZE), cache=opened("disk", images, folder)))
    shorter = ImageList(images.root, images.paths[:-1], images.targets[:-1])
    opened("disk", shorter, folder)
    opened("disk", images, folder, reduced=True)
    image_cache.open_caches("disk", [(images, False)], 2 * SIZE, folder=folder)
    assert len(list(folder.iterdir())) == 4


def test_reduced_decoding_goes_through_the_cache(images, folder):
    reduced = opened("disk", images, folder, reduced=True)
    dataset = MultiLabelDataset(images, standard(SIZE), reduced_decode=True, cache=reduced)
    first, second = (dataset[SampleIndex(0, COUNT - 1)][0] for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(first, plain(images, COUNT - 1, min_side=2 * SIZE))
    assert not np.array_equal(first, plain(images, COUNT - 1))


@pytest.fixture
def later(monkeypatch):
    """A time at which all files are older than a tick of the clock."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10**10)


def replace(path, how):
    """Another content of the same length and with the same time, as these tools leave it."""
    before = path.stat()
    other = path.with_name("other.bmp")
    while True:
        Image.new("RGB", (24, 20), (1, 2, 3)).save(other)
        if how == "cp -p":
            path.write_bytes(other.read_bytes())
        elif how == "rsync -t":
            other.replace(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        if after.st_ctime_ns != before.st_ctime_ns:
            break
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("how", ["cp -p", "rsync -t"])
@pytest.mark.parametrize("is_old", [False, True])
def test_a_changed_image_of_the_same_length_and_time_is_read_anew(
    images, folder, how, is_old, request
):
    if is_old:
        request.getfixturevalue("later")
    bitmaps = ImageList(images.root, [f"{k}.bmp" for k in range(COUNT)], images.targets)
    for ours, theirs in zip(images.paths, bitmaps.paths, strict=True):
        Image.open(images.root / ours).resize((24, 20)).save(images.root / theirs)
    cache = opened("disk", bitmaps, folder)
    dataset = MultiLabelDataset(bitmaps, standard(SIZE), cache=cache)
    fill(dataset)
    replace(bitmaps.path(2), how)
    assert kept(opened("disk", bitmaps, folder), bitmaps) == [0, 1, 3, 4, 5]


def test_an_image_that_is_replaced_within_a_tick_of_the_clock_is_read_anew(
    images, folder, monkeypatch
):
    monkeypatch.setattr(file_state, "_describe", lambda status: "the same in every respect")
    cache = opened("disk", images, folder)
    fill(MultiLabelDataset(images, standard(SIZE), cache=cache))
    Image.new("RGB", (20, 24), (1, 2, 3)).save(images.path(2))
    assert kept(cache, images) == [0, 1, 3, 4, 5]


def test_an_image_that_is_replaced_while_it_is_read_is_not_kept(images, folder):
    cache, path = opened("disk", images, folder), images.path(2)

    def read(path):
        pixels = standard(SIZE).resize(transforms.read_image(path))
        Image.new("RGB", (20, 24), (1, 2, 3)).save(path)
        return pixels

    cache.get(2, path, read)
    assert np.array_equal(cache.get(2, path, lambda _: plain(images, 2)), plain(images, 2))
    assert kept(cache, images) == [2]


def test_copied_images_are_read_but_not_decoded_and_then_known_by_a_look(
    images, folder, later, monkeypatch
):
    cache = opened("disk", images, folder)
    fill(MultiLabelDataset(images, standard(SIZE), cache=cache))
    for index in range(COUNT):  # other inodes and times, as on a disk that is mounted again
        path = images.path(index)
        shutil.copyfile(path, path.with_name("copy"))
        path.with_name("copy").replace(path)
    assert kept(cache, images) == list(range(COUNT))
    monkeypatch.setattr(image_cache, "_content", lambda path: pytest.fail(f"{path} is read"))
    assert kept(cache, images) == list(range(COUNT))


@pytest.mark.parametrize("offset", [3, 13, 4096, 4096 + SIZE * SIZE * 3 - 1])
def test_a_damaged_entry_is_read_again_and_mended(images, folder, offset):
    cache = opened("disk", images, folder)
    dataset = MultiLabelDataset(images, standard(SIZE), cache=cache)
    fill(dataset)
    (path,) = folder.iterdir()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    assert np.array_equal(dataset[SampleIndex(0, 0)][0], plain(images, 0))
    assert kept(cache, images) == list(range(COUNT))


def test_a_file_cut_short_is_filled_again(images, folder):
    fill(MultiLabelDataset(images, standard(SIZE), cache=opened("disk", images, folder)))
    (path,) = folder.iterdir()
    os.truncate(path, 4096 + 2 * SIZE * SIZE * 3 + 10)
    cache = opened("disk", images, folder)
    fill(MultiLabelDataset(images, standard(SIZE), cache=cache))
    assert kept(cache, images) == list(range(COUNT))


def test_images_that_grow_old_enough_while_they_are_read_are_kept(images, folder, monkeypatch):
    cache = opened("disk", images, folder)
    states = iter([image_cache._UNKNOWN, b"now known"[:12].ljust(12)] * COUNT)
    describe = image_cache._state
    monkeypatch.setattr(image_cache, "_state", lambda path: next(states, describe(path)))
    dataset = MultiLabelDataset(images, standard(SIZE), cache=cache)
    monkeypatch.setattr(cache, "_load", lambda index, path: None)
    fill(dataset)
    monkeypatch.undo()
    assert kept(opened("disk", images, folder), images) == list(range(COUNT))


def test_a_kill_before_and_within_every_write_leaves_no_wrong_entry(images, folder):
    """Each process is killed one step later than the one before: half of a write is a step."""
    found = []
    for step in range(1, 4 * COUNT + 2):
        shutil.rmtree(folder, ignore_errors=True)
        opened("disk", images, folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fork among threads: the child touches files alone
            child = os.fork()
        if child == 0:
            fill_and_die(images, folder, step)
        status = os.waitpid(child, 0)[1]
        found.append(len(kept(opened("disk", images, folder), images)))
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    # Two writes an image, two steps a write: the entry counts with the end of the second.
    assert found == [0, *(n for n in range(COUNT) for _ in range(4)), COUNT][1:]


def fill_and_die(images, folder, last):
    write, steps = os.pwrite, iter(range(1, last))

    def step():
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def halved(file, content, offset):
        content = bytes(content)
        step()
        half = write(file, content[: len(content) // 2], offset)
        step()
        return half + write(file, content[half:], offset + half)

    os.pwrite = halved
    try:
        fill(MultiLabelDataset(images, standard(SIZE), cache=opened("disk", images, folder)))
    except BaseException:
        os._exit(1)
    os._exit(0)


def test_many_processes_fill_one_file_at_once(images, folder):
    code = (
        "import sys, pickle, pathlib\n"
        "from paddlex_ml.data.annotation import ImageList\n"
        "from paddlex_ml.data.dataset import SampleIndex, MultiLabelDataset\n"
        "from paddlex_ml.data.image_cache import open_caches\n"
        "root, folder, *paths = sys.argv[1:]\n"
        "import numpy as np\n"
        "from paddlex_ml.data.preprocess import standard\n"
        "images = ImageList(pathlib.Path(root), paths, np.zeros((len(paths), 1), np.uint8))\n"
        "for _ in range(20):\n"
        f"    (cache,) = open_caches('disk', [(images, False)], {SIZE}, "
        "folder=pathlib.Path(folder))\n"
        f"    dataset = MultiLabelDataset(images, standard({SIZE}), cache=cache)\n"
        "    [dataset[SampleIndex(0, k)] for k in range(len(paths))]\n"
        "    assert cache.failure is None\n"
    )
    command = [sys.executable, "-c", code, str(images.root), str(folder), *images.paths]
    running = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    assert kept(opened("disk", images, folder), images) == list(range(COUNT))
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_deleted_in_mid_training_is_named(images, folder, num_workers):
    dataset = MultiLabelDataset(images, standard(SIZE), cache=opened("disk", images, folder))
    draws = loader.evaluation_indices(COUNT, 2)
    with closing(loader.Loader(dataset, num_workers)) as feed:
        assert len(list(feed.epoch(draws))) == 3
        images.path(4).unlink()
        with pytest.raises(PaddlexMLError, match="cannot be opened: No such file") as caught:
            list(feed.epoch(draws))
    assert caught.value.where == str(images.path(4))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_full_disk_is_one_warning_and_no_end(images, folder, caplog, monkeypatch, num_workers):
    if num_workers == 2 and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    cache = opened("disk", images, folder)
    if num_workers:  # other processes open the path again: let it lead to a disk that is full
        cache.path = Path("/dev/full")
    else:
        monkeypatch.setattr(os, "pwrite", full)
    dataset = MultiLabelDataset(images, standard(SIZE), cache=cache)
    with caplog.at_level(logging.WARNING), closing(loader.Loader(dataset, num_workers)) as feed:
        for _ in range(2):
            batches = list(feed.epoch(loader.evaluation_indices(COUNT, 2)))
    expected = standard(SIZE).normalise(np.stack([plain(images, k) for k in range(COUNT)]))
    assert np.array_equal(np.concatenate([b[0].numpy() for b in batches]), expected)
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "No space left on device" in warning
    assert "images that it does not hold are read again in every epoch" in warning


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_that_cannot_be_written_is_one_warning(images, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    lists = [(images, False), (images, True)]
    found = image_cache.open_caches("disk", lists, SIZE, folder=tmp_path / "file" / "kept")
    assert found == [None, None]
    (warning,) = caplog.messages
    assert "Not a directory" in warning
    assert "-o Train.cache_dir=" in warning


def test_the_default_folder_is_the_cache_of_the_user(images, own_cache):
    assert opened("disk", images, None).path.parent == own_cache / "images"


def test_a_disk_without_room_is_refused_before_the_training(images, folder, monkeypatch):
    usage = namedtuple("usage", "free")
    needed = 4096 + COUNT * SIZE * SIZE * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(needed - 1))
    with pytest.raises(
        PaddlexMLError, match=r"take 0\.00 GB more, and 0\.00 GB are free"
    ) as caught:
        opened("disk", images, folder)
    assert caught.value.where == str(folder)
    assert "-o Train.cache=none" in caught.value.fix
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(needed))
    fill(MultiLabelDataset(images, standard(SIZE), cache=opened("disk", images, folder)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0))
    assert kept(opened("disk", images, folder), images)  # what is there needs no more room


def test_more_than_four_fifths_of_the_memory_is_refused(images, monkeypatch):
    needed = 4096 + COUNT * SIZE * SIZE * 3
    monkeypatch.setattr(machine_memory, "available", lambda: 4 * needed * 5 // 4 + 1)
    lists = [(images, False), (images, False)]
    assert len(image_cache.open_caches("ram", lists, SIZE, processes=2)) == 2
    with pytest.raises(PaddlexMLError, match="80% may be used") as caught:
        image_cache.open_caches("ram", lists, SIZE, processes=3)
    assert caught.value.where == "Train.cache"
    assert caught.value.fix == "-o Train.cache=disk"


def test_nothing_is_kept_unless_asked_for(images, folder):
    assert opened("none", images, folder) is None
    assert not folder.exists()


def test_memory_has_no_name_that_a_kill_could_leave_behind(images):
    cache = opened("ram", images, None)
    fill(MultiLabelDataset(images, standard(SIZE), cache=cache))
    assert os.fstat(cache._file).st_nlink == 0
    assert kept(cache, images) == list(range(COUNT))


@pytest.mark.parametrize("fault", ["link", "pipe", "all may write"])
def test_a_file_that_another_user_may_have_prepared_is_not_used(
    open_folder: Path, fault: str
) -> None:
    path, victim = open_folder / "a.images", open_folder / "victim"
    victim.write_bytes(b"mine")
    if fault == "link":
        path.symlink_to(victim)
    elif fault == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"")
        path.chmod(0o666)
    with pytest.raises(OSError, match=r"another user may change it|symbolic links"):
        image_cache.ImageCache(3, 8, path)
    assert victim.read_bytes() == b"mine"
