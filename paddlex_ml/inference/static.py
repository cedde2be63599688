# SPDX-License-Identifier: Apache-2.0
"""The folder of a static model -> something that gives scores for images.

<folder>/inference.json (or inference.pdmodel)   the graph, sigmoid inside
<folder>/inference.pdiparams                     its weights
<folder>/inference.yml                           name, preprocessing, classes, threshold
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from paddlex_ml import devices
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import runtime, settings

GRAPHS = ("inference.json", "inference.pdmodel")  # since Paddle 3, and before
WEIGHTS = "inference.pdiparams"


class StaticModel:
    """A static model in memory. One thread at a time may run it: Paddle keeps buffers inside."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        device: str = "auto",
        run_mode: str | None = None,
        *,
        model_name: str | None = None,
    ) -> None:
        """Load the folder; `model_name`, if given, must be the one that the folder holds.

        run_mode: `paddle`, `mkldnn`, or None: oneDNN on a CPU where it is exact. Raises
        PaddlexMLError for a folder without a sound multi-label model.
        """
        self.folder = Path(folder)
        graph, weights, description = _find_files(self.folder)
        content = settings.read(description)
        self.model_name = _agree(model_name, content.model_name, description)
        self.label_names = content.label_names
        self.decoder_tokens = content.decoder_tokens
        self.threshold = content.threshold
        self.preprocess = content.preprocess
        self.device = devices.select(device)
        _check_run_mode(run_mode, self.device)
        probe = _noise(self.image_size)
        self._network, self.run_mode = runtime.load(
            graph, weights, device=self.device, run_mode=run_mode, probe=probe
        )
        self._check_scores(self.run(probe))

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels of what the network sees."""
        return self.preprocess.size

    def run(self, images: np.ndarray) -> np.ndarray:
        """Images float32 [B, 3, H, W] as `preprocess` makes them -> scores float32 [B, C], 0..1."""
        return self._network(images)

    def _check_scores(self, scores: np.ndarray) -> None:
        count = len(self.label_names)
        if scores.ndim != 2 or scores.shape[1] != count:
            given = " x ".join(map(str, scores.shape[1:]))
            raise PaddlexMLError(
                f"{count} class names are listed, the network gives {given} scores per image",
                where=str(self.folder / settings.FILE),
                fix="list one name per output, or take graph and inference.yml of one export",
            )
        if not ((scores >= 0) & (scores <= 1)).all():
            raise PaddlexMLError(
                f"the network gives {scores.min():.3g} to {scores.max():.3g} instead of scores "
                "from 0 to 1",
                where=str(self.folder),
                fix="export a multi-label model with its sigmoid: -o Global.mode=export",
            )


def _find_files(folder: Path) -> tuple[Path, Path, Path]:
    """(graph, weights, description). Raises PaddlexMLError that names what is missing."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise PaddlexMLError(
            f"the folder of the static model {problem}",
            where=str(folder.absolute()),
            fix="name the folder with inference.json, inference.pdiparams and inference.yml; "
            "-o Global.mode=export makes one from trained weights",
        )
    graphs = [folder / name for name in GRAPHS if (folder / name).is_file()]
    others = [folder / name for name in (WEIGHTS, settings.FILE)]
    missing = [] if graphs else [" or ".join(GRAPHS)]
    missing += [path.name for path in others if not path.is_file()]
    if missing:
        raise PaddlexMLError(
            f"the folder of the static model lacks {', '.join(missing)}",
            where=str(folder.absolute()),
            fix="copy the whole folder, or export the model again: -o Global.mode=export",
        )
    return graphs[0], others[0], others[1]


def _noise(size: tuple[int, int]) -> np.ndarray:
    """Two images of the range that normalised pixels have: [2, 3, H, W]."""
    width, height = size
    return np.random.default_rng(0).standard_normal((2, 3, height, width), np.float32)


def _agree(asked: str | None, found: str | None, description: Path) -> str | None:
    if asked and found and asked != found:
        raise PaddlexMLError(
            f"{asked} was asked for, the folder holds {found}",
            where=f"{description}: Global.model_name",
            fix=f"ask for {found}, or name the folder of {asked}",
        )
    return found or asked


def _check_run_mode(run_mode: str | None, device: str) -> None:
    if run_mode is not None and run_mode not in runtime.RUN_MODES:
        raise PaddlexMLError(
            f"no run mode is called {run_mode!r}",
            where="run_mode",
            fix=f"choose from {', '.join(runtime.RUN_MODES)}",
        )
    if run_mode == "mkldnn" and device != "cpu":
        raise PaddlexMLError(
            f"the run mode mkldnn is made for CPUs, the device is {device}",
            where="run_mode",
            fix="choose the device cpu, or the run mode paddle",
        )
