# SPDX-License-Identifier: Apache-2.0
"""Train the starter weights: `python -m benchmarks.starter_weights WORK [--scenes DATA]`.

Draws images (`starter_images.py`) and trains the backbone of PP-LCNet to say what each cell of its
maps shows: of the last one, and of one of twice its sides. Writes it in half precision as
WORK/starter.safetensors. Everything is seeded. The images in WORK are not drawn again.

--scenes: natural_scenes (docs/results.md). Then the aim is measured too: the shipped YAML at 160 px
and 10 epochs, from the starter weights and from random ones.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
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
from paddlex_ml.models import pp_lcnet  # noqa: E402
from paddlex_ml.storage import files  # noqa: E402
from paddlex_ml.training.ema import Ema  # noqa: E402
from paddlex_ml.training.optimizer import build_optimizer  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SIDE, CROP, SEED, VAL, CHUNK = 128, 96, 42, 500, 250
PARTS = sum(starter_images.PARTS)
PRESENT, WHOLE = 0.01, 5.0  # the share from which on an image has a part, and the weight of that
BATCH, RATE, DECAY, WARMUP, AVERAGE = 64, 2e-3, 0.02, 300, 0.999
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


def draw(folder: Path, start: int) -> None:
    """Draw the images from number `start` on into a file, unless it is there."""
    path = folder / f"{start:06d}.npz"
    if path.exists():
        return
    cv2.setNumThreads(1)
    drawn = [
        starter_images.draw(np.random.default_rng([SEED, number]), SIDE)
        for number in range(start, start + CHUNK)
    ]
    images, parts = (np.stack(each) for each in zip(*drawn, strict=True))
    with files.replacing(path) as new, new.open("wb") as file:
        np.savez(file, images=images, parts=parts[:, ::2, ::2])


def read(folder: Path, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw what is missing. Images [N, S, S, 3] and what every second pixel of them shows."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, images, CHUNK)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw, folder), starts))
    read = [np.load(folder / f"{start:06d}.npz") for start in starts]
    return np.concatenate([f["images"] for f in read]), np.concatenate([f["parts"] for f in read])


class Shares(nn.Layer):
    """What each cell of a map shows, from the last map and from one of twice its sides.

    Logits of both maps [B, C, H, W] and [B, C, 2H, 2W], and of the whole image [B, C], where C
    counts all of `starter_images.PARTS`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2D(pp_lcnet.FEATURES, PARTS, 1)
        self.before = nn.Conv2D(256, PARTS, 1)
        self.whole = nn.Linear(pp_lcnet.FEATURES, PARTS)
        self.wider: paddle.Tensor | None = None

    def forward(self, features: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        """The three logits."""
        return self.last(features), self.before(self.wider), self.whole(features.mean([2, 3]))


def build() -> nn.Layer:
    """The backbone, with `Shares` behind it."""
    model = pp_lcnet.PPLCNet(Shares())

    def keep(_: nn.Layer, __: object, output: paddle.Tensor) -> None:
        model.fc.wider = output

    model.blocks5.register_forward_post_hook(keep)
    return model


def prepare(images: np.ndarray) -> paddle.Tensor:
    """Input of the model [B, 3, S, S]."""
    scaled = (images.astype(np.float32) - MEAN) / STD
    return paddle.to_tensor(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def cut(
    rng: np.random.Generator, image: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same section of both, mirrored and turned by chance."""
    y, x = rng.integers(0, (SIDE - CROP) // 2 + 1, 2)
    half = CROP // 2
    image = image[2 * y : 2 * y + CROP, 2 * x : 2 * x + CROP]
    parts = parts[y : y + half, x : x + half]
    if rng.random() < 0.5:
        image, parts = image[:, ::-1], parts[:, ::-1]
    if rng.random() < 0.25:
        image, parts = image.transpose(1, 0, 2), parts.transpose(1, 0, 2)
    return image, parts


def count_shares(parts: np.ndarray, cells: int) -> np.ndarray:
    """The share of a cell that each part takes: numbers [B, S, S, 3] -> float32 [B, k, k, C]."""
    batch, side = parts.shape[:2]
    cell = np.arange(side) // (side // cells)
    place = (np.arange(batch)[:, None, None] * cells + cell[:, None]) * cells + cell
    first = np.cumsum([0, *starter_images.PARTS[:-1]])
    flat = (place[..., None] * PARTS + parts + first).ravel()
    counts = np.bincount(flat, minlength=batch * cells * cells * PARTS)
    shares: np.ndarray = counts.reshape(batch, cells, cells, PARTS) / (side // cells) ** 2
    return shares.astype(np.float32)


def find_loss(model: nn.Layer, images: np.ndarray, parts: np.ndarray) -> paddle.Tensor:
    """Cross-entropy of the shares in the cells of both maps, and of what is in the image at all."""
    last, before, whole = model(prepare(images))
    shares = count_shares(parts, last.shape[2])
    present = (shares.mean((1, 2)) > PRESENT).astype(np.float32)
    loss = WHOLE * functional.binary_cross_entropy_with_logits(whole, paddle.to_tensor(present))
    for logits in (last, before):
        wanted = paddle.to_tensor(count_shares(parts, logits.shape[2]))
        likely = logits.transpose([0, 2, 3, 1]).split([*starter_images.PARTS], axis=-1)
        for part, share in zip(likely, wanted.split([*starter_images.PARTS], axis=-1), strict=True):
            loss = loss - (share * functional.log_softmax(part, -1)).sum(-1).mean()
    return loss


def evaluate(model: nn.Layer, images: np.ndarray, parts: np.ndarray) -> float:
    """The loss on the middles of the images."""
    model.eval()
    edge, half = (SIDE - CROP) // 2, (SIDE - CROP) // 4
    images, parts = (
        each[:, gap : each.shape[1] - gap, gap : each.shape[1] - gap]
        for each, gap in ((images, edge), (parts, half))
    )
    with paddle.no_grad():
        losses = [
            float(find_loss(model, images[i : i + 50], parts[i : i + 50]))
            for i in range(0, len(images), 50)
        ]
    model.train()
    return float(np.mean(losses))


def train(images: np.ndarray, parts: np.ndarray, epochs: int, work: Path) -> None:
    """Write the averaged entries of the backbone after each of so many epochs."""
    paddle.seed(SEED)
    rng = np.random.default_rng(SEED)
    model = build()
    optimizer = build_optimizer(model, weight_decay=DECAY)
    ema, steps, step = Ema(model, AVERAGE), epochs * ((len(images) - VAL) // BATCH), 0
    for epoch in range(epochs):
        order, begin, losses = VAL + rng.permutation(len(images) - VAL), time.time(), []
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = [cut(rng, images[i], parts[i]) for i in order[start : start + BATCH]]
            share = min(1.0, step / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.set_lr(RATE * share)
            loss = find_loss(model, *(np.stack(each) for each in zip(*chosen, strict=True)))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            ema.update(model)
            losses.append(float(loss))
            step += 1
            if step % 50 == 0:
                speed = len(losses) * BATCH / (time.time() - begin)
                now = np.mean(losses[-50:])
                print(f"step {step}/{steps} loss {now:.4f} {speed:.0f} images/s", flush=True)
        score = evaluate(model, images[:VAL], parts[:VAL])
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, validation {score:.4f}", flush=True)
        save(work / f"epoch_{epoch + 1}.safetensors", to_arrays(ema.weights))


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
    starter = given.work / "starter.safetensors"
    if not starter.exists():
        images, parts = read(given.work / "drawn", given.images)
        train(images, parts, given.epochs, given.work)
        shutil.copy(given.work / f"epoch_{given.epochs}.safetensors", starter)
    for start in (str(starter), "null") if given.scenes else ():
        measure(given.scenes, given.work / f"scenes_{start == 'null'}", start)


if __name__ == "__main__":
    main()
