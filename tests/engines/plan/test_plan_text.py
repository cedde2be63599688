# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec

from paddlex_ml.artifacts.plan_result import Cost
from paddlex_ml.engines.plan.plan_text import describe
from tests.results import PLANNED


def test_the_lines_say_what_a_training_takes():
    long = Cost(seconds=3725.4, processor=7000.0)
    text = describe(msgspec.structs.replace(PLANNED, run=long, notes=["random weights"]))
    assert "  options:  Train.epochs_iters=3\n" in text
    assert "  data:     1,600 training and 400 validation images, 5 classes\n" in text
    assert "  steps:    200 an epoch, of 8 images; 600 in 3 epochs\n" in text
    assert "  step:     2 s, 4.0 images/s (mean of 3 steps)\n" in text
    assert "  run:      1:02:05 at most, with 2 s to start and 2 s to export; 1:56:40 of" in text
    assert "  memory:   1.00 GiB of memory, of 2.0 GiB that are free\n" in text
    assert "  disk:     4 MB (1 MB a checkpoint), of 1,000 MB that are free\n" in text
    assert "  largest:  96 images per step: larger ones do not fit in memory\n" in text
    assert text.endswith("  note:     random weights")


def test_a_gpu_and_several_processes_are_named():
    plan = msgspec.structs.replace(
        PLANNED, device="gpu:0", gpu_mib=3072.0, processes=2, changed={},
        largest_is_limited_by="time",
    )  # fmt: skip
    text = describe(plan)
    assert "on gpu:0\n" in text
    assert "options:  as in the shipped file" in text
    assert "of 8 images in each of 2 processes" in text
    assert "8.0 images/s" in text
    assert "3.00 GiB of GPU memory in each of 2 processes" in text
    assert "; 1.0 GiB of the machine" in text
    assert "more than 20 s a step, and were not tried" in text
