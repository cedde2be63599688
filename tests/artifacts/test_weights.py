# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import builtins
import collections
import gzip
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import save

from paddlex_ml.artifacts import weights
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import zoo
from paddlex_ml.storage import cache
from tests import repairs
from tests.shallow import blank_models

ROOT = Path(__file__).resolve().parents[2]
NAME = "PP-LCNet_x1_0_ML"
ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b.weight": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2)),
    "half": np.array([0.5, 2.0], np.float16),
    "big_endian": np.arange(3, dtype=">f4"),
    "count": np.array(7),
    "number": np.float32(1.5),
    "none": np.zeros((0, 2), np.float32),
}


class Calling:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def file(tmp_path):
    """A place for a weight file, filled by calling it with what to pickle or with bytes."""
    path = tmp_path / "model.pdparams"

    def fill(content, protocol=4):
        raw = content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol)
        path.write_bytes(raw)
        return path

    return fill


@pytest.fixture(scope="module")
def model():
    paddle.seed(1)
    return zoo.build(NAME, 33)


@pytest.fixture(scope="module")
def arrays(model):
    return weights.to_arrays(model.state_dict())


@pytest.mark.parametrize(
    "function", [os.system, builtins.eval, builtins.exec, subprocess.getoutput]
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_code_in_a_weight_file_does_not_run(file, tmp_path, function, protocol):
    proof = tmp_path / "proof"
    command = f"open({str(proof)!r}, 'w').close()"
    if function in (os.system, subprocess.getoutput):
        command = f"touch {proof}"
    path = file({"a": Calling(function, command)}, protocol)
    with pytest.raises(PaddlexMLError, match="the file would run code when read") as caught:
        weights.read(path)
    assert not proof.exists()
    assert caught.value.where == str(path)
    assert "a source that you trust" in caught.value.fix
    pickle.loads(path.read_bytes())  # the trap is a real one: the plain unpickler runs it
    assert proof.exists()


@pytest.mark.parametrize(
    "function", [paddle.to_tensor, paddle.load, np.load, getattr, collections.Counter, bytearray]
)
def test_not_even_harmless_looking_functions_are_called(file, function):
    with pytest.raises(PaddlexMLError, match="would run code when read"):
        weights.read(file({"a": Calling(function, [1])}))


def test_memory_of_the_program_cannot_be_named_in_a_file(file):
    pointer = (b"AAAAAAAA", np.dtype("O"))  # numpy itself takes the bytes for an object's address
    for content in (
        Calling(np.ndarray, (1,), pointer[1], pointer[0]),
        Calling(np.dtype, "O"),
        np.array([{}], dtype=object),
        np.array(["text"]),
    ):
        with pytest.raises(PaddlexMLError, match=r"\(UnpicklingError: values of type|not a tensor"):
            weights.read(file({"a": content}))


def test_a_type_with_a_foreign_state_stays_a_plain_type(file):
    class Type:
        def __reduce__(self):  # floats that claim to be objects: state and flags of numpy's dtype
            return np.dtype, ("f4", False, True), (3, "<", None, None, None, -1, -1, 63)

    class Array:
        def __reduce__(self):
            make, arguments, *_ = tuple(np.zeros(2, np.float32).__reduce__())
            return make, arguments, (1, (2,), Type(), False, bytes(8))

    array = weights.read(file({"a": Array()}))["a"]
    assert array.dtype == np.float32
    assert not array.dtype.hasobject


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_read(file, protocol):
    found = weights.read(file({**ARRAYS, "number": np.array(1.5)}, protocol))
    for name, value in ARRAYS.items():
        assert np.array_equal(found[name], value), name
        assert found[name].shape == value.shape


def test_plain_values_come_back_as_they_were(file):
    content = {"steps": [1, (2.5, None)], "name": "x", "big": 2**70, "scalar": np.float64(0.1)}
    assert weights.load_pickle(file(content)) == content


def test_bfloat16_is_read_as_paddle_writes_it(file, tmp_path):
    path = tmp_path / "bf16.pdparams"
    paddle.save({"a": paddle.to_tensor([1.5, -2.0]).astype("bfloat16")}, str(path))
    assert weights.read(path)["a"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(ARRAYS)[:200], "or a damaged one"),
        (b"these are not weights\n", "or a damaged one"),
        (b"", r"or a damaged one \(0 bytes\)"),
        (b"PK\x03\x04", "a zip file, as PyTorch saves weights"),
        ([1.0], "it holds a list, not a dict of tensors"),
        ({}, "it holds no tensors"),
        ({"a": "text"}, "its entry 'a' is not a tensor"),
        ({"a": np.array([True])}, "its entry 'a' is not a tensor"),
        ({"a": np.array([1, np.nan])}, "its entry 'a' holds NaN or infinite values"),
        ({"a": np.array([1, 1e300])}, "its entry 'a' holds values that are infinite in float32"),
        ({"a": np.array([1, np.inf], np.float16)}, "its entry 'a' holds NaN or infinite values"),
    ],
)
def test_what_is_not_a_weight_file_is_refused_by_name(file, content, message):
    path = file(content)
    with pytest.raises(PaddlexMLError, match=message) as caught:
        weights.read(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.what


def test_a_pytorch_file_is_called_one(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(ARRAYS))
    with pytest.raises(PaddlexMLError, match="as PyTorch saves weights"):
        weights.read(path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(PaddlexMLError, match="the file cannot be read: Is a directory"):
        weights.read(tmp_path)


def test_paddles_own_files_are_read_and_paddle_reads_ours(model, arrays, tmp_path, file):
    path = tmp_path / "paddle.pdparams"
    paddle.save(model.state_dict(), str(path))
    found = weights.read(path)
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    loaded = paddle.load(str(file(arrays)))
    assert loaded.keys() == arrays.keys()
    assert all(np.array_equal(np.asarray(loaded[name]), arrays[name]) for name in arrays)


def test_all_of_a_full_file_is_loaded(model, arrays):
    other = zoo.build(NAME, 33)
    fitted = weights.fit(other, arrays, head="fc.", where="a.pdparams")
    assert (len(fitted.loaded), fitted.skipped, fitted.missing) == (167, {}, [])
    assert all(
        np.array_equal(value.numpy(), arrays[name]) for name, value in other.state_dict().items()
    )


def test_weights_for_80_classes_give_all_but_three_entries_to_33(model):
    fitted = weights.fit(
        model, weights.to_arrays(zoo.build(NAME, 80).state_dict()), head="fc.", where="a.pdparams"
    )
    different = ["fc.query_pos_embed.weight", "fc.group_conv.weight", "fc.group_conv.bias"]
    assert fitted.missing == different
    assert fitted.skipped == {
        "fc.query_pos_embed.weight": "shape [80, 768], the model needs [33, 768]",
        "fc.group_conv.weight": "shape [80, 768, 1, 1], the model needs [33, 768, 1, 1]",
        "fc.group_conv.bias": "shape [80], the model needs [33]",
    }
    assert len(fitted.loaded) == 164


def test_a_bare_backbone_fills_the_backbone_and_its_own_head_is_left_out(model, shared):
    path = shared / "data" / "weights" / "PPLCNet_x1_0_doc_ori.pdparams"
    backbone = weights.read(path)
    fitted = weights.fit(model, backbone, head="fc.", where=str(path))
    state = model.state_dict()
    assert len(fitted.loaded) == 144
    assert fitted.skipped == dict.fromkeys(["fc.weight", "fc.bias"], "the model has no such entry")
    assert fitted.missing == [name for name in state if name.startswith("fc.")]
    assert all(np.array_equal(state[name].numpy(), backbone[name]) for name in fitted.loaded)


def test_weights_of_another_model_are_refused_though_its_head_fits(model, arrays):
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    foreign = {name: value + 1 for name, value in arrays.items() if name.startswith("fc.")}
    foreign["stem.stem1.conv.weight"] = np.zeros((16, 3, 3, 3), np.float32)
    foreign["stages.0.blocks.0.layers.0.conv.weight"] = np.zeros((16, 16, 3, 3), np.float32)
    with pytest.raises(PaddlexMLError, match="weights of another model") as caught:
        weights.fit(model, foreign, head="fc.", where="hgnet.pdparams")
    assert caught.value.where == "hgnet.pdparams"
    assert "conv1.conv.weight" in caught.value.what
    assert all(
        np.array_equal(value.numpy(), before[name]) for name, value in model.state_dict().items()
    )


def test_weights_of_another_member_of_the_family_are_refused_before_anything_is_copied():
    paddle.seed(1)
    model = zoo.build("PP-HGNetV2-B4_ML", 3)
    before = weights.to_arrays(model.state_dict())
    with blank_models():
        larger = weights.to_arrays(zoo.build("PP-HGNetV2-B6_ML", 3).state_dict())
    with pytest.raises(PaddlexMLError, match=r"another model: \d+ of the 401 entries") as caught:
        weights.fit(model, larger, head="fc.", where="b6.pdparams")
    assert "choose the model they belong to with -c" in caught.value.fix
    after = model.state_dict()
    assert all(np.array_equal(after[name].numpy(), before[name]) for name in before)


def test_queries_are_not_taken_without_what_reads_their_answers(model):
    arrays = weights.to_arrays(zoo.build(NAME, 33).state_dict())
    del arrays["fc.group_conv.bias"]
    fitted = weights.fit(model, arrays, head="fc.", where="a.pdparams")
    together = ["fc.query_pos_embed.weight", "fc.group_conv.weight"]
    assert fitted.missing == [*together, "fc.group_conv.bias"]
    reason = "it belongs to fc.group_conv.bias, which does not fit"
    assert fitted.skipped == dict.fromkeys(together, reason)


_PEAK = """
import sys, warnings
warnings.filterwarnings("ignore")
import paddle
from pathlib import Path
from paddlex_ml.artifacts import weights
from paddlex_ml.models import zoo
def peak():  # KiB
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
path, bare = Path(sys.argv[1]), peak()
model = zoo.build("PP-HGNetV2-B6_ML", 80)
weights.fit(model, weights.read(path), head="fc.", where="")
print((peak() - bare) * 1024 / path.stat().st_size)
"""
_WRITE = """
import pickle, sys, warnings
warnings.filterwarnings("ignore")
import paddle
from pathlib import Path
from safetensors.numpy import save_file
from paddlex_ml.artifacts import weights
from paddlex_ml.models import zoo
from tests.shallow import blank_models
with blank_models():
    arrays = weights.to_arrays(zoo.build("PP-HGNetV2-B6_ML", 80).state_dict())
Path(sys.argv[1], "b6.pdparams").write_bytes(pickle.dumps(arrays, 4))
save_file(arrays, Path(sys.argv[1], "b6.safetensors"))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with the weights of the largest convolutional model."""
    folder = tmp_path_factory.mktemp("large")
    # A process of its own gives all memory back.
    subprocess.run([sys.executable, "-c", _WRITE, str(folder)], cwd=ROOT, check=True)
    yield folder
    shutil.rmtree(folder)  # 600 MB


@pytest.mark.heavy
@pytest.mark.story
@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_building_and_loading_the_largest_convolutional_model_takes_little_memory(large, suffix):
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc: peak memory cannot be read here")
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(large / f"b6{suffix}")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1.9 < float(done.stdout) < 2.5


def test_the_suffix_may_be_left_out(tmp_path):
    path = tmp_path / "v1.2.pdparams"
    path.touch()
    key = "Train.pretrain_weight_path"
    assert weights.locate(str(path), key) == path
    assert weights.locate(str(tmp_path / "v1.2"), key) == path


def test_a_missing_file_names_the_key(tmp_path):
    with pytest.raises(PaddlexMLError, match=r"no such weight file: .*absent") as caught:
        weights.locate(str(tmp_path / "absent"), "Evaluate.weight_path")
    assert caught.value.where == "Evaluate.weight_path"


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("inference.pdiparams", "the folder holds an exported model, not weights: .*old"),
        ("notes.txt", "the folder holds no weight file: .*old"),
    ],
)
def test_a_folder_without_weights_is_not_called_missing(tmp_path, file, what):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / file).touch()
    with pytest.raises(PaddlexMLError, match=what):
        weights.locate(str(folder), "Export.weight_path")


@pytest.mark.parametrize(
    ("named", "file"),
    [
        ("my run/latest", "latest/latest.pdparams"),
        ("my run", "best_model/best_model.pdparams"),
        ("my run/best_model/inference", "best_model/best_model.pdparams"),
        ("my run/best_model/inference/inference.pdiparams", "best_model/best_model.pdparams"),
        ("my run/other", "other/a.safetensors"),
    ],
)
def test_a_folder_in_the_place_of_weights_names_the_file_in_it(tmp_path, named, file):
    run = tmp_path / "my run"
    for each in (
        "latest/latest.pdparams",
        "best_model/best_model.pdparams",
        "best_model/inference/inference.pdiparams",
        "other/a.safetensors",
    ):
        (run / each).parent.mkdir(parents=True, exist_ok=True)
        (run / each).touch()
    key = "Train.pretrain_weight_path"
    with pytest.raises(PaddlexMLError) as caught:
        weights.locate(str(tmp_path / named), key)
    assert repairs.find(str(caught.value)) == [[f"{key}={run / file}"]]
    assert weights.locate(str(run / file), key) == run / file


def test_weights_behind_a_url_are_fetched_and_read(site, file):
    site["/a.pdparams"] = file({"a": ARRAYS["a.weight"]}).read_bytes()
    path = weights.locate(site.url("/a.pdparams"), "Train.pretrain_weight_path")
    assert weights.read(path)["a"].tolist() == ARRAYS["a.weight"].tolist()
    assert weights.locate(site.url("/a.pdparams"), "Train.pretrain_weight_path") == path
    assert len(site.asked) == 1


def zipped() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("model/data.pkl", b"")
    return memory.getvalue()


def tarred() -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("M_infer/inference.yml"))
    return memory.getvalue()


@pytest.mark.parametrize("name", ["config.yaml", "inference.yml", "label_dict.txt", "train.log"])
def test_a_text_file_is_told_as_one(name, tmp_path):
    (tmp_path / name).write_text("# Global:\n")
    with pytest.raises(PaddlexMLError, match="it is a text file") as caught:
        weights.read(tmp_path / name)
    assert "name a .pdparams file" in caught.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!doctype html><title>404</title>", "it is a web page"),
        (zipped(), "it is a zip file, as PyTorch saves weights"),
        (tarred(), "it is a tar archive, as static models are published"),
        (gzip.compress(b"weights", mtime=0), "it is compressed with gzip"),
        (pickle.dumps(ARRAYS)[:-40], "a damaged one"),
        (pickle.dumps({"a": Calling(os.system, "true")}), "the file would run code when read"),
        (save({"a": np.ones(9, np.float32)})[:-4], "a damaged one"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_behind_a_url_but_no_weights_is_refused_and_not_kept(site, content, message):
    url, key = site.url("/a.pdparams"), "Train.pretrain_weight_path"
    site["/a.pdparams"] = content
    with pytest.raises(PaddlexMLError, match=message) as caught:
        weights.locate(url, key, null="trains from random weights")
    assert caught.value.where == url
    assert f"-o {key}=null, which trains from random weights" in caught.value.fix
    assert [path for path in cache.path_for(url).parent.iterdir() if path.suffix != ".lock"] == []
    assert len(site.asked) == 1


@pytest.mark.parametrize("content", [b"<html>", gzip.compress(b"", mtime=0), tarred()])
def test_other_kinds_of_local_files_are_called_by_their_names(file, content):
    with pytest.raises(PaddlexMLError, match=r"it is (a web page|compressed|a tar archive)"):
        weights.read(file(content))


def test_a_url_of_another_kind_is_refused():
    with pytest.raises(PaddlexMLError, match="it must begin with http:// or https://"):
        weights.locate("s3://bucket/a.pdparams", "Train.pretrain_weight_path")


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02Nr\x00\x65\xcd\x1d0N.", b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b"."],
    ids=["memo", "depth"],
)
def test_a_file_that_asks_for_more_than_its_length_is_refused(file, content):
    path = file(content)
    with pytest.raises(PaddlexMLError, match="asks for more than its length allows") as caught:
        weights.read(path)
    assert caught.value.where == str(path)


def test_a_giant_in_place_of_weights_is_refused_before_it_is_read(tmp_path):
    for suffix in (".pdparams", ".safetensors"):
        path = tmp_path / f"giant{suffix}"
        path.touch()
        os.truncate(path, 100_000_000_000)
        with pytest.raises(PaddlexMLError, match="at most 8,589,934,592 are read"):
            weights.read(path)
