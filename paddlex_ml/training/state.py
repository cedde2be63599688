# SPDX-License-Identifier: Apache-2.0
"""All that changes while a model learns, and how it is saved and restored, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any

import msgspec
import numpy as np
import paddle

from paddlex_ml.artifacts.checkpoint import Checkpoint, ModelInfo
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.weights import to_arrays
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.optimizer import load_state, save_state
from paddlex_ml.training.passes import Passes
from paddlex_ml.training.role import LabelEstimates

_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError)
"""What values that do not fit the model raise: of another form, shape or type."""


@dataclass
class Training:
    """A model with all that changes while it learns."""

    info: ModelInfo
    model: paddle.nn.Layer
    averaged: paddle.nn.Layer
    """A second model of the same kind, which evaluates the averaged weights."""
    ema: Ema
    optimizer: paddle.optimizer.AdamW
    scaler: paddle.amp.GradScaler
    fingerprint: dict[str, Any]
    """Options that decide about the numbers; a resume compares them with its own."""
    progress: Progress = field(default_factory=Progress)
    estimates: LabelEstimates | None = None
    """The estimated labels of the training images; None where none are estimated."""
    compiles: InitVar[bool] = False
    """Whether the steps run the model as a static graph."""
    overlaps: InitVar[bool] = False
    """Whether gradients are exchanged while the backward pass runs."""

    passes: Passes = field(init=False)
    """How the batches of a step go through the model."""
    statistics: list[paddle.Tensor] = field(init=False)
    """The running means and variances of the batch norms."""

    def __post_init__(self, compiles: bool, overlaps: bool) -> None:
        entries = self.model.state_dict().items()
        self.passes = Passes(self.model, compiles=compiles, overlaps=overlaps)
        self.statistics = [v for k, v in entries if k.endswith(("._mean", "._variance"))]

    def snapshot(self, *, use_ema: bool = False) -> Checkpoint:
        """Copy the present state into a checkpoint, but for estimated labels: they may be large."""
        state: dict[str, Any] = {"moments": save_state(self.optimizer, self.model)}
        state["scaler"] = self.scaler.state_dict() if self.scaler.is_enable() else {}
        if self.estimates is not None:
            state["estimates"] = self.estimates.state()
        return Checkpoint(
            info=self.info,
            weights=to_arrays(self.model.state_dict()),
            ema=to_arrays(self.ema.weights),
            optimizer=state,
            progress={**msgspec.to_builtins(self.progress), "ema_updates": self.ema.updates},
            fingerprint=self.fingerprint,
            use_ema=use_ema,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint of the same model, bit for bit."""
        progress, before = dict(saved.progress), self.progress
        try:
            _refuse_unfit(saved.optimizer["moments"], self.model)
            updates = progress.pop("ema_updates")
            self.progress = msgspec.convert(progress, Progress)
            for name, value in self.model.state_dict().items():
                value.set_value(np.asarray(saved.weights[name]).astype(str(value.numpy().dtype)))
            for name, average in saved.ema.items():
                self.ema.weights[name].set_value(average)
            self.ema.updates = updates
            load_state(self.optimizer, self.model, saved.optimizer["moments"])
            if self.scaler.is_enable() and saved.optimizer["scaler"]:
                self.scaler.load_state_dict(saved.optimizer["scaler"])
            if self.estimates is not None and "estimates" in saved.optimizer:
                self.estimates.restore(saved.optimizer["estimates"])
        except _DAMAGED as error:
            self.progress = before
            raise PaddlexMLError(
                "the checkpoint's record of the training is damaged, or older than 0.1.0: "
                f"{' '.join(str(error).split())[:300]}",
                where="Train.resume_path",
                fix="resume with the version that wrote it, or start a new run: "
                "-o Train.resume_path=null",
            ) from error


def _refuse_unfit(moments: Mapping[str, Any], model: paddle.nn.Layer) -> None:
    """Raise ValueError for values that are no moments of the model: Paddle looks at them late."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for key, value in moments.items():
        name, _, kind = key.rpartition("/")
        if isinstance(value, Mapping):
            _refuse_unfit({f"{entry}/master": array for entry, array in value.items()}, model)
        elif name in shapes:
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
                raise ValueError(f"{key} is no array of numbers")
            fits = value.size == 1 if "_pow_acc" in kind else value.shape == shapes[name]
            if not fits or not np.isfinite(value.astype(np.float32)).all():
                raise ValueError(f"{key} has the shape {value.shape}, or is not finite")
