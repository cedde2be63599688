# SPDX-License-Identifier: Apache-2.0
"""The folder of a static model -> something that gives scores for images.

<folder>/inference.json (or inference.pdmodel)   the graph, sigmoid inside
<folder>/inference.pdiparams                     its weights
<folder>/inference.onnx                          or both of them in one, for onnxruntime
<folder>/inference.yml                           name, preprocessing, classes, threshold
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from paddlex_ml import cores, paddle_runtime
from paddlex_ml.artifacts import inference_yml
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import attention, onnx_engine
from paddlex_ml.inference.attention import Attention, ClassIds, Maps
from paddlex_ml.run_modes import RUN_MODES

GRAPHS = ("inference.json", "inference.pdmodel")  # since Paddle 3, and before
WEIGHTS = "inference.pdiparams"
ONNX = "inference.onnx"

_log = logging.getLogger(__name__)


class StaticModel:
    """A static model in memory. Threads may share it: they wait for one another."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        device: str = "auto",
        run_mode: str | None = None,
        *,
        model_name: str | None = None,
        cpu_threads: int | None = None,
    ) -> None:
        """Load the folder; `model_name`, if given, must be the one that the folder holds.

        run_mode: one of RUN_MODES; None: on a CPU oneDNN where it is exact, else plain Paddle, and
            onnxruntime for a folder that holds ONNX alone. Paddle is imported unless it is that.
        cpu_threads: of the engine; None: all cores that this process may use.

        Raises PaddlexMLError for a folder without a sound multi-label model, and for a mode that
        the device or the folder excludes.
        """
        self.folder = Path(folder)
        _check_run_mode(run_mode)
        found = _find_files(self.folder, run_mode)
        content = inference_yml.read(found.description)
        self.model_name = _agree(model_name, content.model_name, found.description)
        self.label_names = content.label_names
        self.decoder_tokens = content.decoder_tokens
        self.threshold = content.threshold
        self.preprocess = content.preprocess
        probe = _noise(self.image_size)
        threads = cpu_threads or cores.usable_cores()
        load = _load_onnx if found.weights is None else _load_paddle
        loaded = load(found, device, run_mode, threads, probe)
        self._network, self.run_mode, self.device, scores = loaded
        self._turn = threading.Lock()  # Paddle keeps buffers inside
        self._load_attention = partial(_load_attention, found, self.device, self.run_mode, threads)
        self._attention: Attention | None = None
        self._check_scores(scores)

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels of what the network sees."""
        return self.preprocess.size

    def run(self, images: np.ndarray) -> np.ndarray:
        """Images float32 [B, 3, H, W] as `preprocess` makes them -> scores float32 [B, C], 0..1."""
        with self._turn:
            return self._network(images)

    def require_attention(self) -> None:
        """Load what `attend` needs, a second network, unless it is there.

        Raises PaddlexMLError for a model whose head sees one token, or has no attention.
        """
        with self._turn:
            if self._attention is None:
                attention.refuse_one_token(self.decoder_tokens, str(self.folder))
                self._attention = attention.open_network(
                    self._load_attention,
                    _noise(self.image_size),
                    classes=len(self.label_names),
                    where=str(self.folder),
                )

    def attend(self, images: np.ndarray, wanted: Sequence[ClassIds]) -> list[Maps]:
        """Images as for `run` and, for each, class ids -> the maps of where these classes look.

        Needs `require_attention` before.
        """
        assert self._attention is not None
        with self._turn:
            return self._attention(images, wanted)

    @property
    def classes_per_map(self) -> int:
        """How many classes share a map of `attend`; needs `require_attention` before."""
        assert self._attention is not None
        return self._attention.classes_per_map

    def _check_scores(self, scores: np.ndarray) -> None:
        count = len(self.label_names)
        if scores.ndim != 2 or scores.shape[1] != count:
            given = " x ".join(map(str, scores.shape[1:]))
            raise PaddlexMLError(
                f"{count} class names are listed, the network gives {given} scores per image",
                where=str(self.folder / inference_yml.FILE),
                fix="list one name per output, or take graph and inference.yml of one export",
            )
        if not ((scores >= 0) & (scores <= 1)).all():
            raise PaddlexMLError(
                f"the network gives {scores.min():.3g} to {scores.max():.3g} instead of scores "
                "from 0 to 1",
                where=str(self.folder),
                fix="export a multi-label model with its sigmoid: -o Global.mode=export",
            )


class _Files(NamedTuple):
    """What a folder holds of a model."""

    graph: Path
    weights: Path | None
    """None: they are in the graph, an ONNX file."""
    description: Path


# network, run mode, device, scores of the probe
_Loaded: TypeAlias = tuple[Callable[[np.ndarray], np.ndarray], str, str, np.ndarray]


def _load_paddle(
    found: _Files, device: str, run_mode: str | None, threads: int, probe: np.ndarray
) -> _Loaded:
    if not paddle_runtime.is_prepared():
        _log.info("%s", paddle_runtime.prepare())
    # Here and not above: whoever runs ONNX need not wait for Paddle, nor have it.
    from paddlex_ml import devices
    from paddlex_ml.inference import paddle_engine

    name = devices.select(device)
    _check_device(run_mode, name)
    assert found.weights is not None
    network, mode, scores = paddle_engine.load(
        found.graph, found.weights, device=name, run_mode=run_mode, threads=threads, probe=probe
    )
    return network, mode, name, scores


def _load_onnx(
    found: _Files, device: str, run_mode: str | None, threads: int, probe: np.ndarray
) -> _Loaded:
    del run_mode  # there is but one
    network, name, scores = onnx_engine.load(
        found.graph, device=device, threads=threads, probe=probe
    )
    return network, "onnxruntime", name, scores


def _load_attention(
    found: _Files, device: str, run_mode: str, threads: int, probe: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray] | None:
    if found.weights is None:
        return onnx_engine.load_attention(found.graph, device=device, threads=threads, probe=probe)
    from paddlex_ml.inference import paddle_engine

    return paddle_engine.load_attention(
        found.graph, found.weights, device=device, mode=run_mode, threads=threads, probe=probe
    )


def _find_files(folder: Path, run_mode: str | None) -> _Files:
    """What `run_mode` is to run. Raises PaddlexMLError that names what is missing."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise PaddlexMLError(
            f"the folder of the static model {problem}",
            where=str(folder.absolute()),
            fix="name the folder with inference.json, inference.pdiparams and inference.yml; "
            "-o Global.mode=export makes one from trained weights",
        )
    graphs = [folder / name for name in GRAPHS if (folder / name).is_file()]
    weights, onnx, description = (folder / n for n in (WEIGHTS, ONNX, inference_yml.FILE))
    if run_mode == "onnxruntime" or (run_mode is None and not graphs and onnx.is_file()):
        _refuse_missing(folder, {ONNX: onnx.is_file()}, description, " -o Export.format=onnx")
        return _Files(onnx, None, description)
    if not graphs and onnx.is_file():
        raise PaddlexMLError(
            f"the folder holds an ONNX model, which the run mode {run_mode} cannot run",
            where=str(folder.absolute()),
            fix="choose the run mode onnxruntime, or name the folder of an export by Paddle",
        )
    _refuse_missing(
        folder, {" or ".join(GRAPHS): bool(graphs), WEIGHTS: weights.is_file()}, description
    )
    return _Files(graphs[0], weights, description)


def _refuse_missing(
    folder: Path, parts: dict[str, bool], description: Path, option: str = ""
) -> None:
    parts = {**parts, description.name: description.is_file()}
    missing = [name for name, is_there in parts.items() if not is_there]
    if missing:
        raise PaddlexMLError(
            f"the folder of the static model lacks {', '.join(missing)}",
            where=str(folder.absolute()),
            fix=f"copy the whole folder, or export the model again: -o Global.mode=export{option}",
        )


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


def _check_run_mode(run_mode: str | None) -> None:
    if run_mode is not None and run_mode not in RUN_MODES:
        raise PaddlexMLError(
            f"no run mode is called {run_mode!r}",
            where="run_mode",
            fix=f"choose from {', '.join(RUN_MODES)}",
        )


def _check_device(run_mode: str | None, device: str) -> None:
    mode = run_mode or ""
    if mode.startswith("mkldnn") and device != "cpu":
        made_for, fix = "CPUs", "choose the device cpu, or the run mode paddle"
    elif mode.startswith("trt") and device == "cpu":
        made_for, fix = "GPUs", "choose the device gpu, or the run mode mkldnn"
    else:
        return
    raise PaddlexMLError(
        f"the run mode {mode} is made for {made_for}, the device is {device}",
        where="run_mode",
        fix=fix,
    )
