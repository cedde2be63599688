# SPDX-License-Identifier: Apache-2.0
"""Predict with an ONNX export: needs onnxruntime, numpy, Pillow, PyYAML, and nothing else.

python onnx_predict.py output/best_model/inference_onnx photo.jpg more/*.jpg
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import yaml
from PIL import Image, ImageOps


class Model:
    """The folder in memory: inference.onnx and inference.yml."""

    def __init__(self, folder, threads=0):
        """Load it; 0 threads means one per core."""
        settings = yaml.safe_load((Path(folder) / "inference.yml").read_text("utf-8"))
        steps = {k: v for s in settings["PreProcess"]["transform_ops"] for k, v in s.items()}
        side = steps["ResizeImage"]["size"]
        self.size = tuple(side) if isinstance(side, list) else (side, side)  # width, height
        self.scale, self.mean, self.std = (
            np.array(steps["NormalizeImage"][key], np.float32) for key in ("scale", "mean", "std")
        )
        output = settings["PostProcess"]["MultiLabelThreshOutput"]
        self.names, self.threshold = output["label_list"], output["threshold"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3  # errors alone
        self.session = onnxruntime.InferenceSession(
            str(Path(folder) / "inference.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def scores(self, paths):
        """Scores of a batch of photographs: float32 [B, C], 0 to 1."""
        batch = np.stack([self.prepare(path) for path in paths])  # [B, 3, H, W]
        return self.session.run(None, {self.session.get_inputs()[0].name: batch})[0]

    def prepare(self, path):
        """Read a photograph as in training: upright, RGB, 8 bits, resized, normalised."""
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16 bits of grey: keep the high byte
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("RGB").resize(self.size, Image.Resampling.BILINEAR)
        pixels = np.asarray(image).astype(np.float32) * self.scale
        return ((pixels - self.mean) / self.std).transpose(2, 0, 1)


if __name__ == "__main__":
    model = Model(sys.argv[1])
    for photo in sys.argv[2:]:
        scores = model.scores([photo])[0]
        kept = [i for i in np.argsort(-scores) if scores[i] >= model.threshold]
        labels = {model.names[i]: round(float(scores[i]), 5) for i in kept}
        print(json.dumps({"photo": photo, "labels": labels}, ensure_ascii=False))
