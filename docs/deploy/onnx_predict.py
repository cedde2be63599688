# SPDX-License-Identifier: Apache-2.0
"""Predict with an ONNX export: needs onnxruntime, numpy, Pillow, and nothing else.

python onnx_predict.py output/best_model/inference_onnx/inference.onnx photo.jpg more/*.jpg

The file alone is enough. An inference.yml beside it goes first, if PyYAML is installed, unless a
file that describes itself has got another name than inference.onnx.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.32 on it reports to its maker

import onnxruntime


class Model:
    """An ONNX file in memory, and how it wants its images."""

    def __init__(self, path, threads=0):
        """Load the file, or inference.onnx of a folder; 0 threads means one per core."""
        path = Path(path)
        path = path / "inference.onnx" if path.is_dir() else path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3  # errors alone
        # Files in 8 bits: without it, processors without VNNI give other scores.
        options.add_session_config_entry("session.x64quantprecision", "1")
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0]
        about, texts = path.with_name("inference.yml"), self.session.get_modelmeta()
        is_told = "label_names" in texts.custom_metadata_map and path.name != "inference.onnx"
        known = read_yml(about) if about.is_file() and not is_told else self.read_metadata()
        side = known["image_size"]
        self.size = tuple(side) if isinstance(side, list) else (side, side)  # width, height
        self.scale, self.mean, self.std = (
            np.array(known[key], np.float32) for key in ("scale", "mean", "std")
        )
        self.names = known["label_names"]
        self.thresholds = per_class(known["thresholds"], self.names)

    def read_metadata(self):
        """What the file says of itself: JSON texts."""
        texts = self.session.get_modelmeta().custom_metadata_map
        keys = "image_size", "scale", "mean", "std", "label_names", "thresholds"
        if missing := [key for key in keys if key not in texts]:
            sys.exit(f"the file lacks {', '.join(missing)}: export it again, or copy inference.yml")
        return {key: json.loads(texts[key]) for key in keys}

    def scores(self, paths):
        """Scores of a batch of photographs: float32 [B, C], 0 to 1."""
        batch = np.stack([self.prepare(path) for path in paths])  # [B, 3, H, W]
        fixed = self.input.shape[0]  # a number where Export.batch_size was set, else a name
        step = fixed if isinstance(fixed, int) else len(batch)
        parts = []
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            filled = np.pad(part, [(0, step - len(part)), (0, 0), (0, 0), (0, 0)])
            parts.append(self.session.run(None, {self.input.name: filled})[0][: len(part)])
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


def read_yml(path):
    """What inference.yml says: the thresholds that an evaluation tuned, or the one for all."""
    try:
        import yaml
    except ImportError:
        sys.exit(f"to read {path}: pip install PyYAML, or copy the .onnx file to another folder")
    settings = yaml.safe_load(path.read_text("utf-8-sig"))
    steps = {k: v for s in settings["PreProcess"]["transform_ops"] for k, v in s.items()}
    output = settings["PostProcess"]["MultiLabelThreshOutput"]
    tuned, shared = (settings.get("Global") or {}).get("thresholds"), output.get("threshold")
    known = {key: steps["NormalizeImage"][key] for key in ("scale", "mean", "std")}
    above, _, below = str(known["scale"]).partition("/")  # PaddleClas writes 1.0/255.0
    known["scale"] = float(above) / float(below or 1)
    known["image_size"] = steps["ResizeImage"]["size"]
    known["label_names"] = [str(name) for name in output["label_list"]]
    return {**known, "thresholds": next((t for t in (tuned, shared) if t is not None), 0.5)}


def per_class(threshold, names):
    """One number, one for each class, or {default: 0.5, cat: 0.3} -> float32 [C]."""
    if isinstance(threshold, dict):
        by_id = {int(k): v for k, v in threshold.items() if k not in names and str(k).isdecimal()}
        default = threshold["default"]
        threshold = [threshold.get(n, by_id.get(i, default)) for i, n in enumerate(names)]
    return np.broadcast_to(np.asarray(threshold, np.float32), len(names))


def main(path, photos):
    """Print the labels of each photograph as a line of JSON; returns how many cannot be read."""
    model, unread = Model(path), 0
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
    if len(sys.argv) < 2:
        sys.exit("usage: python onnx_predict.py model.onnx photo.jpg [photo.jpg ...]")
    sys.exit(2 if main(sys.argv[1], sys.argv[2:]) else 0)
