# SPDX-License-Identifier: Apache-2.0
"""The models that PaddlePaddle publishes, trained on COCO, and their URLs. No download here."""

from __future__ import annotations

from difflib import get_close_matches
from typing import NamedTuple

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.kernels.families import CONVOLUTIONAL


class Published(NamedTuple):
    """A published model: its cost, its score, and when to use it."""

    parameters: int
    """With 80 classes."""
    gflops: float
    """10^9 multiply-adds for an image of 448 x 448 pixels."""
    coco_map: float
    """mAP on COCO 2017 val in percent, from the documentation of PaddleX's module."""
    use: str
    kernels: tuple[str, ...] = CONVOLUTIONAL
    """What it trains with on the CPU (`paddlex_ml.kernels.families`)."""

    @property
    def mebibytes(self) -> float:
        """Size of the parameters as float32."""
        return self.parameters * 4 / 2**20


TABLE = {
    "PP-LCNet_x1_0_ML": Published(
        8_293_808,
        1.54,
        77.96,
        "CPUs, phones, first tries",
        ("updates", "dense", "norm", "depthwise", "head"),
    ),
    "PP-HGNetV2-B0_ML": Published(
        11_159_662,
        2.59,
        80.98,
        "small GPUs, or a little more time",
        ("updates", "dense", "norm", "depthwise", "pool", "head"),
    ),
    "PP-HGNetV2-B4_ML": Published(24_959_792, 12.64, 87.96, "a high score at moderate cost"),
    "PP-HGNetV2-B6_ML": Published(80_419_888, 69.07, 91.25, "the highest score"),
    "ResNet50_ML": Published(
        30_720_144,
        17.26,
        83.50,
        "to compare with older work",
        ("updates", "dense", "winograd", "norm", "pool", "head"),
    ),
    "CLIP_vit_base_patch16_448_ML": Published(
        92_421_712, 80.32, 89.15, "a transformer", ("updates", "attention", "head")
    ),
}
MODELS = tuple(TABLE)
_HOST = "https://paddle-model-ecology.bj.bcebos.com/paddlex"
WEIGHTS = _HOST + "/official_pretrained_model/{}_pretrained.pdparams"
STATIC = _HOST + "/official_inference_model/paddle3.0rc0/{}_infer.tar"


def weights_url(model: str) -> str:
    """URL of the trained weights. Raises PaddlexMLError for a model that is not published."""
    return _fill(WEIGHTS, model)


def static_url(model: str) -> str:
    """URL of the static model, a tar archive. Raises PaddlexMLError like `weights_url`."""
    return _fill(STATIC, model)


def _fill(pattern: str, model: str) -> str:
    if model in MODELS:
        return pattern.format(model)
    nearest = get_close_matches(model, MODELS, n=1)
    raise PaddlexMLError(
        f"no model is published under the name {model!r}",
        where="the name of the model",
        fix=f"write {nearest[0]}" if nearest else f"choose from {', '.join(MODELS)}",
    )
