# SPDX-License-Identifier: Apache-2.0
"""What a training will cost, as mode plan measured it: what --json prints. The fields are the keys.

Times are seconds on the clock; `processor` is the time of all cores together, which other programs
on the machine change less.
"""

from __future__ import annotations

import msgspec

FORMAT_VERSION = 1


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The time of something."""

    seconds: float
    processor: float
    """Seconds of all cores, in the main process and its workers."""


class TriedSize(msgspec.Struct, frozen=True, kw_only=True):
    """A batch size that was tried in a process of its own."""

    batch_size: int
    memory_mib: float | None
    """Most memory of the steps, of the device that computes; None: it could not be held."""


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    """A training as it is configured, and what it takes on this machine."""

    model_name: str
    started_from: str
    """Weights that were loaded, or "random weights"."""
    device: str
    processor: str
    changed: dict[str, str]
    """Key -> value of the options of the training that differ from the file shipped for the
    model."""
    train_images: int
    val_images: int
    classes: int
    batch_size: int
    """Images per step and process."""
    processes: int
    epochs: int
    steps: int
    """Of an epoch."""
    validations: int
    timed_steps: int
    step: Cost
    """Of a whole step, the mean over all epochs."""
    epoch: Cost
    """All steps of an epoch, without validation."""
    validation: Cost
    checkpoint: Cost
    export: Cost
    start: Cost
    """Everything before the second step: imports, lists, a trial of checkpoint and export."""
    run: Cost
    """The whole command; less where it stops early."""
    memory_mib: float
    """Most memory of the main process and its workers, of one of `processes`."""
    resident_mib: float
    """The same between steps, as the log and metrics.csv tell it."""
    gpu_mib: float | None
    """Most memory that Paddle allocates on a GPU; None on a CPU."""
    free_mib: float
    """Memory of the device that was free before."""
    checkpoint_bytes: int
    disk_bytes: int
    """What the run folder will hold."""
    free_bytes: int
    """On the disk of Global.output."""
    largest_batch_size: int
    largest_is_limited_by: str
    """"memory"; "images": there are no more; or "time": larger ones would take 20 s a step."""
    tried: list[TriedSize]
    notes: list[str]
    done_flag: bool = True
    format_version: int = FORMAT_VERSION
