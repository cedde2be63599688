# SPDX-License-Identifier: Apache-2.0
"""A plan in lines for the terminal."""

from __future__ import annotations

from datetime import timedelta

from paddlex_ml.artifacts.plan_result import PlanResult
from paddlex_ml.wording import count

_LIMITS = {
    "memory": "larger ones do not fit in memory",
    "images": "there are no more images",
    "time": "larger ones would take more than 20 s a step, and were not tried",
}


def describe(plan: PlanResult) -> str:
    """The lines."""
    several = plan.processes > 1
    each = f" in each of {plan.processes} processes" if several else ""
    images = plan.batch_size * plan.processes
    speed = images / max(plan.step.seconds, 1e-9)
    memory = plan.memory_mib if plan.gpu_mib is None else plan.gpu_mib
    place = "memory" if plan.gpu_mib is None else "GPU memory"
    host = "" if plan.gpu_mib is None else f"; {plan.memory_mib / 1024:.1f} GiB of the machine"
    every = f"{plan.checkpoint_bytes / 1e6:.0f} MB a checkpoint"
    lines = {
        "model": f"{plan.model_name}, from {plan.started_from}, on {plan.device}"
        + (f" ({plan.processor})" if plan.device == "cpu" else ""),
        "options": ", ".join(f"{key}={value}" for key, value in plan.changed.items())
        or "as in the shipped file",
        "data": f"{plan.train_images:,} training and {count(plan.val_images, 'validation image')}, "
        + count(plan.classes, "class", "classes"),
        "steps": f"{plan.steps:,} an epoch, of {count(plan.batch_size, 'image')}{each}; "
        f"{plan.steps * plan.epochs:,} in {count(plan.epochs, 'epoch')}",
        "step": f"{plan.step.seconds:.3g} s, {speed:.1f} images/s "
        f"(mean of {count(plan.timed_steps, 'step')})",
        "epoch": f"{_time(plan.epoch.seconds)}; validation {_time(plan.validation.seconds)}, "
        f"{count(plan.validations, 'time')}; checkpoint {plan.checkpoint.seconds:.1f} s",
        "run": f"{_time(plan.run.seconds)} at most, with {plan.start.seconds:.0f} s to start and "
        f"{plan.export.seconds:.0f} s to export; {_time(plan.run.processor)} of all cores together",
        "memory": f"{memory / 1024:.2f} GiB of {place}{each}, of {plan.free_mib / 1024:.1f} GiB "
        f"that are free{host}",
        "disk": f"{plan.disk_bytes / 1e6:,.0f} MB ({every}), of {plan.free_bytes / 1e6:,.0f} MB "
        "that are free",
        "largest": f"{count(plan.largest_batch_size, 'image')} per step: "
        + _LIMITS[plan.largest_is_limited_by],
    }
    shown = [f"  {name + ':':<9} {text}" for name, text in lines.items()]
    notes = [f"  note:     {note}" for note in plan.notes]
    return "\n".join(["Plan of a training; nothing was written", *shown, *notes])


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
