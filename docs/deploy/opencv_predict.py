# SPDX-License-Identifier: Apache-2.0
"""Predict with an ONNX export in OpenCV: needs opencv-python-headless, numpy, and nothing else.

python opencv_predict.py output/best_model/inference_onnx/inference.onnx photo.jpg more/*.jpg

Class names, thresholds and the numbers of the preprocessing are in the file.
"""

import json
import os
import sys

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")

import cv2
import numpy as np


class Model:
    """An ONNX file in memory, and how it wants its images."""

    def __init__(self, path):
        """Load the file."""
        with open(path, "rb") as file:
            texts = metadata(file.read())
        keys = "image_size", "scale", "mean", "std", "label_names", "thresholds"
        if missing := [key for key in keys if key not in texts]:
            raise ValueError(f"{path} lacks {', '.join(missing)}: export it again")
        known = {key: json.loads(texts[key]) for key in keys}
        side = known["image_size"]
        self.size = tuple(side) if isinstance(side, list) else (side, side)  # width, height
        self.names = known["label_names"]
        self.scale, self.mean, self.std, self.thresholds = (
            np.array(known[key], np.float32) for key in ("scale", "mean", "std", "thresholds")
        )
        self.net = cv2.dnn.readNetFromONNX(path)

    def scores(self, path):
        """Scores of one photograph: float32 [C], 0 to 1. OpenCV 4 may end with more at a time."""
        self.net.setInput(self.prepare(path)[None])
        return self.net.forward()[0].copy()

    def prepare(self, path):
        """Read a photograph as in training: upright, RGB, 8 bits, resized, normalised."""
        with open(path, "rb") as file:
            content = file.read()
        # OpenCV fills up a JPEG file that is cut off. Its end comes behind the start of its scans.
        if content[:2] == b"\xff\xd8" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise OSError("the file is cut off")
        way = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # upright, BGR
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), way)
        except cv2.error:  # an empty file, or more pixels than it takes
            image = None
        if image is None:
            raise OSError("no image that OpenCV can read")
        image = image if image.dtype == np.uint8 else eight_bits(image)
        pixels = resize(image[..., ::-1], *self.size).astype(np.float32) * self.scale
        return np.ascontiguousarray(((pixels - self.mean) / self.std).transpose(2, 0, 1))


def resize(image, width, height):
    """Resize uint8 [H, W, 3], bilinear, to the same pixels as Pillow 13."""
    rows, columns, _ = image.shape
    if rows - height > max(0, 2 * (columns - width)):  # Pillow begins with the side that saves work
        return resize_side(resize_side(image, height, axis=0), width, axis=1)
    return resize_side(resize_side(image, width, axis=1), height, axis=0)


def resize_side(image, length, axis):
    """Each pixel is the mean of all that lie below it, weighted by a triangle.

    `cv2.resize` takes two on each side and leaves the others out; INTER_AREA weights all alike.
    """
    step = image.shape[axis] / length
    if step == 1:
        return image
    reach = max(step, 1.0)
    rows = np.ascontiguousarray(np.moveaxis(image, axis, 0))
    flat, result = rows.reshape(len(rows), -1), np.empty((length, *rows.shape[1:]), np.uint8)
    for i in range(length):
        centre = (i + 0.5) * step
        start, stop = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), len(rows))
        weights = 1 - np.abs(np.arange(start, stop) + 0.5 - centre) / reach
        weights = np.maximum(weights, 0)
        # Whole numbers, as in Pillow: their sums are exact, and round in the same way.
        weights = np.floor(weights / weights.sum() * (1 << 22) + 0.5)
        sums = weights @ flat[start:stop].astype(np.float64) + (1 << 21)
        result[i] = np.minimum(sums / (1 << 22), 255).reshape(rows.shape[1:])
    return np.moveaxis(result, 0, axis)


def eight_bits(samples):
    """Floats from 0 to 1, else whole numbers of as many bits as the largest one shows."""
    if samples.dtype.kind == "f" and samples.max() <= 1:
        return np.rint(samples * np.float32(255)).astype(np.uint8)
    bits = next(bits for bits in (8, 10, 12, 14, 16) if samples.max() < 1 << bits)
    return (samples.astype(np.uint16) >> (bits - 8)).astype(np.uint8)


def metadata(content):
    """The texts of an ONNX file, which cv2.dnn does not show: field 14 of its one message."""
    return {
        key.decode(): value.decode()
        for number, pair in fields(content)
        if number == 14
        for key, value in [[text for _, text in fields(pair)]]
    }


def fields(message):
    """Number and content of each field of a protobuf message."""
    position = 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(message):
        number, kind = divmod(varint(), 8)
        length = varint() if kind in (0, 2) else {1: 8, 5: 4}.get(kind)
        if length is None or position + length * (kind != 0) > len(message):
            raise ValueError("not an ONNX file, or not a whole one")
        yield number, message[position : position + length] if kind else length
        position += length if kind else 0


def main(path, photos):
    """Print the labels of each photograph as a line of JSON; returns how many cannot be read."""
    try:
        model = Model(path)
    except (OSError, ValueError, IndexError, cv2.error) as error:
        sys.exit(f"error: {path}: {error}")
    unread = 0
    for photo in photos:
        try:
            scores = model.scores(photo)
        except OSError as error:
            print(f"error: {photo}: {error}", file=sys.stderr)
            unread += 1
            continue
        except cv2.error as error:
            sys.exit(f"error: {path}: {error.err}\nOpenCV 4 needs -o Export.batch_size=1")
        order = np.argsort(-scores, kind="stable")
        kept = [i for i in order if scores[i] >= model.thresholds[i]]
        labels = {model.names[i]: round(float(scores[i]), 5) for i in kept}
        print(json.dumps({"photo": photo, "labels": labels}, ensure_ascii=False))
    return unread


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python opencv_predict.py inference.onnx photo.jpg [photo.jpg ...]")
    sys.exit(2 if main(sys.argv[1], sys.argv[2:]) else 0)
