# SPDX-License-Identifier: Apache-2.0
"""Train PP-LCNet with and without a teacher, and compare the mAP on the same images.

    python benchmarks/distillation.py --data DIR --work DIR [--seeds 0 1 ...] [--frozen]

DIR of --data holds data sets (MLClsDataset) and weights/PPLCNet_x1_0_doc_ori.pdparams. The teacher
of a seed is the ensemble of the models that the next seeds trained without one (--teachers of
them), so that it has seen no other images than its student. With --teacher-seeds all students have
the same teachers, of these seeds, which may learn for longer (--teacher-epochs).

Every run is the ordinary command; complete ones in --work are not repeated, others go on. With
--frozen nothing but a linear layer learns, from the features of `unknown_labels.py --frozen`, and
its teachers are perceptrons with a hidden layer on the same features: minutes instead of hours.
Prints Markdown for docs/results.md: the mean over the seeds with its 95 % interval (Student's t),
and that of the same difference over the images of val.txt (bootstrap, paired).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks import whole_training  # noqa: E402
from benchmarks.unknown_labels import (  # noqa: E402
    BATCH,
    DECAY,
    EPOCHS,
    RATE,
    describe,
    read_features,
)
from paddlex_ml.data import annotation  # noqa: E402
from paddlex_ml.metrics import bootstrap  # noqa: E402
from paddlex_ml.metrics.average_precision import mean_average_precision  # noqa: E402
from paddlex_ml.metrics.ties import NOISE  # noqa: E402

HIDDEN, HIDDEN_RATE, HIDDEN_DECAY = 256, 2e-3, 0.05  # of the perceptrons
ROUNDS = 200


class Arm(NamedTuple):
    """One way to train: with a teacher, at these values of Train.distillation; or without."""

    weight: float | None = None
    temperature: float = 1.0
    epochs: int | None = None
    """Of a teacher; None: those of --epochs."""

    def __str__(self) -> str:
        if self.weight is None:
            return "without a teacher"
        return f"with it, weight {self.weight:g}, temperature {self.temperature:g}"


def main() -> int:
    """Do the trainings that are missing, then print a table for each set."""
    parser = argparse.ArgumentParser(description="What a teacher adds")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_distillation")
    parser.add_argument("--sets", nargs="+", default=["natural_scenes", "clothing_ccp"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--teachers", type=int, default=2)
    parser.add_argument("--teacher-seeds", type=int, nargs="+", default=[])
    parser.add_argument("--teacher-epochs", type=int, help="of those; default: --epochs")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.5])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("-o", dest="more", action="append", default=[], help="for every command")
    options = parser.parse_args()
    train, kind = _train, f"{options.epochs} epochs"
    if options.frozen:
        train, kind = _train_frozen, f"frozen backbone, linear layer, {EPOCHS} epochs"
    arms = [Arm(), *(Arm(w, t) for w in options.weights for t in options.temperatures)]
    for name in options.sets:
        labels = annotation.read(options.data / name).val.targets
        found = {
            arm: np.stack([train(options, name, arm, seed) for seed in options.seeds])
            for arm in arms
        }
        print(f"\n### {name}, {kind}\n")
        teachers = len(options.teacher_seeds) or options.teachers
        print(f"{options.size} px; seeds: {len(options.seeds)}; teachers of each: {teachers}\n")
        if options.frozen:
            ensembles = [_sigmoid(_teach(options, name, seed)[1]) for seed in options.seeds]
        else:
            every = ({run: _train(options, name, *run) for run in _teachers(options, seed)}
                     for seed in options.seeds)  # fmt: skip
            ensembles = [np.stack(list(scores.values())) for scores in every]
        _print_table(found, np.stack([each.mean(axis=0) for each in ensembles]), labels)
    return 0


def _print_table(found: dict[Arm, np.ndarray], ensembles: np.ndarray, labels: np.ndarray) -> None:
    """Of scores [seeds, N, C] of val.txt."""
    plain = found[Arm()]
    rows = {"the teachers, as an ensemble": ensembles, **{str(a): s for a, s in found.items()}}
    print("| training | mAP | more than without | over images |\n|---|---|---|---|")
    weights = bootstrap.draw_weights(len(labels), rounds=ROUNDS, seed=0)
    base, resampled = _measure(plain, labels), _resample(plain, labels, weights)
    for title, scores in rows.items():
        gain, own = "", _measure(scores, labels)
        if scores is not plain:
            low, high = np.percentile(_resample(scores, labels, weights) - resampled, [2.5, 97.5])
            gain = f"{describe(own - base)} | {low:+.3f} ... {high:+.3f}"
        print(f"| {title} | {describe(own)} | {gain or ' | '} |", flush=True)


def _measure(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mAP of each seed."""
    return np.array([mean_average_precision(each, labels, noise=NOISE) for each in scores])


def _resample(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean mAP over the seeds, of the images of each round [R]."""
    rounds = [bootstrap.resample(each, labels, weights, noise=NOISE) for each in scores]
    return np.asarray(np.nanmean(rounds, axis=2).mean(axis=0))


def _teachers(options: argparse.Namespace, seed: int) -> list[tuple[Arm, int]]:
    """The trainings that teach this seed: those of the next ones, beginning again after the last,
    or those of --teacher-seeds."""
    if options.teacher_seeds:
        return [(Arm(epochs=options.teacher_epochs), each) for each in options.teacher_seeds]
    seeds, begin = options.seeds, options.seeds.index(seed) + 1
    numbers = range(min(options.teachers, len(seeds) - 1))
    return [(Arm(), seeds[(begin + k) % len(seeds)]) for k in numbers]


def _train(options: argparse.Namespace, name: str, arm: Arm, seed: int) -> np.ndarray:
    """The scores [N, C] of val.txt from the best model of one training."""
    output = _folder(options, name, arm, seed)
    epochs = arm.epochs or options.epochs
    keys = {
        "Train.epochs_iters": epochs,
        "Train.eval_interval": epochs,
        "Train.save_interval": epochs,
        "Train.cache": "ram",
    }
    if arm.weight is not None:
        teachers = _teachers(options, seed)
        for run in teachers:
            _train(options, name, *run)
        runs = (str(_folder(options, name, *run)) for run in teachers)
        keys["Train.teacher"] = f"[{', '.join(runs)}]"
        keys["Train.distillation.weight"] = arm.weight
        keys["Train.distillation.temperature"] = arm.temperature
    whole_training.train(options, output, options.data / name, seed, keys)
    saved = output / "val_scores.npy"
    if not saved.is_file():
        from paddlex_ml.data.transforms import read_image
        from paddlex_ml.inference.static_model import StaticModel

        images = annotation.read(options.data / name).val
        model = StaticModel(output / "best_model" / "inference", "cpu")
        pixels = (model.preprocess(read_image(images.path(k))) for k in range(len(images)))
        np.save(saved, np.concatenate([model.run(each[None]) for each in pixels]))
    return np.asarray(np.load(saved))


def _folder(options: argparse.Namespace, name: str, arm: Arm, seed: int) -> Path:
    kind = "plain" if arm.epochs is None else f"plain-{arm.epochs}"
    if arm.weight is not None:
        kind = f"{arm.weight:g}-{arm.temperature:g}-of-{options.teachers}"
    if arm.weight is not None and options.teacher_seeds:
        shown = "-".join(map(str, options.teacher_seeds))
        kind = f"{arm.weight:g}-{arm.temperature:g}-of-seeds-{shown}-{options.teacher_epochs or ''}"
    folder: Path = options.work / name / f"run-{kind}-{seed}"
    return folder


def _train_frozen(options: argparse.Namespace, name: str, arm: Arm, seed: int) -> np.ndarray:
    """The scores [N, C] of val.txt from a linear layer, which perceptrons may teach."""
    arrays, q = read_features(options, name), None
    if arm.weight is not None:
        q = _sigmoid(_teach(options, name, seed)[0] / arm.temperature).mean(axis=0)
    return _sigmoid(_fit(arrays, seed, arm, q)[1])


_TAUGHT: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}


def _teach(options: argparse.Namespace, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits [teachers, N, C] of the teachers of a seed, for train.txt and for val.txt."""
    if (name, seed) not in _TAUGHT:
        arrays, numbers = read_features(options, name), range(options.teachers)
        each = [_fit(arrays, 1000 + seed * 100 + k, Arm(), None, HIDDEN) for k in numbers]
        _TAUGHT[name, seed] = np.stack([e[0] for e in each]), np.stack([e[1] for e in each])
    return _TAUGHT[name, seed]


def _fit(
    arrays: dict[str, np.ndarray], seed: int, arm: Arm, q: np.ndarray | None, hidden: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Train on features [N, D]; `q` [N, C] is what the teachers say. Logits of both lists."""
    import paddle
    from paddle import nn

    from paddlex_ml.training.distillation import divergence
    from paddlex_ml.training.losses import asymmetric_loss

    mean, spread = arrays["train"].mean(axis=0), arrays["train"].std(axis=0) + 1e-3
    images, val = ((arrays[key] - mean) / spread for key in ("train", "val"))
    labels = arrays["train_labels"].astype(np.float32)
    (count, width), classes = images.shape, labels.shape[1]
    paddle.seed(seed)
    layers: list[nn.Layer] = [nn.Linear(width, classes)]
    if hidden:
        layers = [nn.Dropout(0.3), nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(0.5)]
        layers.append(nn.Linear(hidden, classes))
    network, rng, steps = nn.Sequential(*layers), np.random.default_rng(seed), count // BATCH
    rate, decay = (HIDDEN_RATE, HIDDEN_DECAY) if hidden else (RATE, DECAY)
    optimizer = paddle.optimizer.AdamW(rate, parameters=network.parameters(), weight_decay=decay)
    for epoch in range(EPOCHS):
        order = rng.permutation(count)
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            optimizer.set_lr(rate * (1 + np.cos(np.pi * (epoch + step / steps) / EPOCHS)) / 2)
            logits = network(paddle.to_tensor(images[rows]))
            loss = asymmetric_loss(logits, paddle.to_tensor(labels[rows]), unknown_weight=None)
            if q is not None and arm.weight is not None:
                taught = divergence(logits, paddle.to_tensor(q[rows]), arm.temperature)
                loss = (1 - arm.weight) * loss + arm.weight * taught
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
    network.eval()
    with paddle.no_grad():
        first, second = (network(paddle.to_tensor(each)).numpy() for each in (images, val))
    return first, second


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float32).clip(-16, 16))))


if __name__ == "__main__":
    sys.exit(main())
