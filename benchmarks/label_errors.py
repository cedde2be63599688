# SPDX-License-Identifier: Apache-2.0
"""Plant wrong labels in a real data set, train on it, and count how many are found.

    python benchmarks/label_errors.py --data DIR --work DIR [--set natural_scenes] [--seeds 0 ...]
    python benchmarks/label_errors.py --size 128 --checkpoints DATASET EPOCH_FOLDER ... [...]

DIR of --data holds data sets (MLClsDataset) and weights/PPLCNet_x1_0_doc_ori.pdparams. Five of
every hundred labels, in train and val both, are turned by chance; training is the ordinary command,
with the wrong labels in both lists. Errors that the data set had before count as "not planted".
Trainings that are complete in --work are not repeated. Prints Markdown.

The second form measures models of several strengths, such as the checkpoints of a training on right
labels: 0, 2, 5 and 10 of every hundred labels of val.txt are turned, in several draws. What is
listed counts as wrong where it was turned, or is one of KNOWN.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
if TYPE_CHECKING:
    from paddlex_ml.data.annotation import ImageList

WEIGHTS = "weights/PPLCNet_x1_0_doc_ori.pdparams"
MODEL = "PP-LCNet_x1_0_ML"
SHARE = 0.05
SHARES = (0.0, 0.02, 0.05, 0.1)
DRAWS = 5
FIRST = (20, 50, 100)
KNOWN = {
    "natural_scenes": {
        **dict.fromkeys(("1056", "1164", "1165", "1176"), "sunset"),
        **dict.fromkeys(("1345", "1387", "1488"), "sea"),
    }
}
"""Sunsets over the sea, looked at by eye: images of a set, and the label that each lacks."""

Arrays = dict[str, np.ndarray]


def main() -> int:
    """Train and score what is missing, then print the tables of each seed."""
    parser = argparse.ArgumentParser(description="How many planted label errors are found")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_label_errors")
    parser.add_argument("--set", default="natural_scenes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--names", type=int, default=0, help="list so many suspects not planted")
    parser.add_argument("--checkpoints", nargs="+", action="append", default=[])
    options = parser.parse_args()
    if options.checkpoints:
        _print_strengths(options)
        return 0
    for seed in options.seeds:
        work = options.work / f"{options.set}-{seed}"
        _plant(options.data / options.set, work / "data", seed)
        _train(options, work)
        arrays = _score(options, work)
        print(f"\n### {options.set}, seed {seed}: {options.size} px, {options.epochs} epochs\n")
        _report(arrays, seed)
        if options.names:
            _print_names(arrays, work / "data", options.names)
    return 0


def _print_strengths(options: argparse.Namespace) -> None:
    """A line for each checkpoint: what is listed of the labels that were turned in val.txt."""
    from paddlex_ml.data import annotation
    from paddlex_ml.metrics.average_precision import mean_average_precision

    print("| set, checkpoint | mAP | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |")
    print("|---|---|" + "---|" * len(SHARES))
    for data, *folders in options.checkpoints:
        dataset = annotation.read(Path(data), lists=("val",))
        val, known = dataset.val, KNOWN.get(Path(data).name, {})
        truth = val.targets.copy()
        for row, path in enumerate(val.paths):
            if label := known.get(Path(path).stem):
                truth[row, dataset.label_names.index(label)] = 1
        for folder in map(Path, folders):
            scores, _ = _run(folder / f"{folder.name}.pdparams", val, options.size)
            quality = mean_average_precision(scores, val.targets)
            cells = [_describe(scores, val.targets, truth, share) for share in SHARES]
            print(f"| {Path(data).name}, {folder.name} | {quality:.2f} | {' | '.join(cells)} |")


def _describe(scores: np.ndarray, targets: np.ndarray, truth: np.ndarray, share: float) -> str:
    """Mean over the draws: length of the list, share that is wrong, stated share, recall."""
    from paddlex_ml.metrics.label_quality import review

    counts, stated, able = [], [], []
    for seed in range(DRAWS if share else 1):
        flips = _draw(np.random.default_rng(seed), targets.shape, share)
        found = review(scores, targets ^ flips)
        wrong = (targets ^ flips) != truth
        hits = sum(bool(wrong[s.image, s.class_id]) for s in found.suspects)
        counts.append((len(found.suspects), hits, int(wrong.sum())))
        stated.append(found.likely_true)
        able.append(found.is_able)
    listed, hit, errors = np.array(counts, float).T
    if not listed.any():
        return "none" if any(able) else "too weak"
    text = f"{listed.mean():.0f}: {hit.sum() / listed.sum():.2f}"
    if share:
        lowest = (hit / np.maximum(listed, 1))[listed > 0].min()
        said = np.mean([each for each in stated if each is not None])
        recall = hit.sum() / errors.sum()
        text += f" (lowest {lowest:.2f}), said {said:.2f}, recall {recall:.2f}"
    return text


def _plant(source: Path, folder: Path, seed: int) -> None:
    """The data set again, with wrong labels; `*_flips.npy` remembers which."""
    from paddlex_ml.data import annotation

    if (folder / "val_flips.npy").is_file():
        return
    dataset = annotation.read(source)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "images").exists():
        (folder / "images").symlink_to((source / "images").resolve())
    annotation.write_labels(folder / "label.txt", dataset.label_names)
    rng = np.random.default_rng(seed)
    for name, images in (("train", dataset.train), ("val", dataset.val)):
        flips = _draw(rng, images.targets.shape)
        annotation.write_list(folder / f"{name}.txt", images.paths, images.targets ^ flips)
        np.save(folder / f"{name}_flips.npy", flips)


def _draw(rng: np.random.Generator, shape: tuple[int, ...], share: float = SHARE) -> np.ndarray:
    """Cells to turn: exactly that share of them, each as likely as any other."""
    flips: np.ndarray = np.zeros(shape, bool)
    flips.flat[rng.choice(flips.size, round(share * flips.size), replace=False)] = True
    return flips


def _train(options: argparse.Namespace, work: Path) -> None:
    result = work / "output" / "train_result.json"
    if result.is_file() and json.loads(result.read_text(encoding="utf-8"))["done_flag"]:
        return
    keys = {
        "Global.mode": "train",
        "Global.dataset_dir": work / "data",
        "Global.output": work / "output",
        "Train.pretrain_weight_path": options.data / WEIGHTS,
        "Train.image_size": options.size,
        "Train.epochs_iters": options.epochs,
    }
    words = [word for key, value in keys.items() for word in ("-o", f"{key}={value}")]
    command = [sys.executable, str(ROOT / "main.py"), "-c", MODEL, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _score(options: argparse.Namespace, work: Path) -> Arrays:
    """Scores and features of both lists by the trained weights, and features by those before."""
    from paddlex_ml.data import annotation

    saved = work / "scores.npz"
    if saved.is_file():
        return dict(np.load(saved))
    arrays: Arrays = {}
    dataset = annotation.read(work / "data")
    trained = work / "output" / "best_model" / "best_model.pdparams"
    for stage, weights in (("trained", trained), ("start", options.data / WEIGHTS)):
        for name, images in (("train", dataset.train), ("val", dataset.val)):
            begin = time.perf_counter()
            scores, features = _run(weights, images, options.size)
            arrays |= {f"{stage}_{name}_scores": scores, f"{stage}_{name}_features": features}
            print(f"{stage} {name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
            arrays[f"{name}_targets"] = images.targets
            arrays[f"{name}_flips"] = np.load(work / "data" / f"{name}_flips.npy")
    np.savez(saved, **arrays)  # type: ignore[arg-type]
    return arrays


def _run(path: Path, images: ImageList, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, C], and the mean over the map that the head is given, [N, D]."""
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    import paddle

    from paddlex_ml.artifacts import weights
    from paddlex_ml.data import preprocess
    from paddlex_ml.data.dataset import MultiLabelDataset
    from paddlex_ml.data.loader import batches, evaluation_indices
    from paddlex_ml.evaluation import evaluate
    from paddlex_ml.models import zoo

    dataset = MultiLabelDataset(images, preprocess.standard(size))
    head = zoo.find(MODEL).head
    model = zoo.build(MODEL, images.targets.shape[1])
    weights.fit(model, weights.read(path), head=head, where=str(path))
    model.eval()
    features: list[np.ndarray] = []

    def keep(layer: paddle.nn.Layer, inputs: tuple[paddle.Tensor]) -> None:
        features.append(inputs[0].flatten(2).mean(axis=-1).numpy())

    getattr(model, head.rstrip(".")).register_forward_pre_hook(keep)
    feed = batches(dataset, evaluation_indices(len(dataset), 64), 0)
    (result,) = evaluate([lambda pictures: paddle.nn.functional.sigmoid(model(pictures))], feed)
    return result.outputs, np.concatenate(features)


def _report(arrays: Arrays, seed: int) -> None:
    from paddlex_ml.metrics.average_precision import mean_average_precision
    from paddlex_ml.metrics.out_of_fold import score_out_of_fold

    targets, turned = arrays["train_targets"], arrays["train_flips"]
    begin = time.perf_counter(), time.process_time()
    trained = score_out_of_fold(arrays["trained_train_features"], targets, seed=seed)
    spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
    start = score_out_of_fold(arrays["start_train_features"], targets, seed=seed)
    val = arrays["val_targets"], arrays["val_flips"]
    rows = {
        "val: scores of the model": (arrays["trained_val_scores"], *val),
        "train: scores of the model (it saw the labels)": (
            arrays["trained_train_scores"],
            targets,
            turned,
        ),
        "train: out of fold, features after training": (trained, targets, turned),
        "train: out of fold, features before training": (start, targets, turned),
        "train: mean of the two": (_mean(trained, start), targets, turned),
        "train: out of fold, errors that the training had not seen": _unseen(arrays, seed),
    }
    print("| scores | mAP | planted | list | precision | recall | 20 | 50 | 100 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (scores, given, flips) in rows.items():
        quality = mean_average_precision(scores, given)
        print(f"| {name} | {quality:.3f} | {flips.sum()} | {_found(scores, given, flips)} |")
    print(
        f"\nOut of fold: {spent[0]:.1f} s, {spent[1]:.1f} s of CPU.\n\nOther orders, whole list:\n"
    )
    print("| order | val 20 | 50 | 100 | train 20 | 50 | 100 |")
    print("|---|---|---|---|---|---|---|")
    for name in _orders(*rows["val: scores of the model"][:2], seed):
        counts = []
        for scores, given, flips in (
            rows["val: scores of the model"],
            rows["train: out of fold, features after training"],
        ):
            order = np.argsort(_orders(scores, given, seed)[name], axis=None, kind="stable")
            counts += [str(flips.ravel()[order[:first]].sum()) for first in FIRST]
        print(f"| {name} | {' | '.join(counts)} |")


def _unseen(arrays: Arrays, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Other errors on the same features: what is lost because the backbone saw the real ones."""
    from paddlex_ml.metrics.out_of_fold import score_out_of_fold

    flips = _draw(np.random.default_rng(seed + 1000), arrays["train_targets"].shape)
    targets = arrays["train_targets"] ^ arrays["train_flips"] ^ flips
    features = arrays["trained_train_features"]
    return score_out_of_fold(features, targets, seed=seed), targets, flips


def _found(scores: np.ndarray, targets: np.ndarray, flips: np.ndarray) -> str:
    """Cells of the table: length of the list, precision, recall, hits among the first."""
    from paddlex_ml.metrics.label_quality import find_suspects

    hits = np.array([flips[s.image, s.class_id] for s in find_suspects(scores, targets)], bool)
    first = " | ".join(str(hits[:number].sum()) for number in FIRST)
    precision = f"{hits.mean():.2f}" if len(hits) else "none"
    return f"{len(hits)} | {precision} | {hits.sum() / flips.sum():.2f} | {first}"


def _orders(scores: np.ndarray, targets: np.ndarray, seed: int) -> Arrays:
    """Other ways to order all labels, low first."""
    from paddlex_ml.metrics.label_quality import calibrate, label_quality

    present = targets > 0.5
    scores = scores.astype(np.float64).clip(1e-7, 1 - 1e-7)
    odds = np.log(scores / (1 - scores))
    count = np.maximum(present.sum(axis=0), 1)
    high = (scores * present).sum(axis=0) / count
    low = (scores * ~present).sum(axis=0) / np.maximum((~present).sum(axis=0), 1)
    sign = np.where(present, 1, -1)
    own = np.where(present, scores, 1 - scores)
    return {
        "by chance": np.random.default_rng(seed).random(scores.shape),
        "asymmetric loss": -_loss(scores, present),
        "score of the label given (binary cross entropy)": own,
        "margin to the middle of the class's means": sign * (scores - (high + low) / 2),
        "the same, divided by their distance": sign
        * (scores - (high + low) / 2)
        / np.maximum(high - low, 1e-3),
        "sigmoid per class, then score of the label given": sign * (calibrate(odds, targets) - 0.5),
        "as `label_quality`: half of the rarity forgiven": label_quality(scores, targets),
    }


def _loss(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """What the training minimises: gamma 4 for absent classes, 0 for present ones, clip 0.05."""
    absent = (1 - scores + 0.05).clip(max=1)
    losses: np.ndarray = np.where(present, -np.log(scores), -((1 - absent) ** 4) * np.log(absent))
    return losses


def _mean(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean of the log odds, as scores."""
    odds = [np.log(p / (1 - p)) for p in (scores.astype(np.float64), others.astype(np.float64))]
    mean: np.ndarray = 1 / (1 + np.exp(-(odds[0] + odds[1]) / 2))
    return mean


def _print_names(arrays: Arrays, folder: Path, number: int) -> None:
    from paddlex_ml.data import annotation
    from paddlex_ml.metrics.label_quality import find_suspects
    from paddlex_ml.metrics.out_of_fold import score_out_of_fold

    dataset = annotation.read(folder)
    out_of_fold = score_out_of_fold(
        arrays["trained_train_features"], arrays["train_targets"], seed=0
    )
    for name, scores, images in (
        ("val", arrays["trained_val_scores"], dataset.val),
        ("train", out_of_fold, dataset.train),
    ):
        flips = arrays[f"{name}_flips"]
        suspects = find_suspects(scores, images.targets)[:100]
        left = [s for s in suspects if not flips[s.image, s.class_id]]
        print(f"\n{name}: the first {number} that were not planted\n")
        for s in left[:number]:
            label = dataset.label_names[s.class_id]
            kind = "wrong" if s.given else "missing"
            print(f"- {images.paths[s.image]} {label} {kind}? score {s.score:.2f}")


if __name__ == "__main__":
    sys.exit(main())
