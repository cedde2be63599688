# SPDX-License-Identifier: Apache-2.0
"""Reading images on one core: ours compared with the same steps written plainly.

    python benchmarks/loader_speed.py [--images folder] [--size 448] [--rounds 5]

The plain way opens, converts, resizes, changes and normalises each image with Pillow and numpy and
stacks the results; ours is what one worker and the main process do. Both make the same random
changes. Rounds alternate, so that other load on the machine affects all ways alike; medians.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from paddlex_ml.data import augment, image_cache, transforms, worker
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset, SampleIndex
from paddlex_ml.data.preprocess import standard

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
AUGMENTATION = Augmentation(seed=1, cutout=0.5, randaugment=True, flip=True)
BATCH, FEW, MANY = 8, 8, 40
Way = Callable[[int], Iterator[np.ndarray]]  # number of an epoch -> its batches [B, 3, S, S]


def main() -> int:
    """Measure everything and print it as tables of Markdown."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs; none: noise is drawn")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small, large = _photographs(options.images, folder)
        size, rounds = options.size, options.rounds
        print("| images | way | images/s on one core | ratio | equal pixels |")
        print("|---|---|---:|---:|---:|")
        _compare("640 x 480", _small_ways(small, size, folder), rounds)
        _compare("4000 x 3000", _large_ways(large, size), rounds)
        print()
        _show_differences(large, size)
        print()
        _show_transport(small, size, rounds)
    return 0


def _photographs(source: Path | None, folder: Path) -> tuple[ImageList, ImageList]:
    """640 x 480 or so as they are, and a few of them enlarged to 4000 x 3000, quality 90."""
    paths = sorted(source.rglob("*.jpg"))[:MANY] if source is not None else []
    if not paths:
        rng = np.random.default_rng(0)
        for k in range(MANY):
            waves = cv2.resize(rng.random((16, 20, 3)), (640, 480), interpolation=cv2.INTER_CUBIC)
            noisy = 255 * waves + rng.normal(0, 8, waves.shape)
            paths.append(folder / f"drawn_{k}.jpg")
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    enlarged = []
    for k, path in enumerate(paths[:FEW]):
        enlarged.append(folder / f"large_{k}.jpg")
        image = Image.open(path).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
        image.save(enlarged[-1], quality=90)
    return _make_list(paths), _make_list(enlarged)


def _make_list(paths: Sequence[Path]) -> ImageList:
    names = [str(path.absolute()) for path in paths]
    return ImageList(Path("/"), names, np.zeros((len(names), 20), np.uint8))


def _small_ways(images: ImageList, size: int, folder: Path) -> dict[str, Way]:
    lists = [(images, False)]
    (ram,) = image_cache.open_caches("ram", lists, size)
    (disk,) = image_cache.open_caches("disk", lists, size, folder=folder / "kept")
    return {
        "plain": _plain(images, size),
        "ours": _ours(MultiLabelDataset(images, standard(size), AUGMENTATION)),
        "ours, cache: ram, from the second epoch": _ours(
            MultiLabelDataset(images, standard(size), AUGMENTATION, cache=ram)
        ),
        "ours, cache: disk, from the second epoch": _ours(
            MultiLabelDataset(images, standard(size), AUGMENTATION, cache=disk)
        ),
    }


def _large_ways(images: ImageList, size: int) -> dict[str, Way]:
    (ram,) = image_cache.open_caches("ram", [(images, True)], size)
    reduced = MultiLabelDataset(images, standard(size), AUGMENTATION, reduced_decode=True)
    kept = MultiLabelDataset(images, standard(size), AUGMENTATION, reduced_decode=True, cache=ram)
    return {
        "plain": _plain(images, size),
        "ours, reduced_decode: false": _ours(
            MultiLabelDataset(images, standard(size), AUGMENTATION)
        ),
        "ours, reduced_decode: true": _ours(reduced),
        "ours, reduced and cache: ram, from the second epoch": _ours(kept),
    }


def _ours(dataset: MultiLabelDataset) -> Way:
    def epoch(number: int) -> Iterator[np.ndarray]:
        for start in range(0, len(dataset), BATCH):
            batch = [SampleIndex(number, k) for k in range(start, min(start + BATCH, len(dataset)))]
            yield dataset.preprocess.normalise(worker.make_batch(batch, dataset).images)

    return epoch


def _plain(images: ImageList, size: int) -> Way:
    def epoch(number: int) -> Iterator[np.ndarray]:
        for start in range(0, len(images), BATCH):
            arrays = []
            for k in range(start, min(start + BATCH, len(images))):
                image = Image.open(images.path(k)).convert("RGB")
                image = image.resize((size, size), Image.Resampling.BILINEAR)
                image = _changed(image, np.random.default_rng([AUGMENTATION.seed, number, k]))
                pixels = np.asarray(image).astype(np.float32) * np.float32(1 / 255)
                arrays.append(np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1)))
            yield np.stack(arrays)

    return epoch


def _changed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The changes of `AUGMENTATION` with Pillow alone, drawn in the same order."""
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = augment.cutout(image, AUGMENTATION.cutout, rng)
    for _ in range(2):
        name = augment.NAMES[int(rng.integers(len(augment.NAMES)))]
        step = int(rng.integers(1, augment.STEPS + 1))
        if rng.random() >= augment.PROBABILITY:
            continue
        if name == "cutout":
            image = augment._small_cutout(image, step, rng)
            continue
        sign = -1 if rng.random() < 0.5 and augment.OPERATIONS[name].either_way else 1
        strength = sign * augment.OPERATIONS[name].strength(step)
        if name in ("shearX", "shearY"):
            matrix = (1, strength, 0, 0, 1, 0) if name == "shearX" else (1, 0, 0, strength, 1, 0)
            image = image.transform(
                image.size,
                Image.Transform.AFFINE,
                matrix,
                resample=Image.Resampling.BICUBIC,
                fillcolor=augment.GREY,
            )
        elif name == "sharpness":
            image = ImageEnhance.Sharpness(image).enhance(1 + strength)
        else:
            image = augment.OPERATIONS[name].apply(image, strength)
    return image


def _compare(what: str, ways: dict[str, Way], rounds: int) -> None:
    """Run all ways in turns, after epochs that fill caches and compile, and print rows."""
    for way in ways.values():
        for epoch in range(2 if what.startswith("4000") else 12):
            for _ in way(epoch):
                pass
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    equal: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        plain = list(ways["plain"](number))
        for name, way in ways.items():
            took, batches = 0.0, way(number)
            for expected in plain:
                begin = time.process_time()
                batch = next(batches)
                took += time.process_time() - begin
                equal[name].append(float((batch == expected).mean()))
            seconds[name].append(took / sum(map(len, plain)))
    first = statistics.median(seconds["plain"])
    for name, values in seconds.items():
        median = statistics.median(values)
        share = statistics.mean(equal[name])
        print(f"| {what} | {name} | {1 / median:.0f} | {first / median:.1f} | {share:.1%} |")


def _show_differences(images: ImageList, size: int) -> None:
    """What reduced decoding changes in the resized picture, in steps of 0..255."""
    print("| photographs | training size | reduced to | mean | 99.9 % within | largest |")
    print("|---|---:|---:|---:|---:|---:|")
    for grain in (0, 6):
        for side in sorted({224, size}):
            differences, sides = [], set()
            for k in range(len(images)):
                content = _with_grain(images.path(k), grain)
                whole = transforms.decode_image(content, where="benchmark")
                reduced = transforms.decode_image(content, where="benchmark", min_side=2 * side)
                sides.add(f"{reduced.width} x {reduced.height}")
                ours, theirs = (standard(side).resize(i) for i in (reduced, whole))
                differences.append(np.abs(ours.astype(int) - theirs))
            every = np.stack(differences)
            print(
                f"| {'with grain' if grain else 'enlarged'} | {side} | {', '.join(sorted(sides))} "
                f"| {every.mean():.2f} | {np.quantile(every, 0.999):.0f} | {every.max()} |"
            )


def _with_grain(path: Path, spread: float) -> bytes:
    """A JPEG with the noise of a sensor: enlarging has left no fine detail."""
    if not spread:
        return path.read_bytes()
    pixels = np.asarray(Image.open(path)).astype(np.float32)
    pixels += np.random.default_rng(0).normal(0, spread, pixels.shape).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _show_transport(images: ImageList, size: int, rounds: int) -> None:
    """What the pipe and the start of workers cost, with batches that cost nothing to make."""
    from paddlex_ml.data import loader  # Paddle: workers read this file too, and need none

    (kept,) = image_cache.open_caches("ram", [(images, False)], size)
    dataset = MultiLabelDataset(images, standard(size), cache=kept)
    for k in range(len(images)):
        dataset[SampleIndex(0, k)]
    batches = [[SampleIndex(0, k % len(images)) for k in range(32)]] * 8
    with closing(loader.Loader(dataset, 1)) as feed:
        list(feed.epoch(batches))  # starts it
        shares, starts = [], []
        for _ in range(rounds):
            begin = time.process_time()
            arrived = sum(len(targets) for _, targets in feed.epoch(batches))
            shares.append((time.process_time() - begin) / arrived)
            begin = time.perf_counter()
            list(loader.batches(dataset, batches[:1], 1))
            starts.append(time.perf_counter() - begin)
    milliseconds = 1000 * statistics.median(shares)
    print(f"main process, from the pipe to tensors: {milliseconds:.2f} ms an image")
    print(f"new workers and their first batch of 32: {statistics.median(starts):.2f} s")


if __name__ == "__main__":
    sys.exit(main())
