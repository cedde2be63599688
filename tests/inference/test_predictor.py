# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data import decode_memory
from paddlex_ml.data.preprocess import standard
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import predictor as module
from paddlex_ml.inference.inputs import Picture
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import published
from paddlex_ml.storage import fetch


def test_a_result_holds_every_class_that_reaches_its_threshold(predictor, model, photos: Path):
    scores = model.run(standard(64)(read_image(photos / "a.jpg"))[None])[0]
    [result] = predictor.predict(photos / "a.jpg", threshold=0)
    order = np.argsort(-scores)
    assert result.input_path == str(photos / "a.jpg")
    assert result.class_ids == order.tolist()
    assert result.label_names == [model.label_names[i] for i in order]
    assert result.scores == [round(float(s), 5) for s in scores[order]]
    limit = float(np.sort(scores)[-2])
    [fewer] = predictor.predict(photos / "a.jpg", threshold=limit)
    assert fewer.class_ids == order[:2].tolist()


@pytest.mark.parametrize("batch_size", [2, 3, 7, 100])
def test_batches_change_neither_order_nor_scores(predictor: Predictor, photos: Path, batch_size):
    alone = list(predictor.predict(str(photos), threshold=0))
    together = list(predictor.predict(str(photos), batch_size=batch_size, threshold=0))
    assert len(alone) == 7
    assert [r.input_path for r in alone] == [r.input_path for r in together]
    for one, other in zip(alone, together, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=2e-5)


def test_an_array_of_a_file_scores_like_the_file(predictor: Predictor, photos: Path):
    bgr = np.asarray(read_image(photos / "b.png"))[:, :, ::-1]
    from_file, from_array = predictor.predict([photos / "b.png", bgr], threshold=0)
    assert from_file.json["res"] | {"input_path": None} == from_array.json["res"]


def test_the_order_of_channels_and_layout_count(predictor: Predictor, photos: Path):
    rgb = np.asarray(read_image(photos / "b.png"))
    bgr = rgb[:, :, ::-1]
    [expected] = predictor.predict(photos / "b.png", threshold=0)
    for image, options in (
        (bgr, {}),
        (rgb, {"rgb": True}),
        (rgb.transpose(2, 0, 1), {"rgb": True, "layout": "CHW"}),
        (bgr.transpose(2, 0, 1), {"layout": "CHW"}),
    ):
        [result] = predictor.predict(image, threshold=0, **options)
        assert result.scores == expected.scores
    [other] = predictor.predict(rgb, threshold=0)
    assert other.scores != expected.scores


def test_the_threshold_of_the_model_is_the_default(model: StaticModel, photos: Path):
    assert (
        next(Predictor(model).predict(photos, threshold=0.5)).class_ids
        == next(Predictor(model).predict(photos)).class_ids
    )
    assert next(Predictor(model, 1.0).predict(photos)).class_ids == []
    assert len(next(Predictor(model, {"default": 0}).predict(photos)).class_ids) == 5


def test_a_threshold_of_one_call_does_not_stay(predictor: Predictor, photos: Path):
    before = [r.class_ids for r in predictor.predict(photos)]
    list(predictor.predict(photos, threshold=1))
    assert [r.class_ids for r in predictor.predict(photos)] == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input": "nowhere.jpg"}, "no such file"),
        ({"input": ".", "batch_size": 0}, "a whole number from 1, it is 0"),
        ({"input": ".", "batch_size": 2.0}, r"it is 2\.0"),
        ({"input": ".", "batch_size": True}, "it is True"),
        ({"input": ".", "keep_side": 0}, "keep_side must be a whole number from 1, it is 0"),
        ({"input": ".", "layout": "NCHW"}, "no layout of arrays is called 'NCHW'"),
        ({"input": ".", "max_labels": 0}, "max_labels must be a whole number from 1, it is 0"),
        ({"input": ".", "min_labels": -1}, "min_labels must be a whole number from 0, it is -1"),
        ({"input": ".", "min_labels": 2, "max_labels": 1}, "min_labels 2 is more than max_labels"),
        ({"input": ".", "min_labels": 6}, "min_labels 6 is more than the 5 classes"),
        ({"input": ".", "on_error": "skip"}, "no way to treat broken images is called 'skip'"),
        (
            {"input": ".", "relations": "no.yaml"},
            "relations between classes does not exist",
        ),
        ({"input": ".", "relations": 3}, "relations must be the path of a file, got int"),
        ({"input": ".", "threshold": 2}, "must be a number from 0 to 1"),
        ({"input": ".", "threshold": {"default": 0, "cot": 1}}, "write cat"),
    ],
)
def test_arguments_are_judged_at_the_call(predictor, photos, monkeypatch, arguments, message):
    monkeypatch.chdir(photos)
    with pytest.raises(PaddlexMLError, match=message):
        predictor.predict(**arguments)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_broken_image_is_reported_and_the_others_are_answered(
    predictor: Predictor, photos: Path, batch_size, caplog
):
    expected = {r.input_path: r.json for r in predictor.predict(photos, threshold=0)}
    paths = [str(photos / name) for name in ("b.png", "f.gif")]
    for path in paths:
        Path(path).write_bytes(b"")
    results = list(predictor.predict(photos, batch_size, threshold=0))
    assert [r.input_path for r in results] == list(expected)
    assert [r.input_path for r in results if r.error] == paths
    for result in results:
        if result.error:
            assert result.error.what == "the image file is empty (0 bytes)"
            assert "leave it out of the input" in result.error.fix
        else:
            found, sought = result.json["res"], expected[result.input_path]["res"]
            assert found["label_names"] == sought["label_names"]
            assert found["scores"] == pytest.approx(sought["scores"], abs=2e-5)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert all(path in text for path, text in zip(paths, told, strict=True))


def test_who_wants_it_gets_the_error_when_its_turn_comes(predictor: Predictor, photos: Path):
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:200])
    results = predictor.predict(photos, on_error="raise")
    assert next(results).input_path == str(photos / "a.jpg")
    with pytest.raises(PaddlexMLError, match=r"where: .*b\.png\n.*leave it out of the input"):
        next(results)


def test_a_batch_of_broken_images_never_reaches_the_network(predictor: Predictor, tmp_path: Path):
    paths = [tmp_path / f"{i}.jpg" for i in range(4)]
    results = list(predictor.predict([*paths], batch_size=2))
    assert [result.error.what.startswith("no such file") for result in results] == [True] * 4


def test_thresholds_belong_to_classes_whatever_the_batch(predictor: Predictor, photos: Path):
    threshold = [0.0, 1.0, 0.0, 1.0, 1.0]
    for batch_size in (1, 2, 5, 7):
        for result in predictor.predict(photos, batch_size, threshold):
            assert sorted(result.class_ids) == [0, 2]


def test_labels_may_be_limited_in_number(predictor: Predictor, photos: Path):
    order = next(predictor.predict(photos, threshold=0)).class_ids
    few = next(predictor.predict(photos, threshold=0, max_labels=2))
    assert few.class_ids == order[:2]
    some = next(predictor.predict(photos, threshold=1, min_labels=3))
    assert some.class_ids == order[:3]
    assert len(some.scores) == len(some.label_names) == 3
    assert next(predictor.predict(photos, threshold=1)).class_ids == []


def test_labels_keep_relations_whatever_the_options_say(predictor, photos: Path, tmp_path, caplog):
    plain = next(predictor.predict(photos, threshold=0, return_all_scores=True)).all_scores
    first, second, *_, last = sorted(range(5), key=lambda i: -plain[i])
    names = predictor.model.label_names
    rules = {
        "implies": {names[first]: names[last]},
        "exclusive": [[names[i] for i in range(5) if i != last]],
    }
    (tmp_path / "relations.yaml").write_text(json.dumps(rules), encoding="utf-8")
    options = {"relations": tmp_path / "relations.yaml", "return_all_scores": True}
    for more in ({"threshold": 0}, {"threshold": 1, "min_labels": 4}):
        for result in predictor.predict(photos, **options, **more):
            top = int(np.argmax(result.all_scores))
            chosen = [last, first] if first in result.class_ids else [top]
            assert set(chosen) <= set(result.class_ids)
            assert len(result.class_ids) == 2
            assert result.all_scores[last] >= result.all_scores[first]
            assert result.scores == [result.all_scores[i] for i in result.class_ids]
    assert caplog.text.count("no other class fits to them by the relations") == 1
    assert "has 2 labels, not 4" in caplog.text
    alone = next(predictor.predict(photos, threshold=0, max_labels=1, **options))
    assert alone.class_ids == [last]
    assert next(predictor.predict(photos, threshold=0, return_all_scores=True)).all_scores == plain
    assert second not in alone.class_ids


def test_all_scores_come_with_the_labels(predictor: Predictor, photos: Path):
    every = next(predictor.predict(photos, threshold=0))
    result = next(predictor.predict(photos, threshold=1, return_all_scores=True))
    assert result.class_ids == []
    assert result.all_scores is not None
    assert [result.all_scores[i] for i in every.class_ids] == every.scores
    assert every.all_scores is None


def test_results_are_lazy_and_keep_no_pixels(predictor: Predictor, photos: Path, monkeypatch):
    read: list[str] = []
    load = module._read
    monkeypatch.setattr(
        module, "_read", lambda picture, *more: (read.append(picture.name), load(picture, *more))[1]
    )
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    results = predictor.predict(photos, keep_side=100)
    assert read == []
    first = next(results)
    assert len(read) <= 2  # its own, and one read ahead
    assert first._image is not None
    next(results)
    assert first._image is None
    assert first.img["res"].height > 0  # read again


def test_only_what_is_drawn_keeps_a_reduced_image(predictor: Predictor, tmp_path: Path):
    loads: list[int] = []

    def load() -> Image.Image:
        loads.append(1)
        return Image.new("RGB", (900, 600))

    picture = Picture(None, "a.png", load)
    [plain] = predictor.predict(picture)
    assert plain._image is None
    plain.save_to_img(tmp_path / "drawn.jpg")
    assert len(loads) == 2
    kept = next(predictor.predict(picture, keep_side=450))
    assert kept._image is not None
    assert kept._image.size == (450, 300)
    kept.save_to_img(tmp_path / "drawn.jpg")
    assert len(loads) == 3


@pytest.mark.heavy
@pytest.mark.story
def test_a_large_batch_of_photographs_takes_hardly_more_memory_than_one(
    exported: Path, tmp_path: Path
) -> None:
    pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4000, 3000), (80, 90, 200)).save(tmp_path / "photos/0.png", compress_level=1)
    for i in range(1, 16):
        os.link(tmp_path / "photos/0.png", tmp_path / f"photos/{i}.png")
    code = (
        "import resource, sys; from paddlex_ml import create_model\n"
        "model = create_model('PP-LCNet_x1_0_ML', sys.argv[1], device='cpu')\n"
        "results = list(model.predict(sys.argv[2], batch_size=int(sys.argv[3])))\n"
        "print(len(results), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for batch in ("1", "16"):
        arguments = [sys.executable, "-c", code, str(exported), str(tmp_path / "photos"), batch]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.splitlines()[-1].split())
        assert count == 16
        peaks.append(peak * unit)
    # Each photograph has 36 MB of pixels.
    assert peaks[1] - peaks[0] < 100 * 2**20


def test_what_is_fetched_is_kept_until_the_next(predictor: Predictor, site, photos: Path):
    site["/a.jpg"] = (photos / "a.jpg").read_bytes()
    results = predictor.predict([site.url("/a.jpg"), photos / "b.png"])
    first = next(results)
    assert first.img["res"].width > 0
    assert len(site.asked) == 1
    next(results)
    assert first._image is None


@pytest.mark.story
def test_a_thread_may_predict_after_the_main_thread_has_ended(exported: Path):
    code = f"""
import threading, time, numpy as np
from paddlex_ml import create_model
model = create_model("PP-LCNet_x1_0_ML", {str(exported)!r}, device="cpu")
def work():
    time.sleep(0.3)
    print(len(list(model.predict([np.zeros((9, 9, 3), np.uint8)] * 3))))
threading.Thread(target=work).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_an_input_without_end_is_answered_as_far_as_it_is_asked_for(predictor: Predictor):
    images = itertools.repeat(np.zeros((9, 9, 3), np.uint8))
    results: Any = predictor.predict(images, batch_size=4)
    names = [result._picture.name for result in itertools.islice(results, 50)]
    results.close()
    assert names == [f"array_{number:04d}.png" for number in range(1, 51)]


def test_threads_may_share_a_predictor(predictor: Predictor, photos: Path):
    def scores(batch_size: int) -> list[list[float]]:
        return [r.scores for r in predictor.predict(photos, batch_size, threshold=0)]

    expected = scores(1)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(scores, [1, 2, 3, 7] * 3):
            for one, other in zip(expected, found, strict=True):
                assert one == pytest.approx(other, abs=2e-5)


def test_a_generator_may_be_left_early(predictor: Predictor, photos: Path):
    results: Any = predictor.predict(photos, batch_size=3)
    next(results)
    results.close()
    assert len(list(predictor.predict(photos))) == 7


def test_create_without_folder_fetches_the_published_model_once(
    exported: Path, photos: Path, site, monkeypatch
):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.add(exported, "PP-LCNet_x1_0_ML_infer")
    site["/PP-LCNet_x1_0_ML_infer.tar"] = memory.getvalue()
    monkeypatch.setattr(published, "STATIC", site.url("/{}_infer.tar"))
    for _ in range(2):
        fetched = module.create("PP-LCNet_x1_0_ML", None, device="cpu")
    assert len(site.asked) == 1
    own = module.create("PP-LCNet_x1_0_ML", exported, device="cpu")
    assert next(fetched.predict(photos, threshold=0)).scores == pytest.approx(
        next(own.predict(photos, threshold=0)).scores, abs=1e-5
    )


def test_an_image_that_cannot_be_downloaded_has_the_repair_of_the_download(exported: Path):
    result = next(
        module.create("PP-LCNet_x1_0_ML", exported, device="cpu").predict(
            "http://127.0.0.1:9/a.jpg"
        )
    )
    assert result.error is not None
    assert result.error.what.startswith("the image cannot be downloaded: ")
    assert "open the URL in a browser" in result.error.fix


def test_without_a_network_create_names_the_folder_as_the_way_out(monkeypatch):
    monkeypatch.setattr(published, "STATIC", "http://127.0.0.1:9/{}_infer.tar")
    with pytest.raises(PaddlexMLError, match="cannot be fetched: no connection") as caught:
        module.create("PP-LCNet_x1_0_ML", None)
    assert caught.value.where == "http://127.0.0.1:9/PP-LCNet_x1_0_ML_infer.tar"
    assert 'model_dir="output/best_model/inference"' in caught.value.fix


@pytest.mark.parametrize("folder", ["nowhere", "http://127.0.0.1:9/m.tar", ""])
def test_with_a_folder_nothing_is_fetched(folder, monkeypatch):
    monkeypatch.setattr(fetch, "cached", None)
    with pytest.raises(PaddlexMLError, match="the folder of the static model"):
        module.create("PP-LCNet_x1_0_ML", folder)


def test_create_refuses_another_name(exported: Path):
    with pytest.raises(PaddlexMLError, match=r"the folder holds PP-LCNet_x1_0_ML"):
        module.create("PP-HGNetV2-B0_ML", exported, device="cpu")


def test_without_explain_nothing_changes_and_no_second_network_is_loaded(
    exported: Path, photos: Path, monkeypatch
):
    model = StaticModel(exported, "cpu")
    asked: list[str] = []
    monkeypatch.setattr(model, "_load_attention", lambda probe: asked.append("load"))
    results = list(Predictor(model).predict(photos, 2, 0))
    assert asked == []
    for result in results:
        assert result.maps is None
        assert list(result.json["res"]) == ["input_path", "class_ids", "scores", "label_names"]
        assert list(result.img) == ["res"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
@pytest.mark.parametrize("folder", ["exported", "onnx_folder"])
def test_explained_results_have_the_same_scores_and_a_map_per_label(
    request, photos: Path, batch_size: int, folder: str
):
    (photos / "b.png").write_bytes(b"")
    ours = Predictor(StaticModel(request.getfixturevalue(folder), "cpu"))
    plain = list(ours.predict(photos, batch_size, 0, max_labels=3))
    explained = list(ours.predict(photos, batch_size, 0, max_labels=3, explain=True))
    one_by_one = list(ours.predict(photos, 1, 0, explain=True))
    assert [result.error is None for result in explained] == [True, False] + 5 * [True]
    for before, after, alone in zip(plain, explained, one_by_one, strict=True):
        assert after.json == before.json
        if after.error is not None:
            assert after.maps is None
            continue
        assert after.maps is not None
        assert alone.maps is not None
        assert list(after.maps) == after.class_ids
        for class_id, shares in after.maps.items():
            assert (shares.shape, shares.dtype) == ((2, 2), np.float32)
            assert shares.sum() == pytest.approx(1, abs=1e-5)
            assert np.abs(shares - alone.maps[class_id]).max() < 1e-5


def test_images_without_a_label_have_no_map(predictor: Predictor, photos: Path):
    assert [r.maps for r in predictor.predict(photos, 4, 1.0, explain=True)] == 7 * [{}]


def test_a_model_without_maps_is_refused_before_an_image_is_read(
    altered, photos: Path, monkeypatch
):
    folder = altered(lambda content: content["Global"].update(decoder_tokens="first_patch"))
    predictor = Predictor(StaticModel(folder, "cpu"))
    monkeypatch.setattr(module, "_read", lambda *arguments: pytest.fail("an image is read"))
    with pytest.raises(PaddlexMLError, match="its head sees one token"):
        predictor.predict(photos, explain=True)  # not even gone through


def test_threads_that_share_a_predictor_get_their_own_maps(predictor: Predictor, photos: Path):
    paths = [photos / name for name in ("a.jpg", "b.png", "c.bmp", "e.webp")]

    def explain(path: Path) -> dict[int, np.ndarray]:
        maps = next(predictor.predict(path, 1, 0, explain=True)).maps
        assert maps is not None
        return maps

    def ask(path: Path) -> list[dict[int, np.ndarray]]:
        return [explain(path) for _ in range(5)]

    expected = [explain(path) for path in paths]
    assert np.ptp([maps[0] for maps in expected], axis=0).max() > 0.01  # they differ

    with ThreadPoolExecutor(4) as pool:
        for maps, found in zip(expected, pool.map(ask, paths), strict=True):
            for one in found:
                assert all(np.abs(one[c] - maps[c]).max() < 1e-5 for c in maps)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 7])
def test_thresholds_act_on_classes_whatever_the_batch_size(predictor: Predictor, batch_size):
    images = [np.full((20, 20, 3), value, np.uint8) for value in range(0, 210, 30)]
    found = predictor.predict(images, batch_size=batch_size, threshold=[0, 1, 0, 1, 0])
    assert [sorted(result.class_ids) for result in found] == [[0, 2, 4]] * 7


def test_the_usual_loops_lose_no_result(predictor: Predictor, photos: Path, tmp_path: Path):
    paths = [photos / "a.jpg", photos / "deep" / "a.jpg"]
    arrays = [np.full((40, 60, 3), value, np.uint8) for value in (0, 99)]
    for source in (*paths, *arrays):
        for result in predictor.predict(source):
            result.save_to_json(tmp_path / "out")
            result.save_to_json(save_path=f"{tmp_path}/res.json")
    saved = sorted((tmp_path / "out").iterdir())
    names = ["a.json", "a_2.json", "array_0001.json", "array_0001_2.json"]
    assert [path.name for path in saved] == names
    listed = json.loads((tmp_path / "res.json").read_text("utf-8"))
    assert listed == [json.loads(path.read_text("utf-8")) for path in saved]
    assert [each["res"]["input_path"] for each in listed] == [*map(str, paths), None, None]


def test_a_sound_image_that_is_too_large_is_to_be_saved_smaller(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (9000, 9000)).save(path)
    monkeypatch.setattr(decode_memory, "LARGEST", 10**7)
    [result] = predictor.predict(path)
    assert result.error is not None
    assert "9000 x 9000 pixels" in result.error.what
    assert result.error.fix == "save it smaller, or leave it out of the input"
