# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import io

from PIL import Image

from paddlex_ml.data.transforms import read_image
from paddlex_ml.pictures import thumbnails


def test_files_that_are_missing_or_damaged_give_an_empty_text(tmp_path):
    sound, cut, gone = (tmp_path / name for name in ("sound.png", "cut.jpg", "gone.jpg"))
    Image.new("RGB", (300, 40), (255, 0, 0)).save(sound)
    Image.effect_noise((400, 400), 90).save(cut)
    cut.write_bytes(cut.read_bytes()[:3000])
    thumbnail_of = thumbnails.shrink_all([sound, cut, gone, sound], read_image)
    assert list(thumbnail_of) == [sound, cut, gone]
    assert (thumbnail_of[cut], thumbnail_of[gone]) == ("", "")
    kind, _, text = thumbnail_of[sound].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.size == (thumbnails.SIDE, thumbnails.SIDE)
        assert image.getpixel((80, 80))[0] > 240
