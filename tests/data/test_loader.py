# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml import systems
from paddlex_ml.data import image_cache, loader, transforms, worker
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset, SampleIndex
from paddlex_ml.data.preprocess import standard
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import temporary

ROOT = Path(__file__).resolve().parents[2]
SIZE = 16
KILLED = "a process that prepares batches was killed by the system, most likely for memory"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten small images of noise with three labels."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = [f"{i}.png" for i in range(10)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(root / path)
    return ImageList(root, paths, rng.integers(0, 2, (10, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def dataset(images):
    return MultiLabelDataset(
        images, standard(SIZE), Augmentation(seed=5, cutout=0.5, randaugment=True)
    )


@pytest.fixture
def broken(images, tmp_path):
    """The same list, whose image 3 cannot be read."""
    for name in images.paths:
        (tmp_path / name).write_bytes((images.root / name).read_bytes())
    (tmp_path / "3.png").write_bytes(b"no image")
    return MultiLabelDataset(ImageList(tmp_path, images.paths, images.targets), standard(SIZE))


def collect(dataset, draws, num_workers):
    with closing(loader.batches(dataset, draws, num_workers)) as batches:
        return [(pictures.numpy(), targets.numpy()) for pictures, targets in batches]


def samples(draws):
    return [draw.sample for batch in draws for draw in batch]


def children():
    """Worker processes that still run, after a moment to end."""
    for _ in range(50):
        if not (alive := multiprocessing.active_children()):
            break
        time.sleep(0.1)
    return alive


def test_evaluation_keeps_every_image_in_order():
    draws = loader.evaluation_indices(10, 4)
    assert [len(batch) for batch in draws] == [4, 4, 2]
    assert samples(draws) == list(range(10))
    assert loader.evaluation_indices(0, 4) == []


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_the_number_of_workers_does_not_change_a_bit(dataset, num_workers):
    draws = [[SampleIndex(2, 3 * k + i) for i in (2, 0, 1)] for k in range(3)]
    alone, together = collect(dataset, draws, 0), collect(dataset, draws, num_workers)
    assert len(alone) == len(together) == 3
    for (pictures, targets), (others, their_targets) in zip(alone, together, strict=True):
        assert np.array_equal(pictures, others)
        assert np.array_equal(targets, their_targets)
    assert children() == []


def test_batches_hold_the_images_and_targets_of_their_draws(images):
    draws = loader.evaluation_indices(10, 4)
    batches = collect(MultiLabelDataset(images, standard(SIZE)), draws, 2)
    pictures = np.concatenate([batch[0] for batch in batches])
    targets = np.concatenate([batch[1] for batch in batches])
    assert pictures.shape == (10, 3, SIZE, SIZE)
    assert (pictures.dtype, targets.dtype) == (np.float32, np.float32)
    assert np.array_equal(targets, images.targets)
    image = transforms.read_image(images.path(7))
    assert np.array_equal(pictures[7], standard(SIZE)(image))


def test_augmentation_changes_from_epoch_to_epoch(dataset):
    first = collect(dataset, [[SampleIndex(0, 4)]], 0)[0][0]
    assert np.array_equal(first, collect(dataset, [[SampleIndex(0, 4)]], 0)[0][0])
    assert not np.array_equal(first, collect(dataset, [[SampleIndex(1, 4)]], 0)[0][0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_is_an_error_that_names_the_file(broken, num_workers):
    with pytest.raises(PaddlexMLError, match="not an image, but a text file") as caught:
        collect(broken, loader.evaluation_indices(10, 2), num_workers)
    assert caught.value.where == str(broken.images.path(3))
    assert (
        caught.value.fix == "replace the file by an intact copy, or remove its line from the list"
    )
    assert children() == []


def test_batches_before_the_broken_image_arrive(broken):
    arrived = []
    with (
        closing(loader.batches(broken, loader.evaluation_indices(10, 2), 2)) as batches,
        pytest.raises(PaddlexMLError),
    ):
        arrived.extend(targets.shape[0] for _, targets in batches)
    assert arrived == [2]  # image 3 is in the second batch


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_ends_the_workers(dataset, taken):
    draws = [[SampleIndex(epoch, s) for s in range(5)] for epoch in range(20)]
    batches = loader.batches(dataset, draws, 2)
    for _ in range(taken):
        next(batches)
    batches.close()
    assert children() == []


def test_an_error_in_the_loop_ends_the_workers(dataset):
    batches = loader.batches(dataset, [[SampleIndex(epoch, 0)] for epoch in range(20)], 2)
    next(batches)
    with pytest.raises(ZeroDivisionError):
        batches.throw(ZeroDivisionError())
    assert children() == []


def test_no_draws_make_no_batches(dataset):
    assert collect(dataset, [], 2) == []


def test_workers_leave_ctrl_c_to_the_parent(dataset):
    draws = [[SampleIndex(epoch, s) for s in range(5)] for epoch in range(12)]
    with closing(loader.batches(dataset, draws, 2)) as batches:
        arrived = [next(batches)]
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGINT)
        arrived.extend(batches)
    assert len(arrived) == 12


def test_a_killed_worker_is_an_error_that_says_what_to_do(dataset):
    draws = [[SampleIndex(epoch, s) for s in range(5)] for epoch in range(40)]
    with closing(loader.batches(dataset, draws, 2)) as batches:
        next(batches)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(PaddlexMLError, match=KILLED) as caught:
            list(batches)
    assert caught.value.where.startswith(
        "data loader: 2 worker processes, each with up to 2 batches of 5 images of 16 x 16 (0.0 MB)"
    )
    assert caught.value.fix == (
        "fewer workers: -o Train.num_workers=1; or smaller batches: -o Train.batch_size=2"
    )
    assert children() == []


def test_a_worker_that_is_killed_while_images_are_kept_in_memory_names_the_cache(images):
    (kept,) = image_cache.open_caches("ram", [(images, False)], SIZE)
    dataset = MultiLabelDataset(images, standard(SIZE), cache=kept)
    with closing(loader.Loader(dataset, 1)) as feed:
        epoch = feed.epoch([[SampleIndex(0, 0)]] * 40)
        next(epoch)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(PaddlexMLError, match=KILLED) as caught:
            list(epoch)
    assert "images kept in memory take up to" in caught.value.where
    assert "a smaller cache: -o Train.cache=none" in caught.value.fix


def test_workers_stay_from_epoch_to_epoch(dataset):
    with closing(loader.Loader(dataset, 2)) as feed:
        seen = set()
        for epoch in range(3):
            draws = [[SampleIndex(epoch, 3 * k + i) for i in (2, 0, 1)] for k in range(3)]
            found = [(pictures.numpy(), targets.numpy()) for pictures, targets in feed.epoch(draws)]
            for ours, theirs in zip(found, collect(dataset, draws, 0), strict=True):
                assert np.array_equal(ours[0], theirs[0])
                assert np.array_equal(ours[1], theirs[1])
            seen |= {process.pid for process in multiprocessing.active_children()}
        assert len(seen) == 2
    assert children() == []


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("same", [True, False])
def test_an_epoch_takes_up_what_was_begun_for_it_and_nothing_else(dataset, num_workers, same):
    draws = [[SampleIndex(2, 3 * k + i) for i in (2, 0, 1)] for k in range(3)]
    with closing(loader.Loader(dataset, num_workers)) as both:
        both.begin(draws if same else draws[:1])
        if num_workers:
            assert len(multiprocessing.active_children()) >= 1
            for future in both._begun[1]:
                future.result()
        waiting = [*both._begun[1]]
        for wanted in (draws, draws[::-1]):  # the second epoch finds nothing begun
            found = [pictures.numpy() for pictures, _ in both.epoch(wanted)]
            assert len(found) == 3
            for pictures, (alone, _) in zip(found, collect(dataset, wanted, 0), strict=True):
                assert np.array_equal(pictures, alone)
            assert both._begun == ([], deque())
    assert len(waiting) == (num_workers and (3 if same else 1))
    assert children() == []


def test_what_was_begun_for_a_broken_image_or_before_an_end_is_told_by_the_epoch(broken):
    draws = loader.evaluation_indices(10, 4)
    both = loader.Loader(broken, 1)
    both.begin(draws)
    with pytest.raises(PaddlexMLError, match=r"3\.png"):
        list(both.epoch(draws))
    both.begin(draws[1:])
    both.close()  # and another epoch starts other workers
    assert len(list(both.epoch(draws[1:]))) == 2
    both.close()
    assert children() == []


def test_an_epoch_left_early_does_not_reach_into_the_next(dataset):
    draws = [[SampleIndex(epoch, s) for s in range(5)] for epoch in range(20)]
    with closing(loader.Loader(dataset, 2)) as feed:
        with closing(feed.epoch(draws)) as epoch:
            next(epoch)
        (only,) = feed.epoch([[SampleIndex(3, 7)]])
        assert np.array_equal(only[0].numpy(), collect(dataset, [[SampleIndex(3, 7)]], 0)[0][0])
    assert children() == []


def test_a_loader_recovers_from_a_broken_image_and_from_a_killed_worker(broken):
    with closing(loader.Loader(broken, 2)) as feed:
        for _ in range(2):
            with pytest.raises(PaddlexMLError, match="not an image, but a text file"):
                list(feed.epoch(loader.evaluation_indices(10, 2)))
        sound = [[SampleIndex(0, 0)], [SampleIndex(0, 1)]]
        assert len(list(feed.epoch(sound))) == 2
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(PaddlexMLError, match=KILLED):
            list(feed.epoch(sound * 20))
        assert len(list(feed.epoch(sound))) == 2
    assert children() == []


def test_workers_die_with_a_killed_parent(tmp_path, images):
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, pathlib, sys, time\n"
        "import numpy as np\n"
        "if __name__ == '__main__':\n"
        "    from paddlex_ml.data import loader\n"
        "    from paddlex_ml.data.annotation import ImageList\n"
        "    from paddlex_ml.data.dataset import SampleIndex, MultiLabelDataset\n"
        "    from paddlex_ml.data.image_cache import open_caches\n"
        "    from paddlex_ml.data.preprocess import standard\n"
        "    root = pathlib.Path(sys.argv[1])\n"
        "    images = ImageList(root, ['0.png', '1.png'], np.zeros((2, 1), np.uint8))\n"
        "    (cache,) = open_caches('ram', [(images, False)], 16)\n"
        "    feed = loader.Loader(MultiLabelDataset(images, standard(16), cache=cache), 2)\n"
        "    list(feed.epoch([[SampleIndex(0, 0)], [SampleIndex(0, 1)]]))\n"
        "    print(*(p.pid for p in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script, images.root], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(workers) >= 1
    for _ in range(100):
        if not any(map(is_alive, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_alive, workers))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_share_the_cores_with_the_trainings_of_the_machine(monkeypatch):
    monkeypatch.setattr(loader, "usable_cores", lambda: 8)
    assert [loader.count_workers(None, n) for n in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert [loader.count_workers(n, 4) for n in (0, 5)] == [0, 5]


def test_workers_are_no_more_than_windows_can_have(monkeypatch, caplog):
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    monkeypatch.setattr(loader, "usable_cores", lambda: 128)
    assert [loader.count_workers(n) for n in (None, 61)] == [61, 61]
    assert caplog.text == ""
    assert loader.count_workers(64) == 61
    assert "Train.num_workers is 64: this system can have 61" in caplog.text


def test_workers_never_import_paddle():
    code = "import sys, paddlex_ml.data.worker; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_a_worker_that_waits_for_a_disk_is_ended_at_once(tmp_path):
    os.mkfifo(tmp_path / "never")
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), worker.start)
    (process,) = [pool.submit(os.getpid).result()]
    pool.submit(open, tmp_path / "never")
    worker.end(pool)
    for _ in range(100):
        if not is_alive(process):
            break
        time.sleep(0.05)
    assert not is_alive(process)


def test_a_worker_that_dies_within_its_answer_does_not_keep_the_pool():
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), worker.start)
    pool.submit(os.getpid).result()
    manager: Any = pool._executor_manager_thread
    results: Any = pool._result_queue
    results._writer._send(b"\x00\x00\x01\x00half")  # of 256 bytes
    pool.submit(time.sleep, 60).cancel()
    deadline = time.monotonic() + 10
    while results._reader.poll():  # until the manager has read the half, and waits for the rest
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.end(pool)
    assert not manager.is_alive()


def _load_in_a_child(dataset: MultiLabelDataset, told: Path) -> None:
    collect(dataset, [[SampleIndex(0, 0)]], 1)
    server: Any = forkserver._forkserver
    told.write_text(str(server._forkserver_pid))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a server of workers")
def test_a_child_leaves_the_socket_of_its_parent(dataset, tmp_path):
    collect(dataset, [[SampleIndex(0, 0)]], 1)
    folder = Path(os.environ[temporary.SOCKETS].partition(":")[2])
    before = {*folder.iterdir()}
    assert before
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_load_in_a_child, args=(dataset, tmp_path / "server"))
    child.start()
    child.join()
    server = int((tmp_path / "server").read_text())
    deadline = time.monotonic() + 30
    while is_alive(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert before <= {*folder.iterdir()}
