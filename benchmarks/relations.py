# SPDX-License-Identifier: Apache-2.0
"""What relations between classes do to mAP, F1 and contradictions, on clothing_ccp.

    python benchmarks/relations.py --data DIR [--seeds 5]

DIR of --data holds clothing_ccp (MLClsDataset) and weights/PPLCNet_x1_0_doc_ori.pdparams. All its
photographs are divided by chance for each seed: 60 % train a logistic regression on features of the
frozen backbone, on 20 % thresholds are tuned for F1 and the weight decay of DECAYS is chosen, and
20 % are measured. Exclusive pairs are those that the training labels show: at most 1 % of the
images of the rarer class show both, where 10 or more would if the classes were independent. No
class of the set implies another, so four broader classes are added (PARENTS), which are shown where
one of their kinds is. Intervals are 95 % of Student's t over the seeds. Replaces its section of
docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from paddlex_ml.data.annotation import ImageList
    from paddlex_ml.metrics.class_relations import ClassRelations

WEIGHTS = "weights/PPLCNet_x1_0_doc_ori.pdparams"
SIZE = 160  # pixels
DECAYS = (0.03, 0.1, 0.3, 1.0)
TITLE = "## Relations between classes\n"
BEFORE = "## Tuned thresholds\n"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}
"""Factor of the standard error at 95 %, by the number of seeds."""
PARENTS = {
    "trousers": ("jeans", "pants", "shorts"),
    "overgarment": ("coat", "jacket"),
    "top": ("shirt", "sweater", "t-shirt"),
    "open or high shoes": ("boots", "sandals"),
}


@dataclass(frozen=True)
class Case:
    """What is measured: scores and targets of the photographs, and what holds between classes."""

    train: np.ndarray
    tune: np.ndarray
    test: np.ndarray
    """Targets [N, C] of each part."""
    relations: ClassRelations


def main() -> int:
    """Measure all seeds, and write the section."""
    from paddlex_ml.metrics.average_precision import mean_average_precision
    from paddlex_ml.metrics.class_relations import ClassRelations

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=5, choices=sorted(STUDENT))
    options = parser.parse_args()
    features, targets, names = _prepare(options.data)
    tables: dict[str, list[dict[str, tuple[float, float]]]] = {}
    pairs: dict[str, int] = {}
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(targets))
        parts = np.split(order, [len(order) * 6 // 10, len(order) * 8 // 10])
        train, tune, test = (targets[part] for part in parts)
        rows = [features[part] for part in parts]
        probes = [_probe(rows[0], train, rows[1:], decay) for decay in DECAYS]
        scores = max(probes, key=lambda pair: mean_average_precision(pair[0], tune))
        exclusive = _find_exclusive(train[:, : len(names)])
        for a, b in exclusive:
            pairs[f"{names[a]} and {names[b]}"] = pairs.get(f"{names[a]} and {names[b]}", 0) + 1
        own = len(names)
        nothing = tuple(() for _ in range(own))
        implied = _find_implied([*names, *PARENTS])
        for title, classes, relations in (
            ("exclusive pairs, 19 classes", own, ClassRelations(nothing, exclusive)),
            ("implications, 23 classes", None, ClassRelations(implied, ())),
            ("both, 23 classes", None, ClassRelations(implied, exclusive)),
        ):
            case = Case(train[:, :classes], tune[:, :classes], test[:, :classes], relations)
            found = _measure(case, *(each[:, :classes] for each in scores))
            tables.setdefault(title, []).append(found)
            print(seed, title, found, file=sys.stderr)
    _write(tables, pairs, float(targets[:, : len(names)].mean()), options.seeds)
    return 0


def _prepare(data: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features [N, D], targets with the broader classes [N, C + 4], and the C names."""
    from paddlex_ml.data import annotation

    dataset = annotation.read(data / "clothing_ccp")
    names = dataset.label_names
    features = [_extract(images, data / WEIGHTS) for images in (dataset.train, dataset.val)]
    targets = np.concatenate([dataset.train.targets, dataset.val.targets])
    broader = [targets[:, list(map(names.index, kinds))].any(axis=1) for kinds in PARENTS.values()]
    return np.concatenate(features), np.column_stack([targets, *broader]), names


def _extract(images: ImageList, path: Path) -> np.ndarray:
    """Mean and maximum over the maps of two middle stages, of each image: [N, D]."""
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    import paddle

    from paddlex_ml.artifacts import weights
    from paddlex_ml.data import preprocess
    from paddlex_ml.data.dataset import MultiLabelDataset
    from paddlex_ml.data.loader import batches, evaluation_indices
    from paddlex_ml.models import zoo

    model = zoo.build("PP-LCNet_x1_0_ML", 1)
    head = zoo.find("PP-LCNet_x1_0_ML").head
    weights.fit(model, weights.read(path), head=head, where=str(path))
    model.eval()
    maps: list[np.ndarray] = []

    def keep(layer: paddle.nn.Layer, given: object, output: paddle.Tensor) -> None:
        flat = output.flatten(2)
        maps.append(paddle.concat([flat.mean(-1), flat.max(-1)], axis=1).numpy())

    for stage in (model.blocks4, model.blocks5):
        stage.register_forward_post_hook(keep)
    rows = []
    dataset = MultiLabelDataset(images, preprocess.standard(SIZE))
    with paddle.no_grad():
        for pictures, _ in batches(dataset, evaluation_indices(len(dataset), 64), 0):
            maps.clear()
            model(pictures)
            rows.append(np.concatenate(maps, axis=1))
    return np.concatenate(rows)


def _probe(
    train: np.ndarray, targets: np.ndarray, others: list[np.ndarray], decay: float
) -> list[np.ndarray]:
    """Scores of a logistic regression with weight decay, trained with Adam on all rows at once."""
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    inputs = [np.column_stack([(x - mean) / spread, np.ones(len(x))]) for x in (train, *others)]
    weight = np.zeros((inputs[0].shape[1], targets.shape[1]))
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(1, 301):
        error = 1 / (1 + np.exp(-inputs[0] @ weight)) - targets
        slope = inputs[0].T @ error / len(train) + decay * weight
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        weight -= 3e-3 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return [(1 / (1 + np.exp(-x @ weight))).astype(np.float32) for x in inputs[1:]]


def _find_exclusive(targets: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Pairs of classes that the labels hardly ever show together, though both are frequent."""
    together = targets.T.astype(np.int64) @ targets
    sums = np.diag(together)
    return tuple(
        (a, b)
        for a in range(len(sums))
        for b in range(a + 1, len(sums))
        if sums[a] * sums[b] >= 10 * len(targets) and together[a, b] <= 0.01 * min(sums[a], sums[b])
    )


def _find_implied(names: list[str]) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(names.index(parent) for parent, kinds in PARENTS.items() if name in kinds)
        for name in names
    )


def _measure(case: Case, tune: np.ndarray, test: np.ndarray) -> dict[str, tuple[float, float]]:
    """Each measure without and with the relations."""
    from paddlex_ml.metrics import decisions, threshold_search
    from paddlex_ml.metrics.average_precision import mean_average_precision
    from paddlex_ml.metrics.per_class_threshold import LabelSelection, choose

    both: list[dict[str, float]] = []
    for relations in (None, case.relations):
        scores = [tune, test]
        if relations is not None:
            scores = [relations.raise_scores(each) for each in scores]
        result = {"mAP": mean_average_precision(scores[1], case.test)}
        goal = threshold_search.Goal("f1")
        tuned = threshold_search.tune(scores[0], case.tune, goal).thresholds.astype(np.float32)
        half = np.full(tuned.shape, 0.5, np.float32)
        for name, thresholds in (("threshold 0.5", half), ("tuned", tuned)):
            selection = LabelSelection(thresholds, relations=relations)
            decided = np.zeros(case.test.shape, np.bool_)
            for row, each in zip(decided, scores[1], strict=True):
                row[choose(each, selection)] = True
            average = decisions.average(decisions.count(decided, case.test))
            result[f"macro F1, {name}"] = average.macro_f1
            result[f"overall F1, {name}"] = average.overall_f1
            wrong = _count_contradictions(decided, case.relations)
            result[f"images with contradictions, %, {name}"] = 100 * wrong / len(decided)
        both.append(result)
    return {name: (both[0][name], both[1][name]) for name in both[0]}


def _count_contradictions(decided: np.ndarray, relations: ClassRelations) -> int:
    """Images whose labels contradict a relation."""
    wrong = np.zeros(len(decided), np.bool_)
    for a, others in enumerate(relations.implied):
        for b in others:
            wrong |= decided[:, a] & ~decided[:, b]
    for group in relations.exclusive:
        wrong |= decided[:, list(group)].sum(axis=1) > 1
    return int(wrong.sum())


def _write(
    tables: dict[str, list[dict[str, tuple[float, float]]]],
    pairs: dict[str, int],
    constant: float,
    seeds: int,
) -> None:
    """Replace the section of the page."""
    found = ", ".join(f"{pair} ({count})" for pair, count in sorted(pairs.items()))
    found = (
        "The exclusive pairs are found in the training labels of each seed, with the number of "
        f"seeds that found them: {found}."
    )
    lines = [TITLE, _HEAD.format(seeds=seeds, constant=constant, pairs=textwrap.fill(found, 100))]
    for title, rows in tables.items():
        lines.append(f"**{title[0].upper()}{title[1:]}**\n")
        lines += ["| measure | without | with | difference |", "|---|---|---|---|"]
        for name in rows[0]:
            values = np.array([row[name] for row in rows])
            digits = 1 if "%" in name else 4
            cells = [
                _interval(column, digits) for column in (*values.T, values[:, 1] - values[:, 0])
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    page = ROOT / "docs" / "results.md"
    before, title, after = page.read_text(encoding="utf-8").partition(BEFORE)
    section = "\n".join(lines)
    page.write_text(f"{before.partition(TITLE)[0]}{section}\n{title}{after}", encoding="utf-8")


def _interval(values: np.ndarray, digits: int) -> str:
    half = STUDENT[len(values)] * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.{digits}f} ± {half:.{digits}f}"


_HEAD = """Written by `benchmarks/relations.py`: the labels of a logistic regression on features of
the frozen backbone, 160 x 160 pixels, on the 2,098 photographs of the clothing set, which are
divided anew for each of {seeds} seeds (60 % training, 20 % thresholds and weight decay, 20 %
measured). The model is weak: a constant predictor has a mAP of {constant:.2f} on the 19 classes.
"With" keeps the relations as `Predict.relations` does; its thresholds are tuned on the raised
scores. Given are means over the seeds and their
95 % intervals (the seeds share photographs, so these hold for this set only); the difference is
that of the same seed.

{pairs}

No class of the set implies another. The implications are therefore those of four classes that were
added for this measurement, by definition: trousers (jeans, pants, shorts), overgarment (coat,
jacket), top (shirt, sweater, t-shirt), and boots or sandals.
"""


if __name__ == "__main__":
    sys.exit(main())
