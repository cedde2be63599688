# SPDX-License-Identifier: Apache-2.0
"""inference.yml: name, preprocessing, threshold and labels of a model, as PaddleX reads them.

The same file stands in the folders of all formats, so that each describes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.data.preprocess import MEAN, STD
from paddlex_ml.storage.files import back_up, write_text

THRESHOLD = 0.5


def write(folder: Path, info: ModelInfo) -> None:
    """Write `<folder>/inference.yml`. Raises OSError as the system does."""
    text = yaml.safe_dump(_settings(info), sort_keys=False, allow_unicode=True)
    write_text(folder / "inference.yml", text)


def set_thresholds(path: Path, thresholds: Sequence[float], shared: float) -> Path | None:
    """Give a description its own threshold for every class; the original stays as `.bak`.

    PaddleX reads one number for all classes and takes a list for something else, so `shared` stands
    where it looks, and the list in `Global.thresholds`, which it passes over. Returns the backup,
    None where nothing had to change. Raises OSError as the system does.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    before = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    document["Global"] = document.get("Global") or {}  # `Global:` with nothing below is None
    document["Global"]["thresholds"] = [float(number) for number in thresholds]
    document["PostProcess"]["MultiLabelThreshOutput"]["threshold"] = float(shared)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    if text == before:
        return None
    copy = back_up(path)
    write_text(path, text)
    return copy


def _settings(info: ModelInfo) -> dict[str, Any]:
    normalise = {
        "channel_num": 3,
        "mean": list(MEAN),
        "order": "",
        "scale": 1 / 255,
        "std": list(STD),
    }
    resize = {"backend": "pil", "interpolation": "bilinear", "size": info.image_size}
    output = {"threshold": THRESHOLD, "label_list": list(info.label_names)}
    return {
        "Global": {
            "model_name": info.model,
            **({"decoder_tokens": info.decoder_tokens} if info.decoder_tokens else {}),
        },
        "PreProcess": {
            "transform_ops": [
                {"ResizeImage": resize},
                {"NormalizeImage": normalise},
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {"MultiLabelThreshOutput": output},
    }
