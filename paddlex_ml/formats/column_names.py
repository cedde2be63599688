# SPDX-License-Identifier: Apache-2.0
"""What the name of a column of a table says of its cells."""

from __future__ import annotations

import re

IMAGE_WORDS = {
    *("image", "img", "images", "image_name", "img_name", "image_path", "img_path", "filename"),
    *("file_name", "file", "fname", "path", "filepath", "file_path", "image_id", "imageid", "id"),
    *("image_index", "name", "图片", "图像", "文件", "文件名", "图片名", "图像路径", "图片路径"),
}
_LABEL_WORDS = {
    *("label", "tag", "class", "category", "target", "keyword", "attribute", "genre", "species"),
    *("labelname", "classname", "annotation", "finding"),
}
_LABEL_PLURALS = {f"{word}s" for word in _LABEL_WORDS} | {"classes", "categories"}
_CHINESE_LABELS = re.compile("标签|类别|分类|标注")
OTHER_WORDS = {
    *("id", "index", "idx", "no", "number", "url", "link", "width", "height", "w", "h", "x", "y"),
    *("xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2", "bbox", "box", "area", "depth"),
    *("confidence", "score", "probability", "source", "license", "author", "annotator", "date"),
    *("time", "timestamp", "age", "sex", "gender", "fold", "md5", "hash", "size", "path", "file"),
    *("filename", "folder", "split", "set", "subset", "segmentation", "notes", "comment"),
    *("description", "caption", "title", "lat", "lon", "latitude", "longitude", "rotation"),
    *("pixels", "encodedpixels", "rle", "polygon", "mask"),
    *("frontal_lateral", "ap_pa", "projection", "view_position"),  # of X-ray images
}
OTHER_FLAGS = {
    *("difficult", "truncated", "occluded", "iscrowd", "is_crowd", "isoccluded", "istruncated"),
    *("isgroupof", "isdepiction", "isinside", "id", "index", "sex", "gender", "fold"),
    *("verified", "checked", "reviewed", "labeled", "labelled", "annotated"),
}
WEIGHTS = {"confidence", "score", "probability"}
"""Last words of the names of columns that tell how sure a label is."""


def is_label_word(name: str) -> bool:
    """Whether a column is named like one of labels."""
    words = set(re.split(r"[_0-9]+", simplify(name)))
    return bool(words & (_LABEL_WORDS | _LABEL_PLURALS) or _CHINESE_LABELS.search(name))


def is_plural(name: str) -> bool:
    """Whether a column is named as one of several labels."""
    words = set(re.split(r"[_0-9]+", simplify(name)))
    return bool(words & _LABEL_PLURALS or _CHINESE_LABELS.search(name))


def simplify(name: str) -> str:
    """A name of a column in small letters, words parted by "_": "Image Index", "imageIndex"."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"\W+", "_", parted).strip("_").casefold()
