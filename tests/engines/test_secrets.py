# SPDX-License-Identifier: Apache-2.0
"""No password and no token of a URL is printed, logged or kept by any command."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from paddlex_ml import cli
from tests.conftest import Site

Run = Callable[..., tuple[int, str]]


def with_secrets(site: Site, path: str) -> str:
    return site.url(path).replace("//", "//mole:SESAME1@") + "?v=1&token=SESAME2"


def assert_no_secret(folder: Path, *texts: str) -> None:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()
             and (b"SESAME" in path.read_bytes() or b"mole" in path.read_bytes())]  # fmt: skip
    assert found == []
    for text in texts:
        assert "SESAME" not in text
        assert "mole" not in text


def test_a_prediction_on_urls_shows_and_keeps_none(
    site: Site,
    copy_of_run: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    memory = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(memory, "PNG")
    site["/a.png?v=1&token=SESAME2"] = memory.getvalue()
    site["/away?v=1&token=SESAME2"] = site.reply(
        status=302, Location=with_secrets(site, "/missing")
    )
    escaped = site.url("/none.png?password%3DSESAME&token%253DSESAME")
    wrong = "http://mole:SESAME/1@127.0.0.1:1/a.png"
    names = [
        with_secrets(site, "/a.png"),
        with_secrets(site, "/away"),
        escaped,
        wrong,
        "//mole:SESAME@h/b",
    ]
    arguments = command("predict", None, copy_of_run, f"Predict.input={json.dumps(names)}")
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert_no_secret(copy_of_run, printed.out, printed.err)
    results = json.loads((copy_of_run / "predict" / "predictions.json").read_text("utf-8"))
    assert results[0]["input_path"] == site.url("/a.png?v=1&token=***")
    assert site.url("/a.png?v=1&token=***") in printed.out
    assert "error" not in results[0]
    assert "404 Not Found" in results[1]["error"]


def test_a_training_from_a_url_keeps_none_and_its_configuration_resumes(
    site: Site,
    toy: Path,
    start_weights: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site["/w.pdparams?v=1&token=SESAME2"] = start_weights.read_bytes()
    url, output = with_secrets(site, "/w.pdparams"), tmp_path / "output"
    typed = command("train", toy, output, f"Train.pretrain_weight_path={url}")
    monkeypatch.setattr(sys, "orig_argv", ["main.py", *typed])
    assert cli.main(typed) == 0
    printed = capsys.readouterr()
    assert_no_secret(output, printed.out, printed.err)
    shown = site.url("/w.pdparams?v=1&token=***")
    assert f"Train.pretrain_weight_path={shown}" in (output / "run.json").read_text("utf-8")
    text = (output / "config.yaml").read_text("utf-8")
    assert yaml.safe_load(text)["Train"]["pretrain_weight_path"] == shown
    assert "give the whole URL: -o Train.pretrain_weight_path=https://..." in text

    more = ["Train.resume_path=auto", "Train.epochs_iters=3"]
    assert cli.main(["-c", str(output / "config.yaml"), "-o", *more]) == 0

    capsys.readouterr()
    again = ["Train.resume_path=null", f"Global.output={tmp_path / 'again'}"]
    assert cli.main(["-c", str(output / "config.yaml"), "-o", *again]) == 2
    error = capsys.readouterr().err
    assert "the URL is without its token" in error
    assert "give the whole URL again" in error
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("mode", "key"),
    [("export", "Export.weight_path"), ("evaluate", "Evaluate.weight_path"),
     ("predict", "Predict.model_dir"), ("train", "Train.pretrain_weight_path")],
)  # fmt: skip
@pytest.mark.parametrize(
    "url",
    [
        "http://mole:SESAME@127.0.0.1:1:2/w.pdparams",
        "http://mole:SES#AME/SESAME@127.0.0.1/w.pdparams",
        "ftp://mole:SESAME@h/w?sig=SESAME",
        "htp:/mole:SESAME@h/w",
        "HTTPS://SESAME@[::1/w",
    ],
)
def test_a_refused_url_is_shown_without_it(
    mode: str, key: str, url: str, toy: Path, run: Run, tmp_path: Path
) -> None:
    code, error = run(mode, toy, tmp_path / "output", f"{key}={url}", "Predict.input=a.png")
    assert code == 2
    assert_no_secret(tmp_path, error)
