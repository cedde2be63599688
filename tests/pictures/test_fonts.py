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


def test_characters_without_a_glyph_become_question_marks() -> None:
    font = fonts.find_font("猫")
    assert fonts.legible(f"猫 a{UNASSIGNED}\tb", font) in ("猫 a? b", "猫 a  b")
