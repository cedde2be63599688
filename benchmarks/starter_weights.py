# SPDX-License-Identifier: Apache-2.0
"""Train the starter weights: `python -m benchmarks.starter_weights WORK [--scenes DATA]`.

Draws images (`starter_images.py`), trains the backbone of PP-LCNet on them with a linear layer
behind the mean of its map, and writes it in half precision as WORK/starter.safetensors. Everything
is seeded. The images in WORK are not drawn again.

--scenes: natural_scenes (docs/results.md). Then the aim is measured too: the shipped YAML at 160 px
and 10 epochs, from the starter weights and from random ones.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from paddlex_ml import paddle_runtime

paddle_runtime.prepare()
import paddle  # noqa: E402
from paddle import nn  # noqa: E402
from paddle.nn import functional  # noqa: E402

from benchmarks import starter_images  # noqa: E402
from paddlex_ml.artifacts.weights import to_arrays  # noqa: E402
from paddlex_ml.config.schema import STARTER_MODEL  # noqa: E402
from paddlex_ml.data import annotation  # noqa: E402
from paddlex_ml.metrics.average_precision import mean_average_precision  # noqa: E402
from paddlex_ml.models import pp_lcnet  # noqa: E402
from paddlex_ml.storage import folders  # noqa: E402
from paddlex_ml.training.ema import Ema  # noqa: E402
from paddlex_ml.training.optimizer import build_optimizer  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SIDE, CROP, SEED, VAL, CHUNK = 128, 96, 42, 500, 250
BATCH, RATE, DECAY, WARMUP, AVERAGE = 64, 2e-3, 0.02, 300, 0.999
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


def draw(folder: Path, start: int) -> np.ndarray:
    """Draw the images from number `start` on; returns their targets [N, C]."""
    cv2.setNumThreads(1)
    rows = []
    for number in range(start, start + CHUNK):
        image, row = starter_images.draw(np.random.default_rng([SEED, number]), SIDE)
        flags = [cv2.IMWRITE_JPEG_QUALITY, 92]
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), image[..., ::-1], flags)
        rows.append(row)
    return np.stack(rows)


def draw_set(folder: Path, images: int) -> None:
    """A data set of so many images, unless it is there."""
    if folder.exists():
        return
    with folders.building(folder) as new, ProcessPoolExecutor() as pool:
        (new / "images").mkdir()
        parts = pool.map(partial(draw, new / "images"), range(0, images, CHUNK))
        targets = np.concatenate(list(parts))
        paths = [f"images/{number:06d}.jpg" for number in range(images)]
        annotation.write_labels(new / annotation.LABEL_FILE, starter_images.CLASSES)
        annotation.write_list(new / "val.txt", paths[:VAL], targets[:VAL])
        annotation.write_list(new / "train.txt", paths[VAL:], targets[VAL:])


def read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, S, S, 3] and targets float32 [N, C] of a list."""
    lines = [line.split("\t") for line in (folder / name).read_text("utf-8").splitlines()]
    images = np.stack([np.asarray(cv2.imread(str(folder / path)))[..., ::-1] for path, _ in lines])
    return images, np.array([text.split(",") for _, text in lines], np.float32)


class Means(nn.Layer):
    """Feature map [B, D, H, W] -> logits [B, C], from the means over the map."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(pp_lcnet.FEATURES, classes)

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """Logits."""
        logits: paddle.Tensor = self.linear(features.mean([2, 3]))
        return logits


def prepare(images: np.ndarray) -> paddle.Tensor:
    """Input of the model [B, 3, S, S]."""
    scaled = (images.astype(np.float32) - MEAN) / STD
    return paddle.to_tensor(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def cut(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A part of the image, mirrored and turned by chance."""
    y, x = rng.integers(0, SIDE - CROP + 1, 2)
    part = image[y : y + CROP, x : x + CROP]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return part.transpose(1, 0, 2) if rng.random() < 0.25 else part


def evaluate(model: nn.Layer, images: np.ndarray, targets: np.ndarray) -> float:
    """MAP of the model on the middles of the images."""
    model.eval()
    edge = (SIDE - CROP) // 2
    middles = images[:, edge : edge + CROP, edge : edge + CROP]
    with paddle.no_grad():
        logits = [model(prepare(middles[i : i + 50])).numpy() for i in range(0, len(images), 50)]
    model.train()
    return float(mean_average_precision(np.concatenate(logits), targets.astype(np.uint8)))


def train(data: Path, epochs: int) -> dict[str, np.ndarray]:
    """The averaged entries of the backbone after so many epochs."""
    images, targets = read(data, "train.txt")
    val_images, val_targets = read(data, "val.txt")
    paddle.seed(SEED)
    rng = np.random.default_rng(SEED)
    model = pp_lcnet.PPLCNet(Means(targets.shape[1]))
    optimizer = build_optimizer(model, weight_decay=DECAY)
    ema, steps, step, begin = Ema(model, AVERAGE), epochs * (len(images) // BATCH), 0, time.time()
    for epoch in range(epochs):
        order, losses = rng.permutation(len(images)), []
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            share = min(1.0, step / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.set_lr(RATE * share)
            logits = model(prepare(np.stack([cut(rng, images[i]) for i in chosen])))
            wanted = paddle.to_tensor(targets[chosen])
            loss = functional.binary_cross_entropy_with_logits(logits, wanted)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            ema.update(model)
            losses.append(float(loss))
            step += 1
            if step % 50 == 0:
                speed = step * BATCH / (time.time() - begin)
                now = np.mean(losses[-50:])
                print(f"step {step}/{steps} loss {now:.4f} {speed:.0f} images/s", flush=True)
        score = evaluate(model, val_images, val_targets)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, mAP {score:.4f}", flush=True)
        save(data.parent / f"epoch_{epoch + 1}.safetensors", to_arrays(ema.weights))
    return to_arrays(ema.weights)


def save(target: Path, entries: dict[str, np.ndarray]) -> None:
    """Write all entries but those of the head, in half precision."""
    backbone = {
        name: np.asarray(values, np.float16)
        for name, values in entries.items()
        if not name.startswith("fc.")
    }
    faults = [name for name, values in backbone.items() if not np.isfinite(values).all()]
    if faults:
        sys.exit(f"too large for half precision: {faults}")
    save_file(backbone, target)
    print(f"{target}: {len(backbone)} entries, {target.stat().st_size:,} bytes")


def measure(scenes: Path, output: Path, start: str) -> None:
    """Print the mAP of the shipped YAML on natural_scenes from these weights."""
    keys = ["Global.mode=train", f"Global.dataset_dir={scenes}", f"Global.output={output}"]
    keys += [f"Train.pretrain_weight_path={start}", "Train.image_size=160", "Global.device=cpu"]
    command = [sys.executable, str(ROOT / "main.py"), "-c", STARTER_MODEL, "-o", *keys]
    subprocess.run([*command, "Train.epochs_iters=10", "Global.overwrite=true"], check=True)
    result = json.loads((output / "train_result.json").read_text())
    score = result["models"]["best"]["score"]
    print(f"natural_scenes, 160 px, 10 epochs, from {start}: mAP {score:.4f}", flush=True)


def main() -> None:
    """Draw, train, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    draw_set(given.work / "drawn", given.images)
    starter = given.work / "starter.safetensors"
    if not starter.exists():
        save(starter, train(given.work / "drawn", given.epochs))
    for start in (str(starter), "null") if given.scenes else ():
        measure(given.scenes, given.work / f"scenes_{start == 'null'}", start)


if __name__ == "__main__":
    main()
