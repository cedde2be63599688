# SPDX-License-Identifier: Apache-2.0
"""Hide labels of real data sets, train in several ways, and compare the mAP with full labels.

    python benchmarks/unknown_labels.py --data DIR --work DIR [--seeds 0 1 ...] [--frozen]
        [--arms full-ignore part-ignore ...]

DIR of --data holds data sets (MLClsDataset) and weights/PPLCNet_x1_0_doc_ori.pdparams. Labels are
hidden in train.txt alone: (a) six of ten labels, by chance; (b) of each image all but one present
label, chosen by chance. A seed draws what is hidden, the fresh weights and the order of the images.

Every run is the ordinary command; complete ones in --work are not repeated, others go on. With
--frozen nothing but a linear layer learns, from the means over the maps of the last four stages of
the backbone, with the same losses: minutes instead of hours. Prints Markdown for docs/results.md:
the mean over the seeds with its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks import whole_training  # noqa: E402
from benchmarks.whole_training import MODEL, WEIGHTS  # noqa: E402
from paddlex_ml.data import annotation  # noqa: E402
from paddlex_ml.metrics.average_precision import mean_average_precision  # noqa: E402
from paddlex_ml.metrics.known import UNKNOWN  # noqa: E402

if TYPE_CHECKING:
    from paddlex_ml.training.losses import LossFn
    from paddlex_ml.training.role import LabelEstimates

STAGES = ("blocks3", "blocks4", "blocks5", "blocks6")
HIDDEN = 0.6
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Quantile 0.975 of Student's t for 1, 2, ... degrees of freedom."""
EPOCHS, BATCH, RATE, DECAY = 40, 200, 1e-2, 3.0  # of the linear layer: best on seed 0 of scenes


class Arm(NamedTuple):
    """One way to train."""

    title: str
    labels: str
    """What is left of train.txt: full, fewer, part or one."""
    unknown: str
    """Train.loss.unknown."""

    @property
    def name(self) -> str:
        """As --arms names it."""
        return f"{self.labels}-{self.unknown}"


ARMS = (
    Arm("full labels", "full", "ignore"),
    Arm("all labels of 40 % of the images", "fewer", "ignore"),
    Arm("(a) 60 % hidden, ignore", "part", "ignore"),
    Arm("(a) 60 % hidden, negative", "part", "negative"),
    Arm("(a) 60 % hidden, role", "part", "role"),
    Arm("(b) one label, negative", "one", "negative"),
    Arm("(b) one label, weak_negative", "one", "weak_negative"),
    Arm("(b) one label, em", "one", "em"),
    Arm("(b) one label, role", "one", "role"),
)


def main() -> int:
    """Do the trainings that are missing, then print a table for each set."""
    parser = argparse.ArgumentParser(description="What training with unknown labels costs")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_unknown_labels")
    parser.add_argument("--sets", nargs="+", default=["natural_scenes", "clothing_ccp"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], metavar="ARM")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--alpha", type=float, default=0.1, help="Train.loss.em_alpha")
    parser.add_argument("--loss", choices=["asymmetric", "bce"], default="asymmetric")
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("-o", dest="more", action="append", default=[], help="for every command")
    options = parser.parse_args()
    train, kind = _train, f"{options.epochs} epochs"
    if options.frozen:
        train, kind = _fit_linear, f"frozen backbone, linear layer, {EPOCHS} epochs"
    settings = f"{options.size} px, {options.loss}, em_alpha {options.alpha:g}"
    for name in options.sets:
        arms = [arm for arm in ARMS if arm.unknown != "role" or options.loss == "bce"]
        if options.arms:  # full labels are what the others are compared with
            arms = [arm for arm in arms if arm.labels == "full" or arm.name in options.arms]
        scores = {arm: [train(options, name, arm, seed) for seed in options.seeds] for arm in arms}
        print(f"\n### {name}, {kind}\n\n{settings}; seeds: {len(options.seeds)}\n")
        _print_table(scores)
    return 0


def _print_table(scores: dict[Arm, list[float]]) -> None:
    """Mean mAP, how far it lies below full labels, and which part of that is won back."""
    full = np.array(scores[ARMS[0]])
    floor = {arm.labels: arm for arm in ARMS if arm.unknown == "negative"}
    print("| labels left, Train.loss.unknown | mAP | below full labels | won back |")
    print("|---|---|---|---|")
    for arm, found in scores.items():
        below = full - found
        base = scores.get(floor[arm.labels]) if arm.labels in floor else None
        lost = (full - base).mean() if base else 0.0
        back = f"{1 - below.mean() / lost:.0%}" if lost and arm not in floor.values() else ""
        print(f"| {arm.title} | {describe(found)} | {describe(below)} | {back} |")


def describe(values: np.ndarray | list[float]) -> str:
    """The mean over the seeds, with its 95 % interval."""
    count = len(values)
    if count < 2:
        return f"{np.mean(values):.3f}"
    reach = STUDENT[min(count, 10) - 2] * np.std(values, ddof=1) / count**0.5
    return f"{np.mean(values):.3f} ± {reach:.3f}"


def _hide(cells: np.ndarray, labels: str, seed: int) -> np.ndarray:
    """Labels [N, C] of a list with fewer of them; with `one`, 0 where nothing is known."""
    rng, cells = np.random.default_rng(seed), cells.copy()
    if labels == "part":
        cells.flat[rng.choice(cells.size, round(HIDDEN * cells.size), replace=False)] = UNKNOWN
    elif labels == "fewer":
        cells[rng.choice(len(cells), round(HIDDEN * len(cells)), replace=False)] = UNKNOWN
    elif labels == "one":
        for row in cells:
            if row.any():
                present = np.flatnonzero(row)
                row[present[present != rng.choice(present)]] = 0
    return cells


def _train(options: argparse.Namespace, name: str, arm: Arm, seed: int) -> float:
    """The best mAP on val.txt of one training."""
    source, data = options.data / name, options.work / name / f"{arm.labels}-{seed}"
    output = options.work / name / f"run-{options.loss}-{arm.name}-{seed}"
    if not (data / "train.txt").is_file():
        dataset = annotation.read(source)
        data.mkdir(parents=True, exist_ok=True)
        if not (data / "images").exists():
            (data / "images").symlink_to((source / "images").resolve())
        annotation.write_labels(data / "label.txt", dataset.label_names)
        annotation.write_list(data / "val.txt", dataset.val.paths, dataset.val.targets)
        left = _hide(dataset.train.targets, arm.labels, seed)
        annotation.write_list(data / "train.txt", dataset.train.paths, left)
    keys = {
        "Train.single_positive": str(arm.labels == "one").lower(),
        "Train.loss.name": options.loss,
        "Train.loss.unknown": arm.unknown,
        **({"Train.loss.em_alpha": options.alpha} if arm.unknown == "em" else {}),
    }
    return whole_training.train(options, output, data, seed, keys)


def _fit_linear(options: argparse.Namespace, name: str, arm: Arm, seed: int) -> float:
    """The mAP on val.txt of a linear layer after its last epoch."""
    arrays = read_features(options, name)
    labels = _hide(arrays["train_labels"], arm.labels, seed).astype(np.float32)
    if arm.labels == "one" and arm.unknown != "negative":
        labels[labels == 0] = UNKNOWN
    loss_fn = _choose_loss(options, arm, labels.shape[1])
    estimates, (images, classes) = None, labels.shape
    if arm.unknown == "role":
        from paddlex_ml.training.role import LabelEstimates

        expected = float(arrays["val_labels"].sum(axis=1).mean())  # as Train.loss.role_labels=null
        estimates = LabelEstimates(images, classes, labels=expected, seed=seed)
    logits = fit_linear(arrays["train"], labels, loss_fn, seed, arrays["val"], estimates)
    return mean_average_precision(logits, arrays["val_labels"])


def fit_linear(
    images: np.ndarray,
    labels: np.ndarray,
    loss_fn: LossFn,
    seed: int,
    val: np.ndarray,
    estimates: LabelEstimates | None = None,
) -> np.ndarray:
    """Train a linear layer on features [N, D] and labels [N, C]; its logits for others [M, D]."""
    import paddle

    from paddlex_ml.data.dataset import SampleIndex
    from paddlex_ml.distributed.group import ProcessGroup

    mean, spread = images.mean(axis=0), images.std(axis=0) + 1e-3
    images, val = ((each - mean) / spread for each in (images, val))
    size = min(BATCH, len(images))
    steps = len(images) // size
    paddle.seed(seed)
    rng, zero = np.random.default_rng(seed), paddle.nn.initializer.Constant(0.0)
    layer = paddle.nn.Linear(images.shape[1], labels.shape[1], weight_attr=zero)
    optimizer = paddle.optimizer.AdamW(RATE, parameters=layer.parameters(), weight_decay=DECAY)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))
        for step in range(steps):
            batch = order[step * size : (step + 1) * size]
            done = (epoch + step / steps) / EPOCHS
            rate = RATE * (1 + np.cos(np.pi * done)) / 2
            optimizer.set_lr(rate)
            features, targets = (paddle.to_tensor(each[batch]) for each in (images, labels))
            logits = layer(features)
            loss = loss_fn(logits, targets)
            if estimates is not None:
                draws = [SampleIndex(epoch, sample) for sample in batch.tolist()]
                loss = loss + estimates.loss(logits, targets, draws)
            loss.backward()
            optimizer.step()
            if estimates is not None:
                estimates.update(rate, ProcessGroup())
            optimizer.clear_grad()
    return np.asarray(layer(paddle.to_tensor(val)).numpy())


def _choose_loss(options: argparse.Namespace, arm: Arm, classes: int) -> LossFn:
    from paddlex_ml.training.losses import asymmetric_loss, bce_loss, entropy_maximised

    weights = {
        "negative": 1.0,
        "weak_negative": 1 / (classes - 1),
        "ignore": 0.0,
        "em": 0.0,
        "role": 0.0,
    }
    weight = weights[arm.unknown]
    loss_fn: LossFn = partial(bce_loss, unknown_weight=weight)
    if options.loss == "asymmetric":
        loss_fn = partial(asymmetric_loss, unknown_weight=weight)
    if arm.unknown == "em":
        return partial(entropy_maximised, loss_fn=loss_fn, alpha=options.alpha)
    return loss_fn


def read_features(options: argparse.Namespace, name: str) -> dict[str, np.ndarray]:
    """Features [N, 960] float32 and labels of both lists, kept in --work."""
    saved = options.work / f"{name}-{options.size}.npz"
    if saved.is_file():
        return dict(np.load(saved))
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    import paddle

    from paddlex_ml.artifacts import weights
    from paddlex_ml.data import preprocess
    from paddlex_ml.data.dataset import MultiLabelDataset
    from paddlex_ml.data.loader import batches, evaluation_indices
    from paddlex_ml.models import zoo

    dataset, path = annotation.read(options.data / name), options.data / WEIGHTS
    model = zoo.build(MODEL, len(dataset.label_names))
    weights.fit(model, weights.read(path), head=zoo.find(MODEL).head, where=str(path))
    model.fc = paddle.nn.Identity()
    model.eval()
    maps: list[paddle.Tensor] = []
    for stage in STAGES:
        getattr(model, stage).register_forward_post_hook(lambda _, __, out: maps.append(out))
    arrays: dict[str, np.ndarray] = {}
    for key, images in (("train", dataset.train), ("val", dataset.val)):
        data, rows = MultiLabelDataset(images, preprocess.standard(options.size)), []
        with paddle.no_grad():
            for pixels, _ in batches(data, evaluation_indices(len(data), 64), 0):
                maps.clear()
                model(pixels)
                rows.append(np.concatenate([each.mean([2, 3]).numpy() for each in maps], axis=1))
        arrays[key], arrays[f"{key}_labels"] = np.concatenate(rows), images.targets
    saved.parent.mkdir(parents=True, exist_ok=True)
    np.savez(saved, **arrays)  # type: ignore[arg-type]
    return arrays


if __name__ == "__main__":
    sys.exit(main())
