# SPDX-License-Identifier: Apache-2.0
"""All options of a training at once, and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.artifacts import checkpoint

Run = Callable[..., tuple[int, str]]
ON = (
    "Train.epochs_iters=3", "Train.lr_schedule=one_cycle", "Train.backbone_lr_mult=0.5",
    "Train.freeze_backbone_epochs=1", "Train.start_eval_epoch=2", "Train.keep_last=2",
    "Train.save_latest_steps=2", "Train.recompute=true", "Train.cache=ram",
    "Train.sampler=repeat_factor", "Train.repeat_threshold=0.9", "Train.grad_accum_steps=2",
    "Train.batch_size=4", "Train.grad_clip_norm=50", "Train.loss.name=bce",
    "Train.loss.pos_weight=auto", "Train.loss.label_smoothing=0.1", "Train.augment.mixup=0.4",
    "Train.augment.flip=true", "Train.early_stop_patience=3", "Train.tensorboard=true",
    "Train.num_workers=1",
)  # fmt: skip


ONE_TAG = (
    "Train.epochs_iters=3", "Train.save_latest_steps=2", "Train.grad_accum_steps=2",
    "Train.batch_size=4", "Train.single_positive=true", "Train.loss.unknown=em",
    "Train.loss.em_alpha=0.2", "Train.loss.label_smoothing=0.1", "Train.sampler=repeat_factor",
    "Train.num_workers=1",
)  # fmt: skip

TAUGHT = (*ON, "Train.distillation.weight=0.7", "Train.distillation.temperature=2")
KEPT = (
    "Train.epochs_iters=3", "Train.save_latest_steps=2", "Train.batch_size=4",
    "Train.augment.randaugment=false", "Train.augment.cutout=0", "Train.augment.flip=true",
    "Train.single_positive=true", "Train.loss.label_smoothing=0.1",
)  # fmt: skip

SOFT = (*ON, "Train.soft_labels=true")
COMPILED = (*ON, "Train.recompute=false", "Train.compile=true")


def _soften(source: Path, folder: Path) -> Path:
    """A copy of a data set whose first class has soft values, and whose images have weights."""
    shutil.copytree(source, folder)
    lines = []
    for i, line in enumerate((folder / "train.txt").read_text().splitlines()):
        path, values = line.split("\t")
        share = "0.7" if values[0] == "1" else "0.2"
        lines.append(f"{path}\t{share}{values[1:]}\t{1 + i % 3}\n")
    (folder / "train.txt").write_text("".join(lines))
    return folder


@pytest.mark.heavy
@pytest.mark.parametrize(
    "options",
    [ON, ONE_TAG, SOFT, COMPILED, TAUGHT, KEPT],
    ids=["all", "one tag a photo", "soft and weighted", "compiled", "taught", "taught one tag"],
)
def test_all_options_together_train_and_resume_to_the_same_numbers(
    run: Run,
    toy: Path,
    toy_run: Path,
    tmp_path: Path,
    assert_same_ending: Callable[[Path, Path], None],
    options: tuple[str, ...],
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    if options is SOFT:
        toy = _soften(toy, tmp_path / "soft")
    if options in (TAUGHT, KEPT):
        options = (*options, f"Train.teacher=[{toy_run}, {toy_run / 'best_model' / 'inference'}]")
    code, err = run("train", toy, whole, *options)
    assert code == 0, err
    if "Train.keep_last=2" in options:
        assert sorted(path.name for path in whole.glob("epoch_*")) == ["epoch_2", "epoch_3"]
        rows = checkpoint.load(whole / "latest").progress["history"]
        assert [row["raw_map"] is None for row in rows] == [True, False, False]
    code, err = run("train", toy, resumed, *options, f"Train.resume_path={whole / 'epoch_2'}")
    assert code == 0, err
    assert "numbers will differ" not in err
    assert_same_ending(resumed, whole)
