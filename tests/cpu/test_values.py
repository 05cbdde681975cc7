"""Pictures that are given as values: from PIL, numpy and torch, with what cannot be a picture refused."""

import os

import msgpack
import numpy as np
import PIL.Image
import pytest
import torch

from nodegraph import Engine, File, Image, Mask, WorkflowInvalid, node
from nodegraph.packing import Packed, unpack

DEEP = np.array([[0, 255, 256], [257, 40_000, 65_535]], np.uint16)


@node
def same_image(image: Image) -> Image:
    return image


@node
def same_mask(mask: Mask) -> Mask:
    return mask


@pytest.fixture(scope="module")
def engine():
    with Engine(nodes=[same_image, same_mask], cache=False) as made:
        yield made


def given(engine, kind, value):
    flow = {"nodegraph": 1, "inputs": {"x": {"type": kind}}, "nodes": {"a": {"use": f"same_{kind}", "from": {kind: "inputs.x"}}}}
    return engine.run({**flow, "outputs": {"y": f"a.{kind}"}}, {"x": value}).outputs["y"].numpy()


def refused(engine, kind, value):
    with pytest.raises(WorkflowInvalid) as caught:
        given(engine, kind, value)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_deep_pil_pictures_keep_their_range(engine, kind):
    whole = PIL.Image.fromarray(DEEP.astype(np.int32))
    for picture in (PIL.Image.fromarray(DEEP), whole, PIL.Image.fromarray(DEEP / np.float32(65535))):
        pixels = given(engine, kind, picture)
        assert pixels.shape == (1, 3 if kind == "image" else 1, 2, 3)
        assert (np.rint(pixels * 65535.0) == DEEP).all(), picture.mode


@pytest.mark.parametrize("values", [np.float32(2), np.float32(-1), np.float32(np.nan), np.int32(65536), np.int32(-1)])
def test_deep_pil_pictures_without_a_known_white_are_refused(engine, values):
    problem = refused(engine, "image", PIL.Image.fromarray(np.full((2, 2), values)))
    assert (problem.code, problem.where) == ("wrong-type", "inputs.x")
    assert "the picture has values from" in problem.text


@pytest.mark.parametrize(
    ("values", "range_told", "fix"),
    [
        (255.0, "255 to 255", "divide them by 255"),
        (-0.5, "-0.5 to -0.5", "bring them to 0..1"),
        (np.nan, "nan to nan", "bring them to 0..1"),
    ],
)
def test_arrays_outside_of_0_to_1_are_refused(engine, values, range_told, fix):
    for kind, channels in (("image", 3), ("mask", 1)):
        array = np.full((1, channels, 2, 2), values, np.float32)
        for one in (array, torch.from_numpy(array)):
            problem = refused(engine, kind, one)
            assert problem.code == "out-of-range"
            assert problem.text == f"'x' takes values in 0..1, but these go from {range_told}"
            assert problem.fix == fix


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((1, 3, 2, 2)), "Image is float32, but the given data is float64"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.float16), "Image is float32, but the given data is float16"),
        (np.zeros((2, 2, 3), np.uint8), r"Image is [B,C,H,W], but the given shape is (2, 2, 3)"),
        (np.zeros((1, 4, 2, 2), np.float32), "Image is [B,3,H,W], but the given shape is (1, 4, 2, 2)"),
        (np.zeros((0, 3, 2, 2), np.float32), "Image has at least one pixel, but the given shape is (0, 3, 2, 2)"),
        (np.zeros((1, 3, 0, 2), np.float32), "Image has at least one pixel, but the given shape is (1, 3, 0, 2)"),
    ],
)
def test_arrays_that_are_no_picture_say_why(engine, array, told):
    problem = refused(engine, "image", array)
    assert problem.text == f"'x' takes an image, but this cannot be one: {told}"
    assert problem.fix == "give float32 [B,3,H,W] in 0..1, or a PIL picture"


def test_views_and_strides_do_not_matter(engine):
    array = np.random.default_rng(0).random((1, 6, 4, 3), np.float32)
    view = array[:, ::-2].transpose(0, 3, 1, 2)
    assert np.array_equal(given(engine, "image", view), view)
    assert np.array_equal(given(engine, "image", torch.from_numpy(array).permute(0, 3, 1, 2)), array.transpose(0, 3, 1, 2))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no file, but a pipe or a device"):
        File.at(tmp_path / "pipe")


@pytest.mark.parametrize(
    "array", [np.arange(3.0), torch.arange(3.0), torch.arange(3, dtype=torch.bfloat16), np.arange(3, dtype=np.complex128)]
)
def test_an_array_by_itself_comes_back_from_the_disk_as_what_it_was(array):
    [found] = unpack(memoryview(b"".join(Packed([array]).chunks())))
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


def test_an_array_of_a_kind_that_is_not_here_is_damage():
    head = msgpack.packb(["l", ["a", "<U3", [2], 0, 24]])
    start = 4 + 8 + len(head)
    raw = b"NGv1" + len(head).to_bytes(8, "little") + head + bytes(-start % 64) + bytes(24)
    with pytest.raises(ValueError, match="there are no arrays of <U3"):
        unpack(memoryview(raw))


def test_a_picture_whose_file_is_cut_off(engine, tmp_path):
    """PIL reads a file when its pixels are asked for."""
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with PIL.Image.open(tmp_path / "half.png") as picture:
        problem = refused(engine, "image", picture)
    assert (problem.code, problem.where) == ("wrong-type", "inputs.x")
    assert "truncated" in problem.text


def test_tensors_that_are_learned_are_taken_as_they_are(engine, recwarn):
    learned = torch.rand(1, 3, 2, 2, requires_grad=True)
    assert np.array_equal(given(engine, "image", learned), learned.detach().numpy())
    assert not recwarn.list


def test_tensors_without_numbers(engine):
    problem = refused(engine, "image", torch.zeros(1, 3, 2, 2, device="meta"))
    assert problem.text.startswith("'x' takes an image, but this cannot be one: ")
