# SPDX-License-Identifier: Apache-2.0
"""Every model in every format of mode export: sizes and differences, as a Markdown table.

    python benchmarks/export_table.py [--size 448] [--classes 80]

The difference is the largest one between the scores of the model and those of its export, run by
plain Paddle for `paddle` and `pdmodel`, by oneDNN for `pdmodel` too, and by onnxruntime for `onnx`.
The weights are random, at a size with which signals neither fade nor grow: a random start lets them
fade in a small network and turn into chaos in a deep one. Needs `pip install 'paddlex-ml[onnx]'`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Square of the factor from layer to layer.
GAINS = {
    "PP-LCNet_x1_0_ML": 2.3,
    "PP-HGNetV2-B0_ML": 1.7,
    "PP-HGNetV2-B4_ML": 1.6,
    "PP-HGNetV2-B6_ML": 1.35,
    "ResNet50_ML": 1.2,
    "CLIP_vit_base_patch16_448_ML": 1.0,
}


def main() -> int:
    """Export the models one after the other and print the table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--classes", type=int, default=80)
    options = parser.parse_args()

    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    from paddlex_ml.models import zoo
    from paddlex_ml.models.published import MODELS

    print(f"{options.size} px, {options.classes} classes\n")
    print("| model | paddle | pdmodel | oneDNN | onnx | MB: weights | paddle | pdmodel | onnx |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in MODELS:
        for tokens in zoo.find(name).tokens or (None,):
            cells = _measure(name, tokens, options.size, options.classes)
            label = f"{name}, {tokens}" if tokens else name
            print(f"| {label} | {' | '.join(cells)} |", flush=True)
    return 0


def _measure(name: str, tokens: str | None, size: int, classes: int) -> Iterator[str]:
    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.config.export_schema import OPSET
    from paddlex_ml.export.onnx import save_onnx
    from paddlex_ml.export.pdmodel import save_pdmodel
    from paddlex_ml.export.safetensors import save_safetensors
    from paddlex_ml.export.static import save_static
    from paddlex_ml.models import zoo

    model = zoo.build(name, classes, tokens=tokens)
    _fill(model, GAINS[name])
    info = ModelInfo(name, [str(number) for number in range(classes)], size, tokens)
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        yield f"{save_static(model, info, place / 'paddle'):.1e}"
        yield f"{save_pdmodel(model, info, place / 'pdmodel'):.1e}"
        yield f"{_difference_of_onednn(model, place / 'pdmodel', size):.1e}"
        yield f"{save_onnx(model, info, place / 'onnx', OPSET):.1e}"
        save_safetensors(model, info, place / "weights" / "w.safetensors")
        for folder in ("weights", "paddle", "pdmodel", "onnx"):
            total = sum(path.stat().st_size for path in (place / folder).iterdir())
            yield f"{total / 1e6:.1f}"


def _fill(model: Any, gain: float) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for name, entry in model.state_dict().items():
        noise = rng.standard_normal(entry.shape)
        if name.endswith("_variance"):
            value = rng.uniform(0.5, 1.5, entry.shape)
        elif entry.ndim == 1:
            value = 0.1 * noise + name.endswith(("weight", "scale"))
        else:
            inputs = entry.shape[0] if entry.ndim == 2 else np.prod(entry.shape[1:])
            value = noise * (gain / inputs) ** 0.5
        entry.set_value(value.astype(np.float32))


def _difference_of_onednn(model: Any, folder: Path, size: int) -> float:
    from paddlex_ml.export import parity
    from paddlex_ml.inference.static_model import StaticModel

    static = StaticModel(folder, "cpu", "mkldnn")
    return parity.measure(model, static.run, size) if static.run_mode == "mkldnn" else float("nan")


if __name__ == "__main__":
    sys.exit(main())
