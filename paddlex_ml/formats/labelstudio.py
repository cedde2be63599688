# SPDX-License-Identifier: Apache-2.0
"""Label Studio: its exports JSON, JSON-MIN, CSV and TSV (`src_dataset_type: LabelStudio`).

    project-1-at-2024-05-06.json     images/0a1b2c3d-x.jpg

- The export (https://labelstud.io/guide/export) is one file anywhere in the data set, or one with
  `train` and one with `val` in its name; a file with `test` in its name is not used. Two exports of
  one project are refused. The exports COCO, YOLO and Pascal VOC are read as these formats.
- The labels are the choices, the labels of boxes, polygons, brushes and other regions, and the
  paths of taxonomies ("animal/cat"), all together. Texts, numbers and ratings are not labels.
  `CheckDataset.convert.label_columns` chooses among the controls (`from_name`, or columns of CSV);
  it is needed when two choices have a value in common, such as yes and no.
- In CSV and JSON-MIN a column has labels when its cells have choices or labels of regions, when its
  name has one of the words choice, label, class, category or tag, or when its values recur. What
  may be the one or the other is asked for.
- The image is the field of the task that names image files, or `CheckDataset.convert.image_column`.
  Uploads (`/data/upload/1/0a1b2c3d-x.jpg`) are looked for in `images/` and beside the file, with
  the eight digits or else without; local files (`/data/local-files/?d=a/x.jpg`), `s3://` and
  `http://` addresses by the end of their path.
- Annotations of several annotators: an image has the labels of all. Cancelled annotations do not
  count, predictions neither. All classes of an image are unknown whose every annotation was
  cancelled (skipped). An image whose task has no annotation is left out; one with an empty
  annotation has no label.
- The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import msgspec

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.data.walk import join
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.labelstudio_rows import (
    LabelStudioTask,
    choose_columns,
    is_address,
    list_names,
    read_address,
    read_rows,
    read_table,
)
from paddlex_ml.formats.subsets import choose_files, note_unused_test
from paddlex_ml.storage import regular_file
from paddlex_ml.wording import count, first_names

_LAYOUT = "put the export JSON, JSON-MIN, CSV or TSV of Label Studio beside the images"
_TABLES = (".csv", ".tsv")
_TASK_KEYS = (b"completed_by", b"was_cancelled", b"file_upload", b"predictions", b"from_name")
_OWN_PATHS = (b"/data/upload/", b"/data/local-files/")
_STEP = 1000  # images between two calls of progress


class _LabelStudioResult(msgspec.Struct, gc=False):
    """A choice or a region; also a text or a relation, which have no class name."""

    id: str | int | None = None
    type: str = ""
    from_name: str = ""
    to_name: Any = None
    value: Any = None


class _LabelStudioAnnotation(msgspec.Struct, gc=False):
    """What one annotator submitted."""

    result: list[_LabelStudioResult] | None = None
    was_cancelled: bool | None = None
    skipped: bool | None = None

    @property
    def is_cancelled(self) -> bool:
        return bool(self.was_cancelled or self.skipped)


class _LabelStudioEntry(msgspec.Struct, gc=False):
    """A task as the export JSON has it; old versions call the annotations completions."""

    data: dict[str, Any]
    id: Any = None
    annotations: list[_LabelStudioAnnotation] | None = None
    completions: list[_LabelStudioAnnotation] | None = None
    predictions: Any = None


def recognise(inventory: Inventory) -> str:
    """The export by whose content the format is known."""
    return next(iter(_find_exports(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the exports. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    exports = _find_exports(collector.inventory)
    lists, test = choose_files(root, exports)
    if not lists:
        raise PaddlexMLError(
            "there is no export of Label Studio for training",
            where=str(root),
            fix="export JSON (or JSON-MIN, CSV) in Label Studio and put the file there; its other "
            "exports are read as what they are: -o CheckDataset.convert.src_dataset_type=auto",
        )
    collector.notes = list(map(note_unused_test, test))
    collector.account.left_out.update(dict.fromkeys(test, "of the test subset"))
    tasks: list[LabelStudioTask] = []
    for name, file in lists.items():
        collector.open_list(name)
        rows = read_table(collector, file) if file.lower().endswith(_TABLES) else None
        entries = _read_json(collector, file) if rows is None else []
        if rows is None and any(isinstance(entry.get("data"), dict) for entry in entries):
            tasks += _read_tasks(collector, name, file, _to_tasks(collector, file, entries))
        else:
            tasks += read_rows(collector, name, file, rows or entries, is_ordered=rows is None)
    collector.raise_faults()
    names = _choose_labels(collector, tasks)
    _add_images(collector, tasks)
    if (root / CLASS_FILE).is_file():
        collector.account.use(CLASS_FILE)
    ordered, faults = order_names(root, names)
    collector.faults += faults
    return collector.finish(ordered)


# Files


def _find_exports(inventory: Inventory) -> list[str]:
    found = []
    for path in inventory.find(".json", *_TABLES):
        head = inventory.read_head(path)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            head = head.decode("utf-16", "ignore").encode()
        head = head.removeprefix(codecs.BOM_UTF8).replace(b"\\/", b"/")
        is_table = path.lower().endswith(_TABLES)
        if _is_table_head(head) if is_table else _is_json_head(head):
            found.append(path)
    return found


def _is_table_head(head: bytes) -> bool:
    columns = {cell.strip(b'" \r') for cell in re.split(rb"[,;\t]", head.split(b"\n", 1)[0])}
    own = columns & {b"annotation_id", b"annotator", b"lead_time"}
    return (
        len(own) > 1
        or bool(own and columns & {b"id", b"created_at", b"updated_at"})
        or (b"id" in columns and any(path in head for path in _OWN_PATHS))
    )


def _is_json_head(head: bytes) -> bool:
    if not re.match(rb"\s*\[\s*\{", head):
        return False
    if any(path in head for path in _OWN_PATHS):
        return True
    keys = set(re.findall(rb'"([a-z_]+)"\s*:', head))
    if keys & {b"annotations", b"completions"} and keys.intersection((*_TASK_KEYS, b"data")):
        return bool(keys.intersection(_TASK_KEYS) or b"result" in keys)
    return b"annotation_id" in keys and bool(keys & {b"annotator", b"lead_time"})


def _read_json(collector: Collector, file: str) -> list[dict[str, Any]]:
    try:
        content, encoding = to_utf8(
            regular_file.read(collector.root / file, growth=regular_file.ANY_JSON)
        )
        entries = msgspec.json.decode(content, type=list[dict[str, Any]])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text, fix = f"{file} cannot be read: {error}", "export it again"
        if isinstance(error, OSError):
            text, fix = f"{file} cannot be read: {error.strerror}", regular_file.repair(error)
        collector.add_fault("damaged JSON", file, text, fix)
        return []
    collector.account.note_encoding(file, encoding)
    return entries


def _to_tasks(
    collector: Collector, file: str, entries: list[dict[str, Any]]
) -> list[_LabelStudioEntry]:
    try:
        return msgspec.convert(entries, list[_LabelStudioEntry])
    except msgspec.ValidationError as error:
        fix = "export JSON, with the data and the annotations of the tasks in it"
        collector.add_fault("malformed task", file, f"{file} is not as expected: {error}", fix)
        return []


# Annotations -> labels


def _read_tasks(
    collector: Collector, list_name: str, file: str, entries: list[_LabelStudioEntry]
) -> list[LabelStudioTask]:
    """The tasks of the export JSON that have an annotation."""
    tasks: list[LabelStudioTask] = []
    waiting: list[_LabelStudioEntry] = []
    several = 0
    collector.account.use(file)
    for index, entry in enumerate(entries):
        task = LabelStudioTask(list_name, file, f"{file}: [{index}] (id {entry.id})", entry.data)
        done = 0
        given = entry.annotations or entry.completions or []
        for annotation in given:
            results = annotation.result or []
            collector.account.use(file, len(results))
            if annotation.is_cancelled:
                if results:
                    reason = "of a cancelled annotation"
                    collector.account.drop(file, reason, task.where, len(results))
                continue
            _add_results(collector, task, results)
            done += 1
        several += done > 1
        task.is_skipped = bool(given) and not done
        (tasks.append(task) if given else waiting.append(entry))
    if several:
        text = count(several, "image has", "images have")
        collector.notes.append(f"{file}: {text} several annotations, and the labels of all of them")
    if skipped := [task.where for task in tasks if task.is_skipped]:
        text = f"{count(len(skipped), 'task was', 'tasks were')} skipped, whose classes are unknown"
        collector.notes.append(f"{text}: {first_names(skipped, 5)}")
    if len(skipped) == len(tasks):
        waiting, tasks = entries, []
    _leave_out(collector, file, waiting, is_all=not tasks)
    return tasks


def _add_results(
    collector: Collector, task: LabelStudioTask, results: list[_LabelStudioResult]
) -> None:
    named = {result.id for result in results if list_names(result.value) is not None}
    for result in results:
        names = list_names(result.value)
        if names is not None:
            task.labels.setdefault((result.from_name, result.type), set()).update(names)
            task.targets[result.from_name] = str(result.to_name)
        elif result.id not in named:  # else the shape of a region with labels
            collector.account.drop(task.file, f"without a class name: {result.type}", task.where)


def _leave_out(
    collector: Collector, file: str, waiting: list[_LabelStudioEntry], is_all: bool
) -> None:
    """Leave out the images of tasks without annotation."""
    if not waiting:
        return
    predicted = sum(bool(entry.predictions) for entry in waiting)
    what = "no task has an annotation"
    if not is_all:
        what = f"{count(len(waiting), 'task has', 'tasks have')} no annotation"
    text = what + f" ({predicted:,} with predictions, which are not used)" * bool(predicted)
    if is_all:
        fix = "label the images in Label Studio, or accept the predictions there, and export again"
        collector.add_fault("no annotation", file, text, fix)
        return
    collector.notes.append(f"{file}: {text}: their images are left out")
    for entry in waiting:
        for name in map(read_address, filter(is_address, entry.data.values())):
            found = collector.finder.find(name, _list_folders(file))
            if not isinstance(found, str):
                found = getattr(collector.finder.guess(name, _list_folders(file)), "path", "")
            if found:
                collector.account.left_out[found] = "its task has no annotation"


# Images


def _list_folders(file: str) -> list[str]:
    own = file.rpartition("/")[0]
    return list(dict.fromkeys([join(own, "images"), own, "images", ""]))


def _find_image_key(collector: Collector, tasks: list[LabelStudioTask]) -> str:
    """The field of the tasks that names the image; "" is a fault."""
    keys = {key for task in tasks for key in task.data}
    named = {key for task in tasks for key, value in task.data.items() if is_address(value)}
    found = sorted(named or keys & {"image", "img", "url", "image_url"})
    wanted = collector.options.image_column
    targets = {target: control for task in tasks for control, target in task.targets.items()}
    if (wanted in keys or len(found) == 1) and wanted in (None, *keys):
        if len(found) > 1 and len(targets) > 1 and collector.options.label_columns is None:
            text = (
                f"the tasks have {count(len(found), 'image')}, and labels for "
                f"{len(targets)} of them"
            )
            fix = " or ".join(f"{choose_columns(c)} (for {t})" for t, c in targets.items())
            collector.add_fault("unclear columns", tasks[0].file, text, fix)
        return wanted or found[0]
    if wanted:
        text = f"no task has a field {wanted!r}; there are {', '.join(sorted(keys))}"
    else:
        text = f"{len(found)} fields of the tasks may name the image: "
        text += ", ".join(found or sorted(keys))
    fix = " or ".join(
        f"-o CheckDataset.convert.image_column={key}" for key in found or sorted(keys)
    )
    collector.add_fault("unclear columns", tasks[0].file, text, fix)
    return ""


def _choose_labels(collector: Collector, tasks: list[LabelStudioTask]) -> set[str]:
    """Keep the labels of the chosen controls; return all names. A name that two choices have in
    common is a fault unless they were chosen."""
    chosen = collector.options.label_columns
    controls: dict[str, set[str]] = {}
    choices: dict[str, set[str]] = {}
    for task in tasks:
        for key, names in list(task.labels.items()):
            control, kind = key
            names.discard("")
            controls.setdefault(control, set()).update(names)
            if chosen is not None and control not in chosen:
                del task.labels[key]
            elif kind == "choices":
                for name in names:
                    choices.setdefault(name, set()).add(control)
    if missing := [name for name in chosen or () if name not in controls]:
        text = f"no control or column {missing[0]!r} has labels; there are {', '.join(controls)}"
        fix = choose_columns(", ".join(controls))
        collector.add_fault("unclear columns", tasks[0].file, text, fix)
    shared = sorted(name for name, users in choices.items() if len(users) > 1)
    if shared and chosen is None:
        users = sorted(choices[shared[0]])
        text = f"{shared[0]!r} is a value of {' and of '.join(users)}: it would be one class"
        fix = " or ".join(choose_columns(user) for user in users)
        fix += f", or for one class: {choose_columns(', '.join(controls))}"
        collector.add_fault("unclear columns", tasks[0].file, text, fix)
    unused = [name for name in controls if chosen is not None and name not in chosen]
    if unused:
        collector.notes.append(f"not among convert.label_columns: {first_names(unused)}")
    names = {name for task in tasks for found in task.labels.values() for name in found}
    faults = (check_class_name(name, tasks[0].file) for name in sorted(names))
    collector.faults += filter(None, faults)
    return names


def _add_images(collector: Collector, tasks: list[LabelStudioTask]) -> None:
    key = _find_image_key(collector, tasks) if tasks else ""
    for done, task in enumerate(tasks, 1):
        value = task.data.get(key)
        name = read_address(value)
        if key and not name:
            text = f"{key} does not name one image file: {value!r:.40}"
            fix = "name one image for each task, as a path or an address"
            collector.add_fault("no image", task.where, text, fix)
        elif key:
            labels = {label for names in task.labels.values() for label in names}
            place = (task.list_name, name, _list_folders(task.file), labels, task.where)
            collector.add(*place, absent=() if task.is_skipped else None)
        if done % _STEP == 0 or done == len(tasks):
            collector.options.progress(done, len(tasks))
