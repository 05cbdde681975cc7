"""The shipped super-resolution weights against their sources: nothing was lost, and ncnn gives the same pictures.

The sources' own graphs (tests/data/upscale/*.param) and the shipped tensors make up the sources' bytes again, so no download
is needed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from skimage import data

from nodegraph import Files
from nodes.upscale.tiles import enlarge, extended
from nodes.upscale.weights import load_network
from tools.convert_ncnn import FLOAT16_TAG, SOURCES, ConversionFailed, convert, main, read_layers

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "nodes" / "upscale" / "models"
SHIPPED = [source for source in SOURCES if source.shipped]
each_source = pytest.mark.parametrize("source", SHIPPED, ids=lambda source: source.name)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def param_of(source):
    return (ROOT / "tests" / "data" / "upscale" / f"{source.name}.param").read_text()


def bin_of(source):
    """The .bin file that the shipped tensors were made from, as ncnn would write it."""
    raw = b""
    for array in arrays_of(source):
        raw += FLOAT16_TAG.to_bytes(4, "little") + array.tobytes() if array.dtype == np.float16 else array.tobytes()
    return raw


def arrays_of(source):
    """The shipped tensors in the order of the layers, a weight before its bias."""
    tensors = load_file(MODELS / f"{source.name}.safetensors")
    order = ["conv_first", "body", "net", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]

    def place(name):
        words = name.split(".")
        return order.index(words[0]), [int("".join(filter(str.isdigit, word))) for word in words[1:-1]], words[-1] == "bias"

    for name in sorted(tensors, key=place):
        yield np.ascontiguousarray(tensors[name].transpose(1, 0, 2, 3)) if name == "net.12.weight" else tensors[name]


@each_source
def test_conversion_gives_the_shipped_bytes(source):
    assert convert(source, param_of(source), bin_of(source)) == (MODELS / f"{source.name}.safetensors").read_bytes()


@each_source
def test_ncnn_gives_the_same_picture(source, tmp_path):
    network = load_network(Files({"model.safetensors": MODELS / f"{source.name}.safetensors"}), "cpu", "float32")
    crop = np.ascontiguousarray(data.astronaut()[60:108, 200:256].transpose(2, 0, 1)[None]).astype(np.float32) / 255
    picture = torch.from_numpy(crop)
    with torch.no_grad():
        ours = network(extended(picture, network.margin, network.multiple))[0].numpy()
    theirs = run_ncnn(source, extended(picture, network.margin, network.multiple)[0].numpy(), tmp_path)
    assert ours.shape == theirs.shape == (3, 48 * source.scale, 56 * source.scale)
    assert np.ptp(theirs) > 0.8  # a true picture, not a constant one
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(enlarge(network, picture, 20, lambda: None)[0].numpy() - theirs.clip(0, 1)).max() < 1e-4


def run_ncnn(source, picture, folder):
    ncnn = pytest.importorskip("ncnn")
    (folder / "a.param").write_text(param_of(source))
    (folder / "a.bin").write_bytes(bin_of(source))
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(str(folder / "a.param"))
    net.load_model(str(folder / "a.bin"))
    lines = [line.split() for line in param_of(source).splitlines()[2:] if line]
    run = net.create_extractor()
    run.input(lines[0][4], ncnn.Mat(np.ascontiguousarray(picture)))
    blobs = int(lines[-1][2]) + int(lines[-1][3])
    return np.array(run.extract(lines[-1][4 + blobs - 1])[1])


def test_the_command_converts_unpacked_wheels(tmp_path, capsys):
    source = next(source for source in SHIPPED if source.architecture == "upconv7")
    base = tmp_path / "wheel" / source.path
    base.parent.mkdir(parents=True)
    base.with_name(f"{base.name}.param").write_text(param_of(source))
    base.with_name(f"{base.name}.bin").write_bytes(bin_of(source))
    arguments = [str(tmp_path / "out"), "--model", source.name, "--from", str(tmp_path / "wheel")]
    assert main(arguments) == 0
    made = tmp_path / "out" / f"{source.name}.safetensors"
    assert made.read_bytes() == (MODELS / made.name).read_bytes()
    assert made.name in capsys.readouterr().out

    base.with_name(f"{base.name}.bin").write_bytes(bin_of(source)[:-1])
    assert main(arguments) == 1
    assert "has SHA-256" in capsys.readouterr().err
    base.with_name(f"{base.name}.param").unlink()
    assert main(arguments) == 1
    assert "are in none of" in capsys.readouterr().err


HEAD = "7767517\n1 1\n"
CONVOLUTION = HEAD + "Convolution c 1 1 a b 0=1 1=1 6=1\n"


@pytest.mark.parametrize(
    ("param", "weights", "words"),
    [
        ("7767518\n", b"", "no text .param"),
        (HEAD + "LSTM l 1 1 a b 0=1\n", b"", "layers of type 'LSTM'"),
        (CONVOLUTION, b"\x38\x4b\x0d\x00" + bytes(4), "the tag 0x000d4b38"),
        (CONVOLUTION, bytes(7), "ends too early"),
        (CONVOLUTION, bytes(9), "1 bytes are left over"),
    ],
)
def test_a_source_that_cannot_be_read(param, weights, words):
    with pytest.raises(ConversionFailed, match=words):
        read_layers(param, weights)


def test_float16_is_padded_to_four_bytes():
    param = HEAD + "Convolution c 1 1 a b 0=1 1=1 5=1 6=3\n"
    weights = FLOAT16_TAG.to_bytes(4, "little") + np.array([1, 2, 3, 0], "<f2").tobytes() + np.array([0.5], "<f4").tobytes()
    (layer,) = read_layers(param, weights)
    assert layer.weight.reshape(-1).tolist() == [1, 2, 3]
    assert layer.bias.tolist() == [0.5]
