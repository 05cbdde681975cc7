"""What the upscale pack knows from headers alone: architectures, scales, sizes, and what is wrong with a file."""

import json
from pathlib import Path

import pytest

from nodegraph.facts import NULL, Facts, Mismatch
from nodes.upscale import facts
from nodes.upscale.facts import ARCHITECTURES, UnknownWeights, read_layout

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "nodes" / "upscale" / "models"


def header_of(shapes, metadata=None, dtype="F32"):
    entries = {name: {"dtype": dtype, "shape": list(shape)} for name, shape in shapes.items()}
    return {"__metadata__": metadata, **entries} if metadata is not None else entries


def tensors(architecture, **options):
    return ARCHITECTURES[architecture].tensors(**options)


SMALL = {"features": 8, "growth": 4, "blocks": 2, "doublings": 2, "unshuffle": 1}
RRDBNET = tensors("rrdbnet", **SMALL)


def without(shapes, name):
    return {key: shape for key, shape in shapes.items() if key != name}


class Looking:
    """A Look over headers in memory: files by name, or folders with one file."""

    def __init__(self, header, folder=""):
        self.stored, self.folder = header, folder

    def files(self, model):
        return ["config.json", self.folder] if self.folder else ["model.safetensors"]

    def header(self, model, path=""):
        return self.stored if path == self.folder else None


@pytest.mark.parametrize(
    ("name", "architecture", "scale", "options"),
    [
        ("waifu2x-photo-x2", "upconv7", 2, {}),
        ("realesr-animevideo-x4", "srvgg", 4, {"features": 64, "depth": 16, "scale": 4}),
        ("realesrgan-anime-x4", "rrdbnet", 4, {"features": 64, "growth": 32, "blocks": 6, "doublings": 2, "unshuffle": 1}),
    ],
)
def test_the_shipped_weights_are_recognised(name, architecture, scale, options):
    raw = (MODELS / f"{name}.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    metadata = header["__metadata__"]
    assert (metadata["kind"], metadata["name"]) == ("upscaler", name)
    assert metadata["license"] in ("MIT", "BSD-3-Clause")
    for known in (header, {**header, "__metadata__": {}}):
        layout = read_layout(known)
        assert (layout.architecture, layout.scale, layout.options) == (architecture, scale, options)


@pytest.mark.parametrize(
    ("doublings", "unshuffle", "scale"),
    [(1, 1, 2), (2, 1, 4), (3, 1, 8), (2, 2, 2), (2, 4, 1)],
    ids=["x2", "x4", "x8", "folded-x2", "folded-x1"],
)
def test_scales_of_rrdbnet(doublings, unshuffle, scale):
    options = {**SMALL, "doublings": doublings, "unshuffle": unshuffle}
    layout = read_layout(header_of(tensors("rrdbnet", **options)))
    assert (layout.scale, layout.options) == (scale, options)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [0, 1, 16, 32])
def test_scales_of_srvgg(scale, depth):
    options = {"features": 24, "depth": depth, "scale": scale}
    layout = read_layout(header_of(tensors("srvgg", **options)))
    assert (layout.architecture, layout.scale, layout.options) == ("srvgg", scale, options)


def test_averaged_weights_are_preferred():
    both = {f"{prefix}.{name}": shape for prefix in ("params", "params_ema") for name, shape in RRDBNET.items()}
    names = read_layout(header_of(both)).names
    assert names["conv_first.weight"] == "params_ema.conv_first.weight"
    assert len(names) == len(RRDBNET)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (header_of({}), "no tensors"),
        (header_of({"unet.weight": (3, 3)}), "no known architecture; there are 'unet.weight'"),
        (header_of(RRDBNET, {"architecture": "swinir"}), "architecture 'swinir', which this pack does not have"),
        (header_of(RRDBNET, {"architecture": "srvgg"}), "says architecture 'srvgg', but the tensors are of 'rrdbnet'"),
        (header_of(RRDBNET, {"scale": "2"}), "says scale 2, but the tensors are of scale 4"),
        (header_of(without(RRDBNET, "conv_hr.bias")), "needs 'conv_hr.bias'"),
        (header_of(without(RRDBNET, "conv_first.weight")), "'conv_first.weight' is missing"),
        (header_of({**RRDBNET, "conv_hr.bias": (9,)}), r"'conv_hr.bias' is \[9\], but rrdbnet needs \[8\]"),
        (header_of({**RRDBNET, "body.0.rdb1.conv1x1.weight": (4, 8, 1, 1)}), "has no 'body.0.rdb1.conv1x1.weight'"),
        (header_of({**RRDBNET, "conv_first.weight": (8, 1, 3, 3)}), "takes 1 channels, but pictures have 3"),
        (header_of(tensors("rrdbnet", **{**SMALL, "doublings": 1, "unshuffle": 4})), "scale must be at least 1"),
        (header_of(RRDBNET, dtype="I8"), "is I8, but weights must be F16"),
        (header_of(without(tensors("srvgg", features=8, depth=1, scale=2), "body.1.weight")), "needs 'body.1.weight'"),
        (header_of({**tensors("srvgg", features=8, depth=1, scale=2), "body.4.weight": (7, 8, 3, 3)}), "last convolution has 7 channels"),
        ({**header_of(RRDBNET), "conv_hr.bias": {"dtype": "F32"}}, "damaged at 'conv_hr.bias'"),
    ],
)
def test_what_is_wrong_with_weights(header, words):
    with pytest.raises(UnknownWeights, match=words):
        read_layout(header)
    found = facts.load_upscaler(Looking(header), Facts(value="mine"))
    assert isinstance(found, Mismatch)
    assert found.port == "name"
    assert "'mine'" in found.text


@pytest.mark.parametrize("folder", ["", "RealESRGAN.safetensors"])
def test_facts_of_a_model_need_no_weights(folder):
    assert facts.load_upscaler(Looking(header_of(RRDBNET), folder), Facts(value="mine")) == {"architecture": "rrdbnet", "scale": 4}
    assert facts.load_upscaler(Looking(None, folder), Facts(value="mine")) == {}
    assert facts.load_upscaler(Looking(None, folder), Facts()) == {}


IMAGE = Facts(width=30, height=20, batch=2)


def test_facts_of_upscale():
    assert facts.upscale(Facts(scale=4), IMAGE) == {"width": 120, "height": 80, "batch": 2}
    assert facts.upscale(Facts(), IMAGE) == {"batch": 2}
    assert facts.upscale(Facts(scale=4), Facts(width=30)) == {"width": 120}
    told = facts.upscale(Facts(scale=4), Facts(width=4000, height=4000))
    assert told == Mismatch(
        "image", "it takes a picture of 16000×16000 pixels", "ask for less: at most 178,956,970 pixels and 65,536 a side"
    )


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ({"scale": 2.5}, {"width": 75, "height": 50, "batch": 2}),
        ({"scale": 0.01}, {"width": 1, "height": 1, "batch": 2}),
        ({"width": 90, "height": 90}, {"width": 90, "height": 90, "batch": 2}),
        ({"width": 90}, {"width": 90, "batch": 2}),
        ({}, {"batch": 2}),
    ],
)
def test_facts_of_upscale_to(asked, known):
    ports = {port: Facts(value=asked.get(port)) for port in ("scale", "width", "height")}
    assert facts.upscale_to(Facts(scale=4), IMAGE, **ports) == known


@pytest.mark.parametrize(
    ("size", "asked", "known"),
    [
        ((30, 20), {"width": 90}, (90, 60)),
        ((30, 20), {"height": 1}, (2, 1)),
        ((5, 1), {"height": 3}, (15, 3)),
        ((4000, 4000), {"scale": 8.0}, "it takes a picture of 64000×64000 pixels"),
        ((3, 60_000), {"width": 100}, "it takes a picture of 192×3840000 pixels"),
        ((4000, 4000), {"scale": 1.0}, (4000, 4000)),
    ],
)
def test_facts_of_upscale_to_when_all_is_known(size, asked, known):
    ports = {port: Facts(value=asked[port]) if port in asked else NULL for port in ("scale", "width", "height")}
    image = Facts(width=size[0], height=size[1])
    found = facts.upscale_to(Facts(scale=4), image, **ports)
    if isinstance(known, str):
        assert isinstance(found, Mismatch)
        assert (found.port, found.text) == ("image", known)
        assert facts.upscale_to(Facts(), image, **ports).keys() == {"width", "height"}, "the scale of the model is not known"
    else:
        assert found == {"width": known[0], "height": known[1]}


def test_a_model_of_scale_1_reaches_no_size():
    found = facts.upscale_to(Facts(scale=1), IMAGE, Facts(value=2.0), NULL, NULL)
    assert isinstance(found, Mismatch)
    assert found.port == "model"
    assert facts.upscale_to(Facts(scale=1), IMAGE, Facts(value=0.5), NULL, NULL) == {"width": 15, "height": 10, "batch": 2}


def test_upscale_to_takes_a_scale_or_a_size():
    found = facts.upscale_to(Facts(scale=4), IMAGE, Facts(value=2.0), Facts(value=10), Facts())
    assert isinstance(found, Mismatch)
    assert found.port == "scale"
