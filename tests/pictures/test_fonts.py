# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ImageFont

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.pictures import fonts

CHINESE = "沙漠山海日落树木红色圆形猫狗交通灯繁體龍"
UNASSIGNED = "\U0010fffe"  # a noncharacter: no font draws it, every font shows its empty box


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fonts.VARIABLE, raising=False)


def render(text: str, font: Path) -> bytes:
    mask = ImageFont.truetype(str(font), 32).getmask(text)
    return bytes(mask) + bytes(str(mask.size), "ascii")


@pytest.mark.parametrize("system", [True, False], ids=["any font", "the packaged font alone"])
def test_every_chinese_character_is_a_glyph_of_its_own_and_no_box(
    monkeypatch: pytest.MonkeyPatch, system: bool
) -> None:
    if not system:
        monkeypatch.setattr(fonts, "_system_fonts", lambda: ())
    font = fonts.find_font(CHINESE)
    drawn = {render(character, font) for character in CHINESE}
    assert len(drawn) == len(CHINESE)
    assert render(UNASSIGNED, font) not in drawn


def test_the_environment_variable_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "mine.ttc"
    copy.write_bytes(fonts._packaged_font().read_bytes())
    monkeypatch.setenv(fonts.VARIABLE, str(copy))
    assert fonts.find_font(CHINESE) == copy


@pytest.mark.parametrize(
    ("name", "what"), [("none.ttf", "does not exist"), ("text.ttf", "is not a font")]
)
def test_an_unusable_override_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, what: str
) -> None:
    (tmp_path / "text.ttf").write_text("no font")
    monkeypatch.setenv(fonts.VARIABLE, str(tmp_path / name))
    with pytest.raises(PaddlexMLError, match=what) as caught:
        fonts.find_font("cat")
    assert caught.value.where == f"environment variable PADDLEX_ML_FONT={tmp_path / name}"


@pytest.mark.parametrize("table", [b"hhea", b"loca", b"cmap"])
def test_a_damaged_font_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: bytes
) -> None:
    whole = fonts._packaged_font().read_bytes()
    head, rest = whole[:1000], whole[1000:]
    assert table in head
    damaged = tmp_path / "mine.ttc"
    damaged.write_bytes(head.replace(table, b"none") + rest)
    monkeypatch.setenv(fonts.VARIABLE, str(damaged))
    with pytest.raises(PaddlexMLError, match="is not a font that can be read"):
        fonts.find_font("cat")


def test_whatever_a_damaged_font_makes_its_reader_raise_it_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("array index out of range")

    monkeypatch.setattr("fontTools.ttLib.TTFont", fail)
    assert fonts._coverage.__wrapped__(fonts._packaged_font()) == frozenset()


def test_a_system_font_is_found_by_its_known_name_and_a_broken_one_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    known = tmp_path / "deep" / "WQY-ZenHei.TTC"
    known.write_bytes(fonts._packaged_font().read_bytes())
    broken = tmp_path / "NotoSansCJK-Regular.ttc"
    broken.write_text("broken")
    (tmp_path / "unknown.ttf").write_text("broken")
    monkeypatch.setattr(fonts, "_UNIX_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(fonts, "_FOLDERS", {})
    monkeypatch.setattr(fonts, "_system_fonts", fonts._system_fonts.__wrapped__)
    assert fonts._system_fonts() == (broken, known)
    assert fonts.find_font("cat") == fonts.find_font("") == known


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        (f"猫 a{UNASSIGNED}\tb", "猫 a[10fffe] b"),
        ("🦖\ufe0f", "[t-rex]"),
        ("👨\u200d👩\u200d👧", "[man, woman, girl]"),
        ("👍🏽1️⃣", "[thumbs up sign]1"),
        ("flag 🇨🇳", "flag [flag CN]"),
        ("แมว", "[Thai 0e41 0e21 0e27]"),
        ("กक", "[Thai 0e01, Devanagari 0915]"),
        ("cat", "cat"),
    ],
)
def test_what_the_font_lacks_is_written_in_other_characters(text: str, drawn: str) -> None:
    assert fonts.legible(text, fonts._packaged_font()) == drawn


@pytest.mark.parametrize("name", ["قطة", "חתול", "گربه\u200cها", "кошка", "😀"])
def test_names_from_right_to_left_and_signs_have_a_font_that_comes_with_the_package(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(fonts, "_list_fonts", lambda: ())
    for cached in ("_system_fonts", "_other_fonts"):
        monkeypatch.setattr(fonts, cached, getattr(fonts, cached).__wrapped__)
    font = fonts.find_font(name)
    assert fonts.legible(name, font) == name
    assert not fonts.lacks_letters(name, font)


def test_a_library_that_cannot_write_from_right_to_left_gets_other_characters() -> None:
    font = fonts.find_font("חתול")
    assert fonts.legible("חתול", font, shapes=False) == "[Hebrew 05d7 05ea 05d5 05dc]"
    assert fonts.lacks_letters("חתול", font, shapes=False)
    assert not fonts.lacks_letters("[x] 🦖", font, shapes=False)


def test_the_chosen_font_is_helped_out_by_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "mine.ttc"
    copy.write_bytes(fonts._packaged_font().read_bytes())
    monkeypatch.setenv(fonts.VARIABLE, str(copy))
    assert fonts.find_font("قطة") != copy
