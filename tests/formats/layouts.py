# SPDX-License-Identifier: Apache-2.0
"""Random true label sets, written as the tools write them: what the readers must give back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

NAMES = [
    "cat",
    "dog",
    "red car",
    "traffic light",
    "person",
    "猫",
    "白色 卡车",
    "bird_2",
    "N-1",
    "été",
]


@dataclass(frozen=True)
class Truth:
    """Images by their file names, each with its labels, and the classes in their order."""

    names: list[str]
    labels: dict[str, list[str]]

    def ids(self, image: str) -> list[int]:
        """The numbers of the classes that an image shows."""
        return [self.names.index(name) for name in self.labels[image]]


def draw(random: Random) -> Truth:
    """A set of 6 to 12 images of 2 to 5 classes, each class shown by an image."""
    names = random.sample(NAMES, random.randint(2, 5))
    ending = random.choice([".jpg", ".jpg", ".png", ".jpeg"])
    stems = random.choice(["{:03}", "IMG_{:04}", "photo {}", "图{}", "a.{}"])
    images = [stems.format(i) + ending for i in range(random.randint(6, 12))]
    labels = {image: random.sample(names, random.randint(0, len(names))) for image in images}
    for name, image in zip(names, images, strict=False):
        if name not in labels[image]:
            labels[image].append(name)
    return Truth(names, {image: sorted(shown, key=names.index) for image, shown in labels.items()})


def write(root: Path, path: str, text: str) -> None:
    """Write one text file below `root`."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8", newline="\n")


def write_json(root: Path, path: str, value: Any) -> None:
    """Write one JSON file below `root`, with text as it is or with escapes."""
    write(root, path, json.dumps(value, ensure_ascii=False))


def put_images(root: Path, truth: Truth, folder: str) -> None:
    """Make the files of all images, each of another content."""
    for image in truth.labels:
        write(root, f"{folder}/{image}" if folder else image, f"pixels of {image}")


def stem(image: str) -> str:
    """The name of an image without the ending."""
    return image.rpartition(".")[0]


def yolo(root: Path, truth: Truth, random: Random) -> None:
    images, labels = random.choice(
        [
            ("images", "labels"),
            ("images/train", "labels/train"),
            ("train/images", "train/labels"),
            ("", ""),
            ("JPEGImages", "Annotations"),
            ("images", "images"),
            ("images", "labelTxt"),
        ]
    )
    put_images(root, truth, images)
    for image in truth.labels:
        lines = [f"{i} 0.5 0.5 0.25 0.25" for i in truth.ids(image)]
        shape = random.choice(["", " 0.1 0.1 0.2 0.2"])
        text = "".join(f"{line}{shape}\n" for line in lines)
        write(root, f"{labels}/{stem(image)}.txt" if labels else f"{stem(image)}.txt", text)
    if random.random() < 0.5:
        write(root, "classes.txt", "".join(f"{name}\n" for name in truth.names))
    else:
        names = "".join(f"  {i}: {json.dumps(n)}\n" for i, n in enumerate(truth.names))
        write(root, "data.yaml", f"names:\n{names}train: {images or '.'}\n")


def darknet(root: Path, truth: Truth, random: Random) -> None:
    folder = random.choice(["obj_train_data", "data/obj_train_data"])
    prefix = random.choice(["data/", ""])
    put_images(root, truth, folder)
    for image in truth.labels:
        text = "".join(f"{i} 0.5 0.5 0.25 0.25\n" for i in truth.ids(image))
        write(root, f"{folder}/{stem(image)}.txt", text)
    write(root, "obj.names", "".join(f"{name}\n" for name in truth.names))
    train = "data/train.txt" if prefix else "train.txt"
    text = f"classes = {len(truth.names)}\ntrain = {train}\nnames = {prefix}obj.names\n"
    write(root, "obj.data", text + "backup = backup/\n")
    write(root, "train.txt", "".join(f"{prefix}{folder}/{image}\n" for image in truth.labels))


def coco(root: Path, truth: Truth, random: Random) -> None:
    path, folder, named = random.choice(
        [
            ("annotations/instances_train2017.json", "train2017", ""),
            ("annotations/instance_train.json", "images", ""),
            ("annotations/instances_default.json", "images/default", ""),
            ("train/_annotations.coco.json", "train", ""),
            ("train/_annotations.coco.json", "train/images", ""),
            ("result.json", "images", "images/"),
            ("result.json", "images", "/data/upload/3/"),
        ]
    )
    put_images(root, truth, folder)
    kind: Callable[[int], Any] = random.choice([int, str, float])
    other: Callable[[int], Any] = random.choice([int, str, float])
    images = [{"id": kind(i), "file_name": named + image} for i, image in enumerate(truth.labels)]
    categories = [{"id": kind(i + 1), "name": name} for i, name in enumerate(truth.names)]
    annotations = [
        {"id": i, "image_id": other(i), "category_id": other(k + 1), "bbox": [1, 2, 3, 4]}
        for i, image in enumerate(truth.labels)
        for k in truth.ids(image)
    ]
    random.shuffle(annotations)
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root, path, content)


def voc(root: Path, truth: Truth, random: Random) -> None:
    annotations, images = random.choice(
        [("Annotations", "JPEGImages"), ("", ""), ("Annotations/s", "JPEGImages/s"), ("a", "a")]
    )
    put_images(root, truth, images)
    for image, labels in truth.labels.items():
        objects = "".join(f"<object><name>{name}</name></object>" for name in labels)
        text = f"<annotation><filename>{image}</filename>{objects}</annotation>"
        write(
            root, f"{annotations}/{stem(image)}.xml" if annotations else stem(image) + ".xml", text
        )


def voc_tags(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "JPEGImages")
    for name in truth.names:
        rows = [f"{stem(i)} {1 if name in shown else -1}\n" for i, shown in truth.labels.items()]
        write(root, f"ImageSets/Main/{name}_train.txt", "".join(rows))
    write(root, "ImageSets/Main/train.txt", "".join(f"{stem(i)}\n" for i in truth.labels))


def labelme(root: Path, truth: Truth, random: Random) -> None:
    images, annotations, up = random.choice(
        [("", "", ""), ("images", "annotations", "../images/"), ("photos", "photos", "")]
    )
    put_images(root, truth, images)
    as_flags = random.random() < 0.5
    for image, labels in truth.labels.items():
        content = {
            "version": "5.4.1",
            "flags": {name: name in labels for name in truth.names} if as_flags else {},
            "shapes": [] if as_flags else [{"label": n, "points": [[1, 2]]} for n in labels],
            "imagePath": up + image,
        }
        path = f"{annotations}/{stem(image)}.json" if annotations else f"{stem(image)}.json"
        write_json(root, path, content)


def csv_one_hot(root: Path, truth: Truth, random: Random) -> None:
    folder = random.choice(["images", "train", "", "photos/2024"])
    put_images(root, truth, folder)
    yes, no = random.choice(
        [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("yes", "no"), ("1", "")]
    )
    rows = [",".join(["filename", *truth.names])]
    for image, labels in truth.labels.items():
        rows.append(",".join([image, *(yes if name in labels else no for name in truth.names)]))
    write(root, random.choice(["train.csv", "labels.csv"]), "\n".join(rows) + "\n")


def csv_names(root: Path, truth: Truth, random: Random) -> None:
    folder = random.choice(["images", "train", "", "photos/2024"])
    put_images(root, truth, folder)
    between = random.choice(["|", ";", ", ", "、", "，", "list", "json"])
    rows = ["image,tags"]
    for image, labels in truth.labels.items():
        if between == "list":
            cell = str(labels)
        elif between == "json":
            cell = json.dumps(labels, ensure_ascii=False).replace('"', '""')
        else:
            cell = between.join(labels)
        rows.append(f'{image},"{cell}"')
    write(root, random.choice(["train.csv", "tags.csv"]), "\n".join(rows) + "\n")


def jsonl(root: Path, truth: Truth, random: Random) -> None:
    folder = random.choice(["images", "train", ""])
    put_images(root, truth, folder)
    image_key = random.choice(["path", "image", "file_name"])
    rows = [{image_key: image, "labels": labels} for image, labels in truth.labels.items()]
    write(root, "train.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def text_list(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    rows = [" ".join([f"images/{image}", *map(str, truth.ids(image))]) for image in truth.labels]
    write(root, "train.txt", "\n".join(rows) + "\n")
    write(root, "classes.txt", "".join(f"{name}\n" for name in truth.names))


def paddlelabel(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "image")
    rows = [" ".join([f"image/{image}", *map(str, truth.ids(image))]) for image in truth.labels]
    write(root, "train_list.txt", "\n".join(rows) + "\n")
    write(root, "labels.txt", "".join(f"{name}\n" for name in truth.names))


def cvat(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    labels = "".join(f"<label><name>{name}</name></label>" for name in truth.names)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    images = ""
    for i, (image, shown) in enumerate(truth.labels.items()):
        tag = random.choice(["tag", "box"])
        tags = "".join(f'<{tag} label="{name}" source="manual"></{tag}>' for name in shown)
        images += f'<image id="{i}" name="{image}" width="9" height="9">{tags}</image>'
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    write(root, "annotations.xml", f"{head}<annotations>{meta}{images}</annotations>")


def labelstudio(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    url = random.choice(["/data/upload/1/{}", "/data/local-files/?d=images/{}", "{}"])
    tasks = []
    for i, (image, labels) in enumerate(truth.labels.items()):
        value = {"choices": labels}
        result = {"value": value, "from_name": "choice", "to_name": "image", "type": "choices"}
        annotations = [{"id": i, "was_cancelled": False, "result": [result] if labels else []}]
        tasks.append({"id": i, "annotations": annotations, "data": {"image": url.format(image)}})
    write_json(root, "project-1.json", tasks)


def mmpretrain(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    rows = [{"img_path": f"images/{i}", "gt_label": truth.ids(i)} for i in truth.labels]
    write_json(root, "train.json", {"metainfo": {"classes": truth.names}, "data_list": rows})


def azure(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    prefix = "AmlDatastore://workspaceblobstore/images/"
    rows = [{"image_url": prefix + i, "label": labels} for i, labels in truth.labels.items()]
    write(root, "train.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def vertex_csv(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    rows = [",".join(["TRAIN", f"gs://bucket/{i}", *shown]) for i, shown in truth.labels.items()]
    write(root, "import.csv", "\n".join(rows) + "\n")


def vertex_jsonl(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    rows = [
        {
            "imageGcsUri": f"gs://bucket/{image}",
            "classificationAnnotations": [{"displayName": name} for name in labels],
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"},
        }
        for image, labels in truth.labels.items()
    ]
    write(root, "import.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def sagemaker(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    classes = {str(i): name for i, name in enumerate(truth.names)}
    rows = [
        {
            "source-ref": f"s3://bucket/images/{image}",
            "labels": truth.ids(image),
            "labels-metadata": {
                "class-map": {k: v for k, v in classes.items() if int(k) in truth.ids(image)},
                "type": "groundtruth/image-classification-multilabel",
            },
        }
        for image in truth.labels
    ]
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    write(root, "output.manifest", text)


def labelbox(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    rows = []
    for image, labels in truth.labels.items():
        answers = [{"name": name, "value": name} for name in labels]
        checklist = {"name": "what", "checklist_answers": answers}
        label = {"annotations": {"classifications": [checklist], "objects": []}}
        rows.append({"data_row": {"external_id": image}, "projects": {"p": {"labels": [label]}}})
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    write(root, "export.ndjson", text)


def huggingface(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "train")
    rows = [{"file_name": i, "labels": labels} for i, labels in truth.labels.items()]
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    write(root, "train/metadata.jsonl", text)


def openimages(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "images")
    rows = ["ImageID,Source,LabelName,Confidence"]
    for image, labels in truth.labels.items():
        for i, name in enumerate(truth.names):
            if name in labels or random.random() < 0.5 or not labels:
                rows.append(f"{stem(image)},verification,/m/0{i},{int(name in labels)}")
    write(root, "train-annotations-human-imagelabels.csv", "\n".join(rows) + "\n")
    names = "".join(f"/m/0{i},{name}\n" for i, name in enumerate(truth.names))
    write(root, "oidv7-class-descriptions.csv", "LabelName,DisplayName\n" + names)


def celeba(root: Path, truth: Truth, random: Random) -> None:
    put_images(root, truth, "img_align_celeba")
    names = [name.replace(" ", "_") for name in truth.names]
    rows = [str(len(truth.labels)), " ".join(names)]
    for image, labels in truth.labels.items():
        values = (" 1" if name in labels else "-1" for name in truth.names)
        rows.append(f"{image} {' '.join(values)}")
    write(root, "list_attr_celeba.txt", "\n".join(rows) + "\n")


def image_folder(root: Path, truth: Truth, random: Random) -> None:
    base = random.choice(["", "train/"])
    for image, labels in truth.labels.items():
        for name in labels:
            write(root, f"{base}{name}/{image}", f"pixels of {image}")


Writer = Callable[[Path, Truth, Random], None]
WRITERS: dict[str, tuple[str, Writer]] = {
    "YOLO": ("YOLO", yolo),
    "YOLO darknet": ("YOLO", darknet),
    "COCO": ("COCO", coco),
    "VOC": ("VOC", voc),
    "VOC tags": ("VOC", voc_tags),
    "LabelMe": ("LabelMe", labelme),
    "CSV one-hot": ("CSV", csv_one_hot),
    "CSV names": ("CSV", csv_names),
    "JSONL": ("JSONL", jsonl),
    "TextList": ("TextList", text_list),
    "PaddleLabel": ("PaddleLabel", paddlelabel),
    "CVAT": ("CVAT", cvat),
    "LabelStudio": ("LabelStudio", labelstudio),
    "MMPretrain": ("MMPretrain", mmpretrain),
    "Azure": ("Azure", azure),
    "Vertex CSV": ("Vertex", vertex_csv),
    "Vertex JSONL": ("Vertex", vertex_jsonl),
    "SageMaker": ("SageMaker", sagemaker),
    "Labelbox": ("Labelbox", labelbox),
    "HuggingFace": ("HuggingFace", huggingface),
    "OpenImages": ("OpenImages", openimages),
    "CelebA": ("CelebA", celeba),
    "ImageFolder": ("ImageFolder", image_folder),
}
"""Name -> the format, and how its files are written."""
