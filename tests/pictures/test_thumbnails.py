# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import io

from PIL import Image

from paddlex_ml.pictures import thumbnails


def test_files_that_are_gone_or_broken_leave_an_empty_place(tmp_path):
    sound, cut, gone = (tmp_path / name for name in ("sound.png", "cut.jpg", "gone.jpg"))
    Image.new("RGB", (300, 40), (255, 0, 0)).save(sound)
    Image.effect_noise((400, 400), 90).save(cut)
    cut.write_bytes(cut.read_bytes()[:3000])
    found = thumbnails.shrink_all([sound, cut, gone, sound])
    assert list(found) == [sound, cut, gone]
    assert (found[cut], found[gone]) == ("", "")
    kind, _, text = found[sound].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.size == (thumbnails.SIDE, thumbnails.SIDE)
        assert image.getpixel((80, 80))[0] > 240
