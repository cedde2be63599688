# SPDX-License-Identifier: Apache-2.0
"""The folder of a static model -> a model that gives scores for images.

<folder>/inference.json (or inference.pdmodel)   the graph, sigmoid inside
<folder>/inference.pdiparams                     its weights
<folder>/inference.onnx                          or both in one, for onnxruntime and OpenVINO
<folder>/inference.xml and inference.bin         or graph and weights of OpenVINO
<folder>/inference.yml                           name, preprocessing, classes, threshold; an ONNX
                                                 file may say them itself
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence

import numpy as np

from paddlex_ml import cores, openvino_runtime, paddle_runtime
from paddlex_ml.artifacts import parameter_file
from paddlex_ml.artifacts.run_folder import INFERENCE_YML
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import (
    attention,
    graph_memory,
    graph_shapes,
    model_files,
    onnx_engine,
    onnx_nodes,
    openvino_engine,
    openvino_nodes,
    paddle_nodes,
)
from paddlex_ml.inference.attention import Attention, ClassIds, Maps
from paddlex_ml.inference.graph_shapes import GraphShapes
from paddlex_ml.inference.own_thread import OwnThread
from paddlex_ml.metrics.per_class_threshold import check_count
from paddlex_ml.run_modes import OPENVINO_MODES, RUN_MODES
from paddlex_ml.wording import count

_DEVICE = re.compile(r"auto|(cpu|gpu)(:\d+(,\d+)*)?")

_log = logging.getLogger(__name__)


class StaticModel:
    """A static model in memory. Threads may share it: the network runs on one of its own."""

    def __init__(
        self,
        folder: str | bytes | os.PathLike[str],
        device: str | None = "auto",
        run_mode: str | None = None,
        *,
        model_name: str | None = None,
        decoder_tokens: str | None = None,
        cpu_threads: int | None = None,
    ) -> None:
        """Load the folder; `model_name` and `decoder_tokens`, if given, must be those in it.

        folder: or what `model_files.find` takes in its place.
        run_mode: one of RUN_MODES; None: on a CPU oneDNN where it is exact, else plain Paddle;
            onnxruntime or openvino, which need no Paddle, for a folder of their files alone.
        cpu_threads: of the engine; None: all cores that this process may use.

        Raises PaddlexMLError for a folder without a valid multi-label model, and for a mode that
        the device or the folder excludes.
        """
        device = _read_device(device)
        self._threads = _count_threads(cpu_threads)
        if run_mode is not None and run_mode not in RUN_MODES:
            raise PaddlexMLError(
                f"no run mode is called {run_mode!r}",
                where="run_mode",
                fix=f"choose from {', '.join(RUN_MODES)}",
            )
        files = model_files.find(folder, run_mode)
        self.folder, self._graph, self._weights = files.folder, files.graph, files.weights
        content = files.describe()
        if model_name and content.model_name and model_name != content.model_name:
            raise PaddlexMLError(
                f"{model_name} was asked for, the folder holds {content.model_name}",
                where=f"{files.description}: Global.model_name",
                fix=f"ask for {content.model_name}, or name the folder of {model_name}",
            )
        refuse_other_tokens(decoder_tokens, content.decoder_tokens, str(self.folder))
        self.model_name = content.model_name or model_name
        self.label_names, self.decoder_tokens = content.label_names, content.decoder_tokens
        self._class_queries = content.class_queries
        self.made_by = content.run
        """The training that made the model; None where the folder does not name it."""
        self.threshold = content.threshold
        self.preprocess = content.preprocess
        self.image_size = content.preprocess.size
        """(width, height) in pixels of the network's input."""
        self._thread = OwnThread("network")
        self._attention: Attention | None = None
        self._load_network(device, run_mode or files.run_mode)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Images float32 [B, 3, H, W] as `preprocess` makes them -> scores float32 [B, C], 0..1."""
        return self._thread.call(self._network, images)

    def require_attention(self) -> None:
        """Load what `attend` needs, a second network, unless it is loaded already.

        Raises PaddlexMLError for a model whose head sees one token, or has no attention.
        """
        self._thread.call(self._open_attention)

    def attend(self, images: np.ndarray, wanted: Sequence[ClassIds]) -> list[Maps]:
        """Images as for `run` and, for each, class ids -> the maps of where these classes look.

        Call `require_attention` first.
        """
        assert self._attention is not None
        return self._thread.call(self._attention, images, wanted)

    @property
    def classes_per_map(self) -> int:
        """How many classes share a map of `attend`; call `require_attention` first."""
        assert self._attention is not None
        return self._attention.classes_per_map

    def _load_network(self, device: str, run_mode: str | None) -> None:
        """Set `run_mode`, `device` and the network, whose scores are checked."""
        probe = self._make_probe()
        if run_mode in OPENVINO_MODES:
            self.run_mode, self.device = run_mode, "cpu"
            openvino_runtime.require(f"run mode {run_mode}")
            graph_memory.check(openvino_nodes.read(self._graph), self.image_size, self._graph)
            self._network, scores = self._thread.call(
                openvino_engine.load,
                self._graph,
                device=device,
                run_mode=run_mode,
                threads=self._threads,
                probe=probe,
                check=self._check_shapes,
            )
        elif self._weights is None:
            self.run_mode = "onnxruntime"
            graph_memory.check(onnx_nodes.read(self._graph), self.image_size, self._graph)
            self._network, self.device, scores = self._thread.call(
                onnx_engine.load,
                self._graph,
                device=device,
                threads=self._threads,
                probe=probe,
                check=self._check_shapes,
            )
        else:
            if not paddle_runtime.is_prepared():
                _log.info("%s", paddle_runtime.prepare())
            # Imported here, so that a model in ONNX needs no Paddle and does not wait for it.
            from paddlex_ml import devices
            from paddlex_ml.inference import paddle_engine

            self.device = devices.select(device)
            _refuse_other_device(run_mode or "", self.device)
            graph = paddle_nodes.read(self._graph, parameter_file.read_shapes(self._weights))
            self._check_shapes(GraphShapes([*graph.inputs.values()], graph.outputs))
            graph_memory.check(graph, self.image_size, self._graph)
            self._network, self.run_mode, scores = self._thread.call(
                paddle_engine.load,
                self._graph,
                self._weights,
                device=self.device,
                run_mode=run_mode,
                threads=self._threads,
                probe=probe,
            )
        self._check_scores(scores)

    def _check_scores(self, scores: np.ndarray) -> None:
        """Raise PaddlexMLError unless the scores of the probe are one of 0..1 for each class."""
        names = len(self.label_names)
        if scores.ndim != 2 or scores.shape[1] != names:
            outputs = " x ".join(map(str, scores.shape[1:]))
            raise PaddlexMLError(
                f"{count(names, 'class name is', 'class names are')} listed, the network "
                f"gives {outputs} score{'s' * (outputs != '1')} per image",
                where=str(self.folder / INFERENCE_YML),
                fix=f"list one name per output, or take graph and {INFERENCE_YML} of one export",
            )
        if not ((scores >= 0) & (scores <= 1)).all():
            raise PaddlexMLError(
                f"the network gives {scores.min():.3g} to {scores.max():.3g} instead of scores "
                "from 0 to 1",
                where=str(self.folder),
                fix="export a multi-label model with its sigmoid: -o Global.mode=export",
            )

    def _open_attention(self) -> None:
        if self._attention is None:
            attention.refuse_one_token(self.decoder_tokens, str(self.folder))
            self._attention = attention.open_network(
                self._load_attention,
                self._make_probe(),
                classes=len(self.label_names),
                where=str(self.folder),
                class_queries=self._class_queries,
            )

    def _load_attention(
        self, probe: np.ndarray
    ) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray] | None:
        if self.run_mode in OPENVINO_MODES:
            return openvino_engine.load_attention(
                self._graph, run_mode=self.run_mode, threads=self._threads, probe=probe
            )
        if self._weights is None:
            return onnx_engine.load_attention(
                self._graph, device=self.device, threads=self._threads, probe=probe
            )
        from paddlex_ml.inference import paddle_engine

        return paddle_engine.load_attention(
            self._graph,
            self._weights,
            device=self.device,
            mode=self.run_mode,
            threads=self._threads,
            probe=probe,
        )

    def _check_shapes(self, shapes: GraphShapes) -> None:
        classes = len(self.label_names)
        graph_shapes.check(shapes, size=self.image_size, classes=classes, where=self._graph)

    def _make_probe(self) -> np.ndarray:
        """Two images of noise in the range of normalised pixels: float32 [2, 3, H, W]."""
        width, height = self.image_size
        return np.random.default_rng(0).standard_normal((2, 3, height, width), np.float32)


def refuse_other_tokens(asked: str | None, decoder_tokens: str | None, where: str) -> None:
    """Raise PaddlexMLError when Train.decoder_tokens is set to another choice than the model's."""
    if asked and decoder_tokens and asked != decoder_tokens:
        raise PaddlexMLError(
            f"the head of this model sees {decoder_tokens}, Train.decoder_tokens is {asked}",
            where=where,
            fix="-o Train.decoder_tokens=null",
        )


def _count_threads(wanted: int | None) -> int:
    """All cores for None; never more than the machine has: OpenMP aborts the process at some."""
    if wanted is None:
        return cores.usable_cores()
    threads, most = check_count(wanted, "cpu_threads", least=1), os.cpu_count() or 1
    if threads > most:
        _log.info("cpu_threads %d: this machine has %d cores, and as many are used", threads, most)
    return min(threads, most)


def _read_device(device: str | None) -> str:
    """`auto`, `cpu`, `gpu`, `gpu:1` or `gpu:0,1`; None is auto, and capitals do not matter."""
    text = "auto" if device is None else str(device).strip().lower()
    if not _DEVICE.fullmatch(text):
        number = text.partition(":")[2]
        raise PaddlexMLError(
            f"no device is called {device!r}",
            where="device",
            fix=f'device="gpu:{number if number.isdecimal() else 0}"'
            if text.startswith(("cuda", "gpu"))
            else 'device="cpu", "gpu", "gpu:1" or "auto"',
        )
    return text


def _refuse_other_device(run_mode: str, device: str) -> None:
    if run_mode.startswith("mkldnn") and device != "cpu":
        kind, fix = "CPUs", "choose the device cpu, or the run mode paddle"
    elif run_mode.startswith("trt") and device == "cpu":
        kind, fix = "GPUs", "choose the device gpu, or the run mode mkldnn"
    else:
        return
    raise PaddlexMLError(
        f"the run mode {run_mode} is made for {kind}, the device is {device}",
        where="run_mode",
        fix=fix,
    )
