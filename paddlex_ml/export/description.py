# SPDX-License-Identifier: Apache-2.0
"""inference.yml: name, preprocessing, threshold and labels of a model, as PaddleX reads them.

The same file stands in the folders of all formats, so that each describes itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from paddlex_ml.checkpoint import Card
from paddlex_ml.data.preprocess import MEAN, STD
from paddlex_ml.files import write_text

THRESHOLD = 0.5


def write(folder: Path, card: Card) -> None:
    """Write `<folder>/inference.yml`. Raises OSError as the system does."""
    text = yaml.safe_dump(_settings(card), sort_keys=False, allow_unicode=True)
    write_text(folder / "inference.yml", text)


def _settings(card: Card) -> dict[str, Any]:
    normalise = {
        "channel_num": 3,
        "mean": list(MEAN),
        "order": "",
        "scale": 1 / 255,
        "std": list(STD),
    }
    resize = {"backend": "pil", "interpolation": "bilinear", "size": card.image_size}
    output = {"threshold": THRESHOLD, "label_list": list(card.label_names)}
    return {
        "Global": {
            "model_name": card.model,
            **({"decoder_tokens": card.decoder_tokens} if card.decoder_tokens else {}),
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
