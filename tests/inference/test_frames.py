# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data import decode_memory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.inputs import walk
from paddlex_ml.inference.predictor import Predictor

LEVELS = [0, 40, 80, 120, 160, 200, 240]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of seven grey frames, each brighter than the one before it."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in LEVELS:
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def animation(path: Path, suffix: str) -> Path:
    images = [Image.new("RGB", (40, 30), (level, 0, level)) for level in LEVELS]
    file = path / f"moving{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    images[0].save(file, save_all=True, append_images=images[1:], **options)
    return file


def brightness(picture) -> float:
    return float(np.asarray(picture.load())[:, :, 0].mean())


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("suffix", [".avi", ".gif", ".tif", ".webp", ".png"])
def test_every_so_many_frames_are_pictures_with_their_numbers(request, tmp_path, every, suffix):
    file = request.getfixturevalue("clip") if suffix == ".avi" else animation(tmp_path, suffix)
    pictures = list(walk(file, frames=every))
    assert [picture.frame for picture in pictures] == list(range(0, 7, every))
    assert [picture.path for picture in pictures] == [str(file)] * len(pictures)
    assert pictures[-1].name == f"{file.stem}_{pictures[-1].frame:06d}.jpg"
    for _ in range(2):  # what draws a result loads it again
        found = [brightness(picture) for picture in pictures]
        assert found == pytest.approx(LEVELS[::every], abs=2)


def test_the_content_of_an_animation_has_frames_too(tmp_path: Path):
    content = animation(tmp_path, ".gif").read_bytes()
    for source in (content, io.BytesIO(content), np.frombuffer(content, np.uint8)):
        pictures = list(walk(source, frames=3))
        assert [brightness(picture) for picture in pictures] == [0, 120, 240]
        assert pictures[1].name == "array_000003.jpg"


def test_without_frames_the_first_is_the_picture(tmp_path: Path):
    [picture] = walk(animation(tmp_path, ".gif"))
    assert (picture.frame, brightness(picture)) == (None, 0)


def test_files_of_one_frame_stay_as_they_are(photos: Path):
    assert [(p.frame, p.name) for p in walk(photos, frames=2)] == [
        (None, p.name) for p in walk(photos)
    ]


def test_a_folder_gives_its_videos_where_frames_are_asked_for(photos: Path, clip: Path):
    clip.rename(photos / "clip.AVI")
    (unanswered,) = [picture for picture in walk(photos) if picture.is_optional]
    assert unanswered.name == "clip.AVI"
    with pytest.raises(PaddlexMLError, match="not answered: not an image, but a video"):
        unanswered.load()
    found = [picture.name for picture in walk(photos, frames=6)]
    assert found[3:6] == ["clip_000000.jpg", "clip_000006.jpg", "d.JPG"]
    assert [picture.frame for picture in walk(f"{photos}/*.AVI", frames=6)] == [0, 6]


@pytest.mark.parametrize("name", ["clip", "clip.jpg", "clip.mov_part"])
def test_a_video_is_known_by_its_first_bytes(clip: Path, tmp_path: Path, name: str):
    folder = tmp_path / "videos"
    folder.mkdir()
    renamed = clip.rename(folder / name)
    for source in (renamed, folder, f"{folder}/*"):
        assert [picture.frame for picture in walk(source, frames=3)] == [0, 3, 6]


@pytest.mark.parametrize("frames", [None, 3])
def test_the_repair_for_the_content_of_a_video_works(
    predictor: Predictor, clip: Path, tmp_path: Path, frames: int | None
):
    [result] = predictor.predict(clip.read_bytes(), frames=frames)
    assert result.error is not None
    assert result.error.fix.startswith("save it as a file, and ask for its frames: frames=30,")
    (tmp_path / "saved").write_bytes(clip.read_bytes())
    [result] = predictor.predict(tmp_path / "saved", frames=30)
    assert (result.error, result.frame) == (None, 0)


def test_results_have_the_numbers_of_frames(predictor: Predictor, clip: Path, tmp_path: Path):
    results = list(predictor.predict([clip, np.zeros((9, 9, 3), np.uint8)], 4, frames=3))
    assert [result.frame for result in results] == [0, 3, 6, None]
    assert [result["frame"] for result in results[:3]] == [0, 3, 6]
    assert "frame" not in results[3]
    assert (
        results[1]
        .save_to_csv(tmp_path / "out.csv")
        .read_text()
        .splitlines()[1]
        .startswith(f"{clip}#frame=3,")
    )
    assert results[2].img["res"].width > 0


def test_a_video_without_frames_is_told_how_to_ask(predictor: Predictor, clip: Path):
    [result] = predictor.predict(clip)
    assert result.error is not None
    assert result.error.what == "not an image, but a video"
    assert "-o Predict.frames=30" in result.error.fix


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".png"])
def test_a_file_that_is_cut_has_its_first_frames_and_an_error(tmp_path: Path, photos, suffix):
    file = animation(tmp_path, suffix)
    file.write_bytes(file.read_bytes()[: int(0.9 * file.stat().st_size)])
    *frames, broken, last = walk([file, photos / "a.jpg"], frames=1)
    assert [frame.frame for frame in frames] == list(range(len(frames)))
    assert 0 < len(frames) < 7
    with pytest.raises(PaddlexMLError, match=f"frame {len(frames)} cannot be decoded"):
        broken.load()
    assert last.load().size == (60, 40)


def test_a_broken_video_is_told_and_the_rest_is_answered(photos: Path, tmp_path: Path):
    (tmp_path / "broken.mp4").write_bytes(b"\xfa\1\2\3" * 50)
    broken, sound = walk([tmp_path / "broken.mp4", photos / "a.jpg"], frames=1)
    with pytest.raises(PaddlexMLError, match="no frame of the video can be read"):
        broken.load()
    assert sound.load().size == (60, 40)


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile clip.avi\n", "#EXTM3U\n#EXTINF:10,\nclip.avi\n"]
)
def test_a_list_with_the_name_of_a_video_opens_no_other_file(clip: Path, text: str):
    path = clip.with_name("list.mp4")
    path.write_text(text)
    [picture] = walk(path, frames=1)
    with pytest.raises(PaddlexMLError, match="not an image, but a text file") as caught:
        picture.load()
    assert caught.value.where == str(path)


def test_a_video_of_huge_frames_is_refused_before_one_is_decoded(clip: Path, monkeypatch):
    monkeypatch.setattr(decode_memory, "LARGEST", 64 * 48 * 20 - 1)
    [picture] = walk(clip, frames=1)
    with pytest.raises(PaddlexMLError, match="a frame of 64 x 48 pixels takes"):
        picture.load()


def test_a_video_that_ends_early_is_told(clip: Path, monkeypatch, caplog):
    capture = cv2.VideoCapture

    class Longer:
        def __init__(self, path: str, backend: int) -> None:
            self._capture = capture(path, backend)

        def get(self, _: int) -> float:
            return 100.0

        def __getattr__(self, name: str):
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Longer)
    with caplog.at_level(logging.WARNING, "paddlex_ml"):
        assert len(list(walk(clip, frames=1))) == 7
    assert "only 7 of about 100 frames could be read" in caplog.text


def test_an_opencv_without_ffmpeg_is_named(clip: Path, monkeypatch):
    monkeypatch.setattr(cv2, "videoio_registry", SimpleNamespace(getBackends=list))
    [picture] = walk(clip, frames=1)
    with pytest.raises(PaddlexMLError, match=r"FFMPEG(.|\n)*-m pip install opencv-python-headless"):
        picture.load()
