# SPDX-License-Identifier: Apache-2.0
"""What the spawned processes of tests run: functions of (argument, process group)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.data import annotation
from paddlex_ml.data.dataset import MultiLabelDataset, SampleIndex
from paddlex_ml.data.loader import Loader, evaluation_indices
from paddlex_ml.data.preprocess import standard
from paddlex_ml.distributed import reducer
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.evaluation import evaluate, scoring
from paddlex_ml.training import sync_batch_norm
from paddlex_ml.training.distillation import Teacher
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.freeze import set_frozen
from paddlex_ml.training.interrupt import Interrupt
from paddlex_ml.training.loop import fit
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.passes import Passes
from paddlex_ml.training.plan import Plan, Saving
from paddlex_ml.training.role import LabelEstimates
from paddlex_ml.training.schedule import build_schedule
from paddlex_ml.training.state import Training


def talk(_: object, group: ProcessGroup) -> dict[str, Any]:
    """Use everything that ranks do together, once."""
    weight, unused = (paddle.create_parameter([2], "float32") for _ in range(2))
    (weight * (group.rank + 1.0)).sum().backward()
    group.all_reduce_gradients([weight, unused])
    means = [paddle.full([2], float(group.rank)), paddle.full([1, 1], 3.0 * group.rank)]
    group.all_reduce_mean(means)
    main_first = []
    for work in ("first", "second"):
        with group.main_first(work) as is_main:
            main_first.append(is_main)
    return {
        "all_reduce_sum": group.all_reduce_sum(group.rank + 0.25),
        "all_reduce_max": group.all_reduce_max([group.rank, -group.rank]),
        "batch_shard": list(group.batch_shard(range(5))),
        "shard": list(group.shard(range(5))),
        "all_gather": [
            a.tolist() for a in group.all_gather([np.full(k + 1, k) for k in group.shard(range(5))])
        ],
        "all_reduce_sum_tensor": group.all_reduce_sum_tensor(
            paddle.to_tensor([group.rank + 1.0])
        ).tolist(),
        "gradient": weight.grad.tolist(),
        "unused": unused.grad,
        "means": [mean.tolist() for mean in means],
        "main_first": main_first,
    }


def lose(_: object, group: ProcessGroup) -> None:
    """Steps with the exchange in the backward pass, until rank 1 dies after its forward pass."""
    model = paddle.nn.Sequential(*(paddle.nn.Linear(8, 8) for _ in range(3)))
    passes = Passes(model, overlaps=True)
    for number in range(3):
        loss = passes.forward(paddle.ones([2, 8]), group).sum()
        if (number, group.rank) == (2, 1):
            os._exit(3)
        passes.backward(loss, group)


class Small(paddle.nn.Layer):
    """A model with batch norm, and without dropout, whose masks no two processes share."""

    def __init__(self, *, norm: bool, unused: bool = False) -> None:
        """`unused` adds a parameter that never has a gradient, as CLIP has one."""
        super().__init__()
        if unused:
            self.unused = self.create_parameter([5])
        # A bias before a batch norm has no gradient but rounding, which Adam makes large.
        self.conv = paddle.nn.Conv2D(3, 8, 4, stride=4, bias_attr=None if not norm else False)
        self.norm = paddle.nn.BatchNorm2D(8) if norm else paddle.nn.Identity()
        self.fc = paddle.nn.Linear(8, 3)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        features = paddle.nn.functional.relu(self.norm(self.conv(images))).mean([2, 3])
        return self.fc(features)


def judge(data: Path, group: ProcessGroup) -> tuple[float, list[list[float]]]:
    """Evaluate one and the same model; mAP and outputs on val, in the order of the list."""
    paddle.seed(4)
    model = Small(norm=True)
    val = annotation.read(data).val
    model.eval()
    draws = evaluation_indices(len(val), 5)
    feed = Loader(MultiLabelDataset(val, standard(32)), 0).epoch(list(group.shard(draws)))
    (result,) = evaluate([model], feed, gather=group.all_gather)
    return result.map, result.outputs.tolist()


def estimate(_: object, group: ProcessGroup) -> dict[str, Any]:
    """Six steps of a table of estimated labels, two batches each; the tables of all ranks."""
    rng = np.random.default_rng(5)
    table = LabelEstimates(16, 3, labels=1.2, seed=1)
    for _ in range(6):
        rows, logits = rng.integers(0, 16, (2, 4)), rng.normal(0, 2, (2, 4, 3)).astype("float32")
        for batch in group.shard(range(2)):
            cells = paddle.to_tensor(np.where(logits[batch] > 1, 1.0, -1.0).astype("float32"))
            draws = [SampleIndex(0, int(row)) for row in rows[batch]]
            table.loss(paddle.to_tensor(logits[batch]), cells, draws)
        table.update(1e-2, group)
    return {"tables": group.all_gather([table.logits]), "drawn": table.drawn}


class Lesson(NamedTuple):
    """One short training of `Small`."""

    data: Path
    output: Path
    global_batch: int = 8
    norm: bool = True
    sync_bn: bool = False
    accumulate: int = 1
    epochs: int = 3
    saving: Saving = Saving()
    goes_on: bool = False
    """Whether it resumes from `latest`, where there is one."""
    compiles: bool = False
    overlaps: bool = False
    unused: bool = False
    frozen: int = 0
    """Epochs in which only the last layer learns."""
    taught: bool = False
    """Whether another `Small` teaches it."""


def learn(lesson: Lesson, group: ProcessGroup) -> dict[str, Any]:
    """Train; returns weights, averaged weights, history and outputs on val, of the main process."""
    paddle_runtime.use_own_threads()  # another test may have run a static model with others
    paddle.seed(3)
    model: paddle.nn.Layer = Small(norm=lesson.norm, unused=lesson.unused)
    averaged = Small(norm=lesson.norm, unused=lesson.unused)
    if lesson.sync_bn:
        model = sync_batch_norm.synchronise(model, group, on_gpu=False)
    lists = annotation.read(lesson.data)
    batch = lesson.global_batch // group.size // lesson.accumulate
    training = Training(
        ModelInfo("small", ["red", "green", "blue"], 32), model, averaged, Ema(model, 0.8),
        build_optimizer(model, weight_decay=1e-4), paddle.amp.GradScaler(enable=False), {},
        compiles=lesson.compiles, overlaps=lesson.overlaps,
    )  # fmt: skip
    teacher = Small(norm=False)
    teacher.eval()
    body = {name for name, _ in model.named_parameters() if not name.startswith("fc")}
    plan = Plan(
        epochs=lesson.epochs,
        batch_size=batch,
        grad_accum_steps=lesson.accumulate,
        images=24,
        order=lambda epoch: np.random.default_rng([7, epoch]).permutation(24),
        schedule=build_schedule(
            "cosine", 5e-3, epochs=lesson.epochs, steps_per_epoch=3, warmup_epochs=0.5
        ),
        seed=7,
        loss_fn=asymmetric_loss,
        log_interval=2,
        saving=lesson.saving,
        begin_epoch=lambda epoch: set_frozen(model, body, epoch < lesson.frozen),
        teacher=Teacher([scoring(teacher)], weight=0.6, temperature=2.0) if lesson.taught else None,
        group=group,
    )
    if lesson.goes_on and checkpoint.is_complete(lesson.output / "latest"):
        training.restore(checkpoint.load(lesson.output / "latest"))
    train, val = (
        Loader(MultiLabelDataset(images, standard(32)), 0) for images in (lists.train, lists.val)
    )
    fit(training, plan, train, val, lesson.output, Interrupt(group))
    snapshot = training.snapshot()
    rows = [
        {k: getattr(row, k) for k in ("loss", "raw_map", "ema_map")}
        for row in training.progress.history
    ]
    return {
        "weights": dict(snapshot.weights),
        "ema": dict(snapshot.ema),
        "history": rows,
        "reducers": len(reducer._kept),
    }
