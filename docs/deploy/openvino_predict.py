# SPDX-License-Identifier: Apache-2.0
"""Predict with an ONNX export in OpenVINO: needs openvino, numpy, Pillow, and nothing else.

python openvino_predict.py output/best_model/inference_onnx/inference.onnx photo.jpg more/*.jpg

Class names, thresholds and the numbers of the preprocessing are in the file.
"""

import json
import os
import sys

os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")

import numpy as np
import openvino
from PIL import Image, ImageOps


class Model:
    """An ONNX file, compiled for a device of OpenVINO."""

    def __init__(self, path, device="CPU", threads=0):
        """Load the file; 0 threads means one per core, which only a CPU takes."""
        graph = openvino.Core().read_model(path)
        keys = "image_size", "scale", "mean", "std", "label_names", "thresholds"
        # OpenVINO keeps the metadata of an ONNX file under this name.
        if missing := [key for key in keys if not graph.has_rt_info(["framework", key])]:
            raise ValueError(f"{path} lacks {', '.join(missing)}: export it again")
        known = {key: json.loads(graph.get_rt_info(["framework", key]).astype(str)) for key in keys}
        side = known["image_size"]
        self.size = tuple(side) if isinstance(side, list) else (side, side)  # width, height
        self.names = known["label_names"]
        self.scale, self.mean, self.std, self.thresholds = (
            np.array(known[key], np.float32) for key in ("scale", "mean", "std", "thresholds")
        )
        # Without the hint OpenVINO computes in 16 bits where a processor can: other scores.
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if device == "CPU" and threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self.compiled = openvino.compile_model(graph, device, options)
        batch = graph.inputs[0].partial_shape[0]
        self.batch = batch.get_length() if batch.is_static else None

    def scores(self, paths):
        """Scores of a batch of photographs: float32 [B, C], 0 to 1."""
        images = np.stack([self.prepare(path) for path in paths])  # [B, 3, H, W]
        step, parts = self.batch or len(images), []
        for start in range(0, len(images), step):
            part = images[start : start + step]  # a batch of fixed size is filled up
            filled = np.pad(part, [(0, step - len(part)), (0, 0), (0, 0), (0, 0)])
            # A copy: the next run writes into the same memory.
            parts.append(self.compiled(filled)[0][: len(part)].copy())
        return np.concatenate(parts)

    def prepare(self, path):
        """Read a photograph as in training: upright, RGB, 8 bits, resized, normalised."""
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
        if image.mode[0] in "IF":  # grey of more than 8 bits
            image = Image.fromarray(eight_bits(np.asarray(image)))
        image = image.convert("RGB").resize(self.size, Image.Resampling.BILINEAR)
        pixels = np.asarray(image).astype(np.float32) * self.scale
        return ((pixels - self.mean) / self.std).transpose(2, 0, 1)


def eight_bits(samples):
    """Floats from 0 to 1, else whole numbers of as many bits as the largest one shows."""
    if samples.dtype.kind == "f" and samples.max() <= 1:
        return np.rint(samples * np.float32(255)).astype(np.uint8)
    bits = next(bits for bits in (8, 10, 12, 14, 16) if samples.max() < 1 << bits)
    return (samples.astype(np.uint16) >> (bits - 8)).astype(np.uint8)


def main(path, photos):
    """Print the labels of each photograph as a line of JSON; returns how many cannot be read."""
    if not os.path.isfile(path):
        sys.exit(f"error: no such file: {path}")
    try:
        model = Model(path)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except RuntimeError as error:  # of OpenVINO, whose last line is the reason
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")
    unread = 0
    for photo in photos:
        try:
            scores = model.scores([photo])[0]
        except OSError as error:  # no such file, or no image
            print(f"error: {photo}: {error}", file=sys.stderr)
            unread += 1
            continue
        order = np.argsort(-scores, kind="stable")
        kept = [i for i in order if scores[i] >= model.thresholds[i]]
        labels = {model.names[i]: round(float(scores[i]), 5) for i in kept}
        print(json.dumps({"photo": photo, "labels": labels}, ensure_ascii=False))
    return unread


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python openvino_predict.py inference.onnx photo.jpg [photo.jpg ...]")
    sys.exit(2 if main(sys.argv[1], sys.argv[2:]) else 0)
