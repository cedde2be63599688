# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from paddlex_ml.data import inspect_images, transforms
from paddlex_ml.data.preprocess import standard
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import exporters
from paddlex_ml.inference.inputs import walk
from paddlex_ml.pictures import thumbnails
from tests import damaged_exif


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def png(width, height, depth, colour, raw):
    """A PNG file with these header values, of which Pillow writes only some."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def by_opencv(suffix, rgb):
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    swapped = rgb if rgb.ndim == 2 else cv2.cvtColor(rgb, order[rgb.shape[2]])
    done, content = cv2.imencode(suffix, swapped)
    assert done
    return content.tobytes()


def pixels(content):
    return np.asarray(transforms.decode_image(content, where="here"))


@pytest.fixture(scope="module")
def images(shared):
    return shared / "reference" / "transforms" / "images"


SOUND = [
    "coco.jpg",
    "exif6.jpg",
    "gray.jpg",
    "gray16.png",
    "gray_L.png",
    "la.png",
    "palette.png",
    "palette_transparent.png",
    "photo.bmp",
    "photo.tif",
    "photo.webp",
    "photo2.jpg",
    "rgb.png",
    "rgba_alpha_ramp.png",
]


@pytest.mark.parametrize("name", SOUND)
def test_every_step_gives_the_published_bytes(refdata, images, name):
    expected = refdata.load_json("transforms", "eval.json")["images"][name]
    image = transforms.read_image(images / name)
    assert list(np.asarray(image).shape) == expected["decoded_shape_hwc"]
    assert sha256(np.asarray(image)) == expected["decoded_sha256"]
    pixels = standard(448).resize(image)
    assert sha256(pixels) == expected["resized_sha256"]
    array = standard(448).normalise(pixels[None])[0]
    assert np.array_equal(array, standard(448)(image))
    assert array.dtype == np.float32
    assert array.shape == (3, 448, 448)
    assert sha256(array) == expected["normalized_sha256"]


def test_all_reference_images_are_looked_at(refdata):
    other = {"cmyk.jpg", "photo.gif", "truncated.jpg", "empty.jpg", "garbage.jpg"}
    assert set(refdata.load_json("transforms", "eval.json")["images"]) == {*SOUND, *other}


def test_cmyk_differs_from_the_published_pixels_by_one_at_most(refdata, images):
    pixels = standard(448).resize(transforms.read_image(images / "cmyk.jpg"))
    crop = refdata.load_npz("transforms", "eval.npz")["cmyk.jpg_resized_crop_192_256"]
    found = pixels[192:256, 192:256].astype(int)
    assert np.abs(found - crop).max() <= 1


def test_a_gif_is_read_which_the_published_code_refuses(images):
    image = transforms.read_image(images / "photo.gif")
    assert (image.mode, image.size) == ("RGB", (200, 150))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated.jpg", "cannot be decoded: image file is truncated"),
        ("empty.jpg", r"the image file is empty \(0 bytes\)"),
        ("garbage.jpg", "not an image, but a text file"),
        ("absent.jpg", "cannot be opened: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_to_its_end_is_named(images, name, message):
    with pytest.raises(PaddlexMLError, match=message) as caught:
        transforms.read_image(images / name)
    assert caught.value.where == str(images / name)
    assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_of_16_bits_the_high_byte_is_kept_and_alpha_dropped(suffix, channels):
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 65536, (5, 7, channels) if channels else (5, 7)).astype(np.uint16)
    found = pixels(by_opencv(suffix, samples))
    high = (samples >> 8).astype(np.uint8)
    assert np.array_equal(found, high[:, :, :3] if channels else np.repeat(high[..., None], 3, 2))


def test_16_bit_grey_with_alpha_is_read():
    samples = np.random.default_rng(0).integers(0, 65536, (5, 7, 2)).astype(">u2")
    found = pixels(png(7, 5, 16, 4, b"".join(b"\0" + row.tobytes() for row in samples)))
    assert np.array_equal(found, np.repeat(samples[:, :, :1] >> 8, 3, 2))


def test_one_bit_is_black_or_white():
    assert pixels(png(8, 1, 1, 0, b"\0\xa0"))[0, :4, 1].tolist() == [255, 0, 255, 0]


@pytest.mark.parametrize(
    "samples",
    [
        np.full((4, 4), 1.5, np.float32),
        np.full((4, 4), np.nan, np.float32),
        np.full((4, 4), 0.01, np.float32),
        np.full((4, 4), -1, np.int32),
        np.full((4, 4), 70_000, np.int32),
    ],
)
def test_samples_without_a_range_are_refused_and_the_file_is_named(tmp_path, samples):
    path = tmp_path / "deep.tif"
    Image.fromarray(samples).save(path)
    with pytest.raises(PaddlexMLError, match=f"{samples.dtype} samples .*no defined") as caught:
        transforms.read_image(path)
    assert caught.value.where == str(path)
    assert "8 or 16 bits" in caught.value.fix


@pytest.mark.parametrize("offset", range(6, 33))
def test_damaged_exif_leaves_the_pixels_readable(images, offset):
    content = bytearray((images / "exif6.jpg").read_bytes())
    content[content.find(b"Exif") + offset] ^= 0xFF
    assert sorted(transforms.decode_image(bytes(content), where="x").size) == [150, 200]


@pytest.mark.parametrize("side", [60_000, 20_000])
def test_a_header_that_promises_too_much_is_an_error_and_no_crash(side):
    with pytest.raises(PaddlexMLError, match="cannot be decoded") as caught:
        transforms.decode_image(png(side, side, 1, 0, b"\0" * 100), where="huge.png")
    assert caught.value.where == "huge.png"


@pytest.mark.parametrize("entry", damaged_exif.ENTRIES)
def test_a_photograph_with_an_odd_entry_in_exif_is_turned_as_any_other(tmp_path, entry):
    (tmp_path / "a.jpg").write_bytes(content := damaged_exif.photograph(entry))
    found = transforms.decode_image(content, where="a.jpg")
    assert (found.size, found.getpixel((70, 5))) == ((80, 96), damaged_exif.RED)
    (checked,) = inspect_images.inspect_chunk(str(tmp_path), ["a.jpg"])
    assert (checked.problem, checked.width, checked.height) == ("", 80, 96)
    assert checked.fingerprint == inspect_images.take_fingerprint(found)
    assert exporters._measure(tmp_path / "a.jpg") == (80, 96)
    thumbnails.shrink(tmp_path / "a.jpg", transforms.read_image)
    (picture,) = walk(Image.open(io.BytesIO(content)))
    assert picture.load().tobytes() == found.tobytes()


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), AssertionError("x"), cv2.error()])
def test_whatever_a_decoder_raises_is_the_fault_of_this_file(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(PaddlexMLError) as caught:
        transforms.read_image(path)
    assert caught.value.where == str(path)
    (checked,) = inspect_images.inspect_chunk(str(tmp_path), ["a.png"])
    assert checked.problem == caught.value.what
    (picture,) = walk(Image.open(path))
    with pytest.raises(PaddlexMLError):
        picture.load()
    for frame in walk(path, frames=1):
        with pytest.raises(PaddlexMLError):
            frame.load()


def test_random_damage_is_an_error_of_ours_or_none(images):
    rng = np.random.default_rng(0)
    errors = []
    for name in ("gray.jpg", "palette.png", "photo.gif", "exif6.jpg", "gray_L.png"):
        sound = (images / name).read_bytes()
        for _ in range(40):
            damaged = bytearray(sound)
            for place in rng.integers(0, 400, 5):
                damaged[place] = rng.integers(256)
            try:
                transforms.decode_image(bytes(damaged), where=name)
            except PaddlexMLError as error:
                errors.append((error.where, name))
    assert len(errors) > 50
    assert all(where == name for where, name in errors)


def jpeg(width, height, mode="RGB", **options):
    """A JPEG file of slow waves with these sides."""
    y, x = np.mgrid[:height, :width] / 90
    waves = np.stack([np.sin(x + k) * np.cos(y - k) for k in range(3)], 2)
    buffer = io.BytesIO()
    image = Image.fromarray((127 + 120 * waves).astype(np.uint8)).convert(mode)
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("sides", "min_side", "expected"),
    [
        ((1600, 1200), None, (1600, 1200)),
        ((1600, 1200), 601, (1600, 1200)),
        ((1600, 1200), 600, (800, 600)),
        ((1600, 1200), 301, (800, 600)),
        ((1600, 1200), 300, (400, 300)),
        ((1600, 1200), 150, (200, 150)),
        ((1600, 1200), 10, (200, 150)),  # an eighth is the least
        ((1601, 1199), 599, (801, 600)),
        ((1601, 1199), 600, (1601, 1199)),
        ((300, 200), 448, (300, 200)),
    ],
)
def test_a_jpeg_is_reduced_while_both_sides_keep_the_pixels_asked_for(sides, min_side, expected):
    found = transforms.decode_image(jpeg(*sides), where="here", min_side=min_side)
    assert (found.size, found.mode) == (expected, "RGB")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_image_turns_and_changes_colours_like_the_whole_one(mode):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    content = jpeg(800, 640, mode, exif=exif)
    whole = transforms.decode_image(content, where="here")
    reduced = transforms.decode_image(content, where="here", min_side=160)
    assert (whole.size, reduced.size, reduced.mode) == ((640, 800), (160, 200), "RGB")
    ours, theirs = (standard(80).resize(i).astype(int) for i in (reduced, whole))
    assert np.abs(ours - theirs).mean() < 1
    assert np.abs(ours - theirs).max() <= 8


@pytest.mark.parametrize("name", ["photo.webp", "rgb.png", "photo.bmp", "photo.tif", "photo.gif"])
def test_other_formats_are_never_reduced(images, name):
    whole, asked = transforms.read_image(images / name), transforms.read_image(images / name, 16)
    assert whole.tobytes() == asked.tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jpeg(1600, 1200)[:9000], "cannot be decoded: image file is truncated"),
        (jpeg(1600, 1200)[:200], "cannot be decoded"),
        (b"no image", "not an image, but a text file"),
    ],
)
def test_reduced_decoding_finds_the_same_faults(content, message):
    found = []
    for min_side in (None, 150):
        with pytest.raises(PaddlexMLError, match=message) as caught:
            transforms.decode_image(content, where="here.jpg", min_side=min_side)
        found.append(str(caught.value))
    assert "here.jpg" in found[0]
    assert re.sub(r"\d+", "", found[0]) == re.sub(r"\d+", "", found[1])


def test_a_decoded_image_needs_no_open_file(tmp_path):
    path = tmp_path / "a.png"
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    image = transforms.read_image(path)
    path.unlink()
    assert image.getpixel((2, 1)) == (1, 2, 3)


def deep(suffix, bits, channels=0):
    """A file of 16-bit samples that use `bits` bits, and the 8-bit pixels that they mean."""
    rng = np.random.default_rng(bits)
    samples = rng.integers(0, 1 << bits, (9, 7, channels) if channels else (9, 7), np.uint16)
    samples.flat[:4] = (1 << bits) - 1
    eight = (samples >> (bits - 8)).astype(np.uint8)
    eight = eight[:, :, :3] if channels else np.repeat(eight[..., None], 3, 2)
    return by_opencv(suffix, samples), eight


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_samples_that_use_fewer_bits_are_scaled_by_them_and_told(suffix, bits, channels):
    content, expected = deep(suffix, bits, channels)
    found = transforms.decode(content, where="here")
    assert np.array_equal(np.asarray(found.image), expected)
    assert found.reading == f"{bits} bits in 16-bit samples"


@pytest.mark.parametrize("bits", [10, 12])
def test_portable_maps_are_scaled_too(bits):
    for suffix, channels in ((".pgm", 0), (".ppm", 3)):
        content, expected = deep(suffix, bits, channels)
        found = np.asarray(transforms.decode_image(content, where="here"))
        assert np.array_equal(found, expected)


def test_grey_of_12_bits_with_alpha_is_scaled():
    samples = np.random.default_rng(0).integers(0, 4096, (5, 7, 2)).astype(">u2")
    samples[0, 0] = 4095, 65535
    found = pixels(png(7, 5, 16, 4, b"".join(b"\0" + row.tobytes() for row in samples)))
    assert np.array_equal(found, np.repeat(samples[:, :, :1] >> 4, 3, 2))


@pytest.mark.parametrize("largest", [1 << 14, 65_535])
def test_16_bits_are_told_of_nothing(largest):
    samples = np.full((3, 3), largest, np.uint16)
    found = transforms.decode(by_opencv(".png", samples), where="here")
    assert (found.reading, found.image.getpixel((0, 0))) == ("", (largest >> 8,) * 3)


@pytest.mark.parametrize("channels", [0, 3])
def test_a_black_image_of_16_bits_stays_black(channels):
    samples = np.zeros((3, 3, channels) if channels else (3, 3), np.uint16)
    found = transforms.decode(by_opencv(".png", samples), where="here")
    assert (found.reading, found.image.getpixel((0, 0))) == ("", (0, 0, 0))


@pytest.mark.parametrize(
    ("samples", "expected", "reading"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255], "floats from 0 to 1"),
        (np.array([[0, 7, 255]], np.float32), [0, 7, 255], "8 bits in 32-bit floats"),
        (np.array([[0, 2048, 4095]], np.float32), [0, 128, 255], "12 bits in 32-bit floats"),
        (np.array([[0, 7, 255]], np.int32), [0, 7, 255], "8 bits in 32-bit samples"),
        (np.array([[0, 2048, 4095]], np.int32), [0, 128, 255], "12 bits in 32-bit samples"),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255], "16 bits in 32-bit samples"),
    ],
)
def test_32_bits_and_floats_are_scaled_by_their_range(tmp_path, samples, expected, reading):
    Image.fromarray(samples).save(tmp_path / "deep.tif")
    found = transforms.decode((tmp_path / "deep.tif").read_bytes(), where="here")
    assert (np.asarray(found.image)[0, :, 0].tolist(), found.reading) == (expected, reading)


def test_a_scaled_image_is_turned_as_its_file_says():
    samples = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "PNG", exif=exif)
    found = pixels(buffer.getvalue())
    assert np.array_equal(found[:, :, 0], np.rot90(samples >> 4, -1))


def test_training_evaluation_and_check_see_the_same_pixels(tmp_path):
    for suffix, channels in ((".png", 0), (".png", 3), (".tiff", 3)):
        path = tmp_path / f"{channels}{suffix}"
        path.write_bytes(deep(suffix, 12, channels)[0])
        whole, asked = transforms.read_image(path), transforms.read_image(path, 4)
        assert whole.tobytes() == asked.tobytes()
        (inspected,) = inspect_images.inspect_chunk(str(tmp_path), [path.name])
        assert inspected.fingerprint == inspect_images.take_fingerprint(whole)
        assert inspected.reading == "12 bits in 16-bit samples"
