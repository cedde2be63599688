# SPDX-License-Identifier: Apache-2.0
"""inference.yml: what a static model is, as ours, PaddleX's and PaddleClas's exports write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from paddlex_ml.data import preprocess
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.per_class_threshold import Threshold

FILE = "inference.yml"


@dataclass(frozen=True)
class InferenceYml:
    """The content of inference.yml, as far as predictions need it."""

    model_name: str | None
    """None: exports of older PaddleClas carry no name."""
    label_names: tuple[str, ...]
    threshold: Threshold
    preprocess: Preprocess
    decoder_tokens: str | None = None
    """What the head sees of the image; None: the file does not say."""


def read(path: Path) -> InferenceYml:
    """Read inference.yml. Raises PaddlexMLError unless it describes a multi-label model."""
    document = _parse(path)
    post = _section(document, "PostProcess")
    output = post.get("MultiLabelThreshOutput")
    if not isinstance(output, Mapping):
        raise PaddlexMLError(
            f"not a multi-label model: its output goes through {', '.join(post) or 'nothing'}",
            where=f"{path}: PostProcess",
            fix="name the folder of a model with MultiLabelThreshOutput",
        )
    about = _section(document, "Global")
    name, tokens = about.get("model_name"), about.get("decoder_tokens")
    steps = _section(document, "PreProcess").get("transform_ops")
    return InferenceYml(
        model_name=None if name is None else str(name),
        label_names=_read_labels(output.get("label_list"), path),
        threshold=_read_threshold(about, output),
        preprocess=preprocess.read(steps, where=f"{path}: PreProcess.transform_ops"),
        decoder_tokens=None if tokens is None else str(tokens),
    )


def _read_threshold(about: Mapping[str, Any], output: Mapping[str, Any]) -> Threshold:
    """Ours for each class, where an evaluation has tuned them; else the one for all."""
    for threshold in (about.get("thresholds"), output.get("threshold")):
        if threshold is not None:
            return threshold  # its numbers are judged where the classes are known
    return 0.5


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PaddlexMLError(
            f"the description of the model cannot be read: {' '.join(str(error).split())}",
            where=str(path),
            fix="copy the file anew, or export the model again: -o Global.mode=export",
        ) from error
    if isinstance(document, Mapping):
        return document
    raise PaddlexMLError(
        "the description of the model is not a mapping of sections",
        where=str(path),
        fix="copy the file anew, or export the model again: -o Global.mode=export",
    )


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name)
    return section if isinstance(section, Mapping) else {}


def _read_labels(labels: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(labels, list) or not labels:
        raise PaddlexMLError(
            "the model does not say what its classes are called",
            where=f"{path}: PostProcess.MultiLabelThreshOutput.label_list",
            fix="list the class names there, one per output, in the order of label.txt",
        )
    return tuple(str(label) for label in labels)  # names such as 7 arrive as numbers
