"""Picture files: every mode, orientation and fault that a file can have, and saving without ever overwriting."""

import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ImageCms, ImageOps

from nodegraph import File, Image, Invalid, Mask, Run
from nodes.core.facts.sizes import MAX_PIXELS
from nodes.core.images import load_image, load_mask, save_image
from nodes.core.saving import JPEG_EXIF_BYTES

ROOT = Path(__file__).parents[2]

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
RGB = PIL.Image.fromarray(PIXELS[:, :, :3])
RGBA = PIL.Image.fromarray(PIXELS)


def written(folder, picture, name="picture.png", **options):
    path = folder / name
    picture.save(path, **options)
    return File.at(path)


def loaded(file):
    """uint8 [H,W,3], and float32 alpha [H,W]."""
    image, mask = load_image(file)
    assert len(image) == len(mask) == 1
    return image.bytes_hwc()[0], mask.numpy()[0, 0]


def png(width, height, depth, kind, rows, *further, scale=1):
    """A PNG from raw rows. `kind` is PNG's colour type; `further` are (name, data) chunks before the pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in [(b"IHDR", head), *further, (b"IDAT", pixels), (b"IEND", b"")])


# --- formats and modes ---------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True}), ("a.bmp", {}), ("a.tiff", {})])
def test_lossless_files_give_their_pixels(tmp_path, name, options):
    pixels, alpha = loaded(written(tmp_path, RGB, name, **options))
    assert np.array_equal(pixels, PIXELS[:, :, :3])
    assert (alpha == 1).all()


def test_jpeg_gives_what_pillow_decodes(tmp_path):
    file = written(tmp_path, RGB.resize((70, 50)), "a.jpg", quality=90)
    assert np.array_equal(loaded(file)[0], np.asarray(PIL.Image.open(file.path)))


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True, "exact": True})])
def test_alpha_is_the_mask_and_colours_stay_straight(tmp_path, name, options):
    pixels, alpha = loaded(written(tmp_path, RGBA, name, **options))
    assert np.array_equal(pixels, PIXELS[:, :, :3])
    assert np.array_equal(np.rint(alpha * 255), PIXELS[:, :, 3])


def test_the_name_of_a_file_does_not_matter(tmp_path):
    RGB.save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(loaded(File.at(tmp_path / "a.jpg"))[0], PIXELS[:, :, :3])


def test_grey_and_black_and_white(tmp_path):
    grey = RGB.convert("L")
    pixels, _ = loaded(written(tmp_path, grey))
    assert np.array_equal(pixels, np.repeat(np.asarray(grey)[:, :, None], 3, axis=2))
    pixels, _ = loaded(written(tmp_path, RGB.convert("1")))
    assert set(np.unique(pixels)) <= {0, 255}


def test_grey_with_alpha(tmp_path):
    pixels, alpha = loaded(written(tmp_path, RGBA.convert("LA")))
    assert np.array_equal(pixels[:, :, 0], np.asarray(RGBA.convert("LA"))[:, :, 0])
    assert np.array_equal(np.rint(alpha * 255), PIXELS[:, :, 3])


def test_palettes_with_and_without_transparency(tmp_path):
    palette = RGB.quantize(8)
    pixels, alpha = loaded(written(tmp_path, palette))
    assert np.array_equal(pixels, np.asarray(palette.convert("RGB")))
    assert (alpha == 1).all()
    _, alpha = loaded(written(tmp_path, palette, transparency=3))
    assert np.array_equal(alpha == 0, np.asarray(palette) == 3)


def test_a_transparent_colour_of_an_rgb_png(tmp_path):
    red, green, blue = (int(value) for value in PIXELS[2, 3, :3])
    _, alpha = loaded(written(tmp_path, RGB, transparency=(red, green, blue)))
    assert alpha[2, 3] == 0
    assert alpha.sum() == alpha.size - 1


def test_cmyk(tmp_path):
    file = written(tmp_path, RGB.resize((70, 50)).convert("CMYK"), "a.jpg")
    assert np.array_equal(loaded(file)[0], np.asarray(PIL.Image.open(file.path).convert("RGB")))


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_16_bit_png_keeps_all_bits(tmp_path, kind, channels):
    deep = np.random.default_rng(1).integers(0, 65536, (5, 7, channels))
    path = tmp_path / "deep.png"
    path.write_bytes(png(7, 5, 16, kind, [row.astype(">u2").tobytes() for row in deep]))
    image, mask = load_image(File.at(path))
    wanted = np.repeat(deep, 3, axis=2) if channels == 1 else deep[:, :, :3]
    assert np.array_equal(np.rint(image.numpy()[0].transpose(1, 2, 0).astype(np.float64) * 65535), wanted)
    assert np.array_equal(np.rint(mask.numpy()[0, 0] * 65535.0), deep[:, :, 3] if channels == 4 else np.full((5, 7), 65535))


@pytest.mark.parametrize("kind", [0, 2, 4])
@pytest.mark.parametrize("profile", [False, True])
def test_16_bit_png_with_transparency(tmp_path, kind, profile):
    """A transparent value of grey or of a colour, and alpha beside grey."""
    channels = {0: 1, 2: 3, 4: 2}[kind]
    deep = np.random.default_rng(1).integers(0, 65536, (5, 7, channels))
    deep[1, 1] = deep[0, 0] + np.arange(channels)[::-1] // (channels - 1 or 1)  # differs in the low bits of one channel alone
    chunks = [] if kind == 4 else [(b"tRNS", deep[0, 0].astype(">u2").tobytes())]
    chunks += [(b"iCCP", b"p\0\0" + zlib.compress(_profile_with_swapped_primaries()))] if profile else []
    path = tmp_path / "deep.png"
    path.write_bytes(png(7, 5, 16, kind, [row.astype(">u2").tobytes() for row in deep], *chunks))
    image, mask = load_image(File.at(path))
    alpha = deep[:, :, 1] if kind == 4 else 65535 * (deep != deep[0, 0]).any(axis=2)
    assert np.array_equal(np.rint(mask.numpy()[0, 0] * 65535.0), alpha)
    if not profile:
        colors = deep if kind == 2 else np.repeat(deep[:, :, :1], 3, axis=2)
        assert np.array_equal(np.rint(image.numpy()[0].transpose(1, 2, 0).astype(np.float64) * 65535), colors)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_value_of_grey_in_few_bits(tmp_path, depth):
    values = np.random.default_rng(1).integers(0, 2**depth, (5, 8))
    values[0, 0] = 1
    rows = [np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, -depth:]).tobytes() for row in values]
    path = tmp_path / "grey.png"
    path.write_bytes(png(8, 5, depth, 0, rows, (b"tRNS", b"\0\1")))
    pixels, alpha = loaded(File.at(path))
    assert np.array_equal(pixels[:, :, 0], values * 255 // (2**depth - 1))
    assert np.array_equal(alpha, values != 1)


def tiff(pixels: np.ndarray, end: str, planes: bool, packed: bool, bits: int = 16, more: dict[int, int] | None = None) -> bytes:
    """A TIFF file of pixels [H,W,C], RGB or RGBA unless `more` tags say otherwise (0 leaves one out), of one strip, or of one for each
    plane."""
    height, width, channels = pixels.shape
    strips = pixels.transpose(2, 0, 1) if planes else pixels[None]
    data = [strip.astype(f"{end}u{bits // 8}").tobytes() for strip in strips]
    data = [zlib.compress(one) for one in data] if packed else data
    offsets = list(np.cumsum([8] + [len(one) for one in data]))
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [8 if packed else 1]}
    tags |= {262: [2], 273: offsets[:-1], 277: [channels], 278: [height], 279: [len(one) for one in data], 284: [1 + planes]}
    tags |= {338: [2]} if channels == 4 else {}
    tags |= {tag: [value] for tag, value in (more or {}).items()}
    tags = {tag: values for tag, values in sorted(tags.items()) if values != [0]}
    entries, further, place = b"", b"", offsets[-1] + 2 + 12 * len(tags) + 4
    for tag, values in tags.items():
        raw = struct.pack(f"{end}{len(values)}I", *values)
        entries += struct.pack(f"{end}HHI", tag, 4, len(values)) + (raw if len(raw) == 4 else struct.pack(f"{end}I", place + len(further)))
        further += raw if len(raw) > 4 else b""
    head = (b"II" if end == "<" else b"MM") + struct.pack(f"{end}HI", 42, offsets[-1])
    return head + b"".join(data) + struct.pack(f"{end}H", len(tags)) + entries + bytes(4) + further


@pytest.mark.parametrize("end", "<>")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("planes", "packed"), [(False, False), (False, True), (True, False)])
def test_16_bit_tiff_keeps_all_bits(tmp_path, end, channels, planes, packed):
    deep = np.random.default_rng(1).integers(0, 65536, (5, 7, channels))
    path = tmp_path / "deep.tiff"
    path.write_bytes(tiff(deep, end, planes, packed))
    image, mask = load_image(File.at(path))
    assert np.array_equal(np.rint(image.numpy()[0].transpose(1, 2, 0).astype(np.float64) * 65535), deep[:, :, :3])
    assert np.array_equal(np.rint(mask.numpy()[0, 0] * 65535.0), deep[:, :, 3] if channels == 4 else np.full((5, 7), 65535))


def test_16_bit_grey_tiff_and_float_tiff(tmp_path):
    deep = np.random.default_rng(2).integers(0, 65536, (5, 7)).astype(np.uint16)
    image, _ = load_image(written(tmp_path, PIL.Image.fromarray(deep), "deep.tiff"))
    assert np.array_equal(np.rint(image.numpy()[0, 0] * 65535.0), deep)
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    image, _ = load_image(written(tmp_path, PIL.Image.fromarray(values), "float.tiff"))
    assert np.array_equal(image.numpy()[0, 1], values)
    with pytest.raises(Invalid, match="values from 0 to 2"):
        load_image(written(tmp_path, PIL.Image.fromarray(values * 2), "bright.tiff"))


def grey_tiff(values: np.ndarray, bits: int, white: int, end: str = "<") -> bytes:
    """A TIFF file of one strip of whole numbers [H,W] of 12 or 16 bits. `white`: 1 where the greatest is white, 0 where the least is."""
    height, width = values.shape
    lines = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    rows = [int(line.ljust(-(-len(line) // 8) * 8, "0"), 2).to_bytes(-(-len(line) // 8)) for line in lines]
    data = values.astype(f"{end}u2").tobytes() if bits == 16 else b"".join(rows)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: white, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack(f"{end}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II" if end == "<" else b"MM") + struct.pack(f"{end}HI", 42, 8 + len(data))
    return head + data + struct.pack(f"{end}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(("bits", "white"), [(12, 1), (16, 0), (16, 1)])
def test_grey_tiff_of_other_kinds(tmp_path, bits, white):
    values = np.random.default_rng(3).integers(0, 2**bits, (5, 7))
    values[0, :2] = 0, 2**bits - 1
    path = tmp_path / "grey.tiff"
    path.write_bytes(grey_tiff(values, bits, white))
    image, _ = load_image(File.at(path))
    told = values if white else 2**bits - 1 - values
    assert np.array_equal(np.rint(image.numpy()[0, 0].astype(np.float64) * (2**bits - 1)), told)


def test_a_tiff_of_a_kind_that_is_not_read(tmp_path):
    path = tmp_path / "grey.tiff"
    path.write_bytes(grey_tiff(np.zeros((5, 7), int), 16, 0, ">"))  # Pillow knows it of the other end alone
    with pytest.raises(Invalid, match="is a TIFF of a kind that is not read here") as caught:
        load_image(File.at(path))
    assert caught.value.fix == "save it as a PNG, or as a TIFF of 8 or 16 bits a channel"


GREY_AND_ALPHA = np.array([[[0, 100], [50, 100], [100, 200], [200, 255]]])


def test_grey_that_is_multiplied_by_its_alpha(tmp_path):
    path = tmp_path / "grey.tiff"
    path.write_bytes(tiff(GREY_AND_ALPHA, "<", planes=False, packed=False, bits=8, more={262: 1, 338: 1}))
    pixels, alpha = loaded(File.at(path))
    assert pixels[0, :, 0].tolist() == [0, 127, 127, 200]
    assert np.rint(alpha[0] * 255).tolist() == [100, 100, 200, 255]


@pytest.mark.parametrize(
    ("channels", "packed", "bits", "more"),
    [(2, False, 8, {262: 1, 338: 2}), (2, True, 8, {262: 1, 338: 2}), (2, True, 8, {262: 1, 338: 1}), (4, False, 16, {262: 5, 338: 0})],
)
def test_planes_that_cannot_be_put_together(tmp_path, channels, packed, bits, more):
    path = tmp_path / "planes.tiff"
    data = tiff(np.full((5, 7, channels), 70), "<", planes=True, packed=packed, bits=bits, more=more)
    path.write_bytes(data)
    with pytest.raises(Invalid, match="in planes, one after the other") as caught:
        load_image(File.at(path))
    assert caught.value.fix == "save it as a PNG, or as a TIFF in which the channels of a pixel lie together"


def test_grey_bytes_with_a_sign(tmp_path):
    path = tmp_path / "signed.tiff"
    for values in ([0, 1, 127], [0, -1, -128]):
        pixels = np.array(values, np.int8).view(np.uint8).reshape(1, 3, 1)
        path.write_bytes(tiff(pixels, "<", planes=False, packed=False, bits=8, more={262: 1, 339: 2}))
        if min(values) >= 0:
            assert loaded(File.at(path))[0][0, :, 0].tolist() == values
            continue
        with pytest.raises(Invalid, match="has values from -128 to 0"):
            load_image(File.at(path))


@pytest.mark.parametrize("end", "<>")
@pytest.mark.parametrize(("bits", "values"), [(16, [0, 5, 32767]), (16, [0, -5, 32767]), (32, [0, 5, 65535]), (32, [0, -5, 70000])])
def test_grey_numbers_with_a_sign(tmp_path, end, bits, values):
    """The advice was to scale them to what 16 bits with a sign do not hold."""
    path = tmp_path / "signed.tiff"
    pixels = np.array(values, f"i{bits // 8}").view(f"u{bits // 8}").reshape(1, 3, 1)
    path.write_bytes(tiff(pixels, end, planes=False, packed=False, bits=bits, more={262: 1, 339: 2}))
    if min(values) >= 0:
        assert np.rint(load_image(File.at(path)).image.numpy()[0, 0, 0] * 65535.0).tolist() == values
        return
    with pytest.raises(Invalid, match="has values from -5 to ") as caught:
        load_image(File.at(path))
    assert caught.value.fix == "scale them to 0..65535 first, and save them as numbers without a sign"


def test_numbers_of_32_bits_are_told_as_they_are(tmp_path):
    """They were told as numbers below 0."""
    path = tmp_path / "large.tiff"
    path.write_bytes(tiff(np.array([0, 2**32 - 1]).reshape(1, 2, 1), "<", planes=False, packed=False, bits=32, more={262: 1}))
    with pytest.raises(Invalid, match=r"has values from 0 to 4\.29497e\+09") as caught:
        load_image(File.at(path))
    assert caught.value.fix == "scale them to 0..65535 first"


def test_a_float_tiff_of_what_is_no_number(tmp_path):
    values = np.array([[0, np.nan, 1]], np.float32)
    with pytest.raises(Invalid, match="has values that are no numbers") as caught:
        load_image(written(tmp_path, PIL.Image.fromarray(values), "float.tiff"))
    assert caught.value.fix == "put numbers from 0 to 1 in their place"


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "lime")]
    for name in ("a.gif", "a.webp", "a.png"):
        file = written(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
        assert (loaded(file)[0] == (255, 0, 0)).all(), name


def test_a_colour_profile_is_followed(tmp_path):
    # a profile whose red and blue primaries are exchanged, so that red in the file is blue
    swapped = ImageCms.ImageCmsProfile(io.BytesIO(_profile_with_swapped_primaries()))
    red = PIL.Image.new("RGB", (4, 4), (255, 0, 0))
    for picture in (red, red.quantize(2), PIL.Image.new("RGBA", (4, 4), (255, 0, 0, 9))):
        file = written(tmp_path, picture, icc_profile=swapped.tobytes())
        pixels, alpha = loaded(file)
        assert pixels[0, 0, 2] > 200 > 50 > pixels[0, 0, 0]
        assert alpha[0, 0] == (np.float32(9 / 255) if picture.mode == "RGBA" else 1)


def test_an_srgb_profile_changes_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"this is no profile"):
        assert np.array_equal(loaded(written(tmp_path, RGB, icc_profile=profile))[0], PIXELS[:, :, :3])


def _profile_with_swapped_primaries():
    raw = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", raw[128:132])[0]
    entries = {bytes(raw[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = raw[entries[b"rXYZ"] + 4 : entries[b"rXYZ"] + 12], raw[entries[b"bXYZ"] + 4 : entries[b"bXYZ"] + 12]
    raw[entries[b"rXYZ"] + 4 : entries[b"rXYZ"] + 12], raw[entries[b"bXYZ"] + 4 : entries[b"bXYZ"] + 12] = blue, red
    return bytes(raw).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(b"sRGB", b"swap")


# --- orientation ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_put_upright(tmp_path, orientation, name):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = written(tmp_path, RGBA if name == "a.png" else RGB, name, exif=exif, lossless=True)
    upright = ImageOps.exif_transpose(PIL.Image.open(file.path))
    pixels, alpha = loaded(file)
    assert np.array_equal(pixels, np.asarray(upright.convert("RGB")))
    if name == "a.png":
        assert np.array_equal(np.rint(alpha * 255), np.asarray(upright)[:, :, 3])


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_tiff_of_one_plane(tmp_path, orientation, mode):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    deep = PIL.Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)
    picture = deep if mode == "I;16" else PIL.Image.fromarray(PIXELS, mode) if mode == "CMYK" else RGB.convert(mode)
    pixels, _ = loaded(written(tmp_path, picture, "a.tiff", exif=exif))
    shown = PIL.Image.fromarray(np.repeat(PIXELS[:, :, :1], 3, axis=2)) if mode == "I;16" else picture.convert("RGB")
    shown.getexif()[0x0112] = orientation
    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(shown)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_exif_data_that_cannot_be_read_is_no_fault(tmp_path):
    file = written(tmp_path, RGB, exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff")
    assert np.array_equal(loaded(file)[0], PIXELS[:, :, :3])


# --- what is wrong with files --------------------------------------------------------


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(100_000, 100_000, 8, 2, [b""]))
    with pytest.raises(Invalid, match=r"larger than|100000") as caught:
        load_image(File.at(path))
    assert caught.value.port == "file"


def test_pillow_says_nothing_of_a_large_picture(tmp_path):
    """It warns from half the size on that is read here. In a process of its own, as pytest has its own ways with warnings."""
    (tmp_path / "large.png").write_bytes(png(10_000, 9_000, 8, 0, [b""]))
    write = '{"inputs": {"f": {"type": "TYPE"}}, "nodes": {"a": {"use": "USE", "from": {"PORT": "inputs.f"}}}, "outputs": {"x": "a.image"}}'
    for words in (("file", "load_image", "file"), ("image", "invert", "image")):
        kind, use, port = words
        (tmp_path / "w.json").write_text(write.replace("TYPE", kind).replace("USE", use).replace("PORT", port))
        command = [sys.executable, "-m", "nodegraph", "run", "w.json", "--set", "f=large.png", "--no-cache"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert "truncated" in done.stderr
        assert "Warning" not in done.stderr


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS // 10_000 + 1, 10_000), (70_000, 1)])
def test_the_bounds_hold_whatever_pillow_is_told(tmp_path, monkeypatch, width, height):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    path = tmp_path / "large.png"
    path.write_bytes(png(width, height, 8, 0, [b""]))
    with pytest.raises(Invalid, match=f"has {width}×{height} pixels"):
        load_image(File.at(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"a fox in the snow\n", r"is a text file, whatever its name says \(it begins with 'a fox in the snow"),
        (b"\x00\x01\x02\x03" * 20, "is no picture in a format that is read here"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is a text file"),
    ],
)
def test_a_file_that_is_no_picture(tmp_path, content, told):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=told):
        load_image(File.at(path))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp"])
def test_a_truncated_file_is_damaged(tmp_path, name):
    noise = PIL.Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8))
    written(tmp_path, noise, name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(Invalid, match=r"is damaged|is no picture"):
        load_image(File.at(tmp_path / name))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(Invalid, match="there is no file"):
        load_image(File(str(tmp_path / "none.png")))
    with pytest.raises(Invalid, match="cannot be read"):
        load_image(File(str(tmp_path)))


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), st.data())
def test_a_file_with_wrong_bytes_gives_a_picture_or_invalid(tmp_path, format, data):
    buffer = io.BytesIO()
    RGB.save(buffer, format)
    content = bytearray(buffer.getvalue())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzz"
    path.write_bytes(content)
    with contextlib.suppress(Invalid):
        image, mask = load_image(File.at(path))
        assert image.shape[2:] == mask.shape[2:]


# --- masks ---------------------------------------------------------------------------


def test_masks_from_files(tmp_path):
    file = written(tmp_path, RGBA)
    assert np.array_equal(load_mask(file, "alpha").bytes_hwc()[0, :, :, 0], PIXELS[:, :, 3])
    assert np.array_equal(load_mask(file, "green").bytes_hwc()[0, :, :, 0], PIXELS[:, :, 1])
    luma = PIXELS[:, :, :3].astype(np.float64) @ (0.2126, 0.7152, 0.0722) / 255
    assert np.abs(load_mask(file).numpy()[0, 0] - luma).max() < 1e-6
    assert np.abs(load_mask(file, invert=True).numpy()[0, 0] - (1 - luma)).max() < 1e-6


def test_alpha_of_a_file_without_alpha_is_invalid(tmp_path):
    with pytest.raises(Invalid, match="has no alpha") as caught:
        load_mask(written(tmp_path, RGB), "alpha")
    assert caught.value.port == "channel"


# --- saving --------------------------------------------------------------------------


class FakeRun(Run):
    def __init__(self, output, metadata=None, path="final/save[2]"):
        self.output, self._metadata, self.path, self.workflow = output, metadata or {}, path, "photo edit"
        self.files = []

    def metadata(self):
        return self._metadata

    def saved(self, path):
        self.files.append(path)


IMAGE = Image(np.random.default_rng(4).random((2, 3, 20, 30), np.float32))
ONE = Image(IMAGE.numpy()[:1])


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_saving_gives_the_same_pixels_back(tmp_path):
    run = FakeRun(tmp_path)
    files = save_image(IMAGE, run=run)
    assert [str(path.resolve()) for path in run.files] == [file.path for file in files]
    for index, file in enumerate(files):
        assert np.array_equal(np.asarray(PIL.Image.open(file.path)), IMAGE.bytes_hwc()[index])


def test_saving_again_writes_nothing_new(tmp_path):
    first = save_image(IMAGE, run=FakeRun(tmp_path))
    before = content(tmp_path)
    assert save_image(IMAGE, run=FakeRun(tmp_path)) == first
    assert content(tmp_path) == before
    assert len(before) == 2


@pytest.mark.parametrize("name", ["fox", "fox-{n:03}"])
def test_other_content_never_overwrites(tmp_path, name):
    for _ in range(2):
        save_image(IMAGE, name, run=FakeRun(tmp_path))
    inverse = Image(1 - ONE.numpy())
    save_image(inverse, name, run=FakeRun(tmp_path))
    saved = content(tmp_path)
    assert sorted(saved) == (["fox-2.png", "fox-3.png", "fox.png"] if name == "fox" else ["fox-001.png", "fox-002.png", "fox-003.png"])
    last = np.asarray(PIL.Image.open(tmp_path / ("fox-3.png" if name == "fox" else "fox-003.png")))
    assert np.array_equal(last, inverse.bytes_hwc()[0])


def test_names_from_fields(tmp_path):
    save_image(IMAGE, "out/{workflow}/{node}_{index}", run=FakeRun(tmp_path))
    assert sorted(content(tmp_path)) == ["out/photo-edit/final-save-2_0.png", "out/photo-edit/final-save-2_1.png"]
    assert save_image(ONE, run=FakeRun(tmp_path / "b"))[0].path.rpartition("/")[2].startswith("photo-edit-final-save-2-")


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "a/", "x/..", "../fox", "/fox", "a/../../fox", "{fox}", "fox\0", "a:b", "x" * 300, "{node.x}"]
)
def test_a_name_that_leads_elsewhere_is_invalid(tmp_path, name):
    with pytest.raises(Invalid) as caught:
        save_image(ONE, name, run=FakeRun(tmp_path / "output"))
    assert caught.value.port == "name"
    assert content(tmp_path) == {}


@pytest.mark.parametrize(("format", "longest"), [("jpeg", 65_500), ("webp", 16_383)])
def test_the_longest_side_of_a_format(tmp_path, format, longest):
    strip = np.zeros((1, 3, 1, longest + 1), np.float32)
    (file,) = save_image(Image(strip[..., 1:]), format=format, run=FakeRun(tmp_path))
    assert PIL.Image.open(file.path).size == (longest, 1)
    with pytest.raises(Invalid, match=f"a {format} of {longest + 1}×1 pixels") as caught:
        save_image(Image(strip), format=format, run=FakeRun(tmp_path))
    assert caught.value.port == "format"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "output" / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="below the output folder"):
        save_image(ONE, "out/fox", run=FakeRun(tmp_path / "output"))


@pytest.mark.parametrize(
    ("name", "told"),
    [("taken/fox", "File exists"), ("/".join(["x" * 190] * 30), "File name too long"), ("circle", "Symlink loop|symbolic links")],
    ids=["file", "long", "circle"],
)
def test_a_file_that_cannot_be_written_is_told_by_its_name(tmp_path, name, told):
    (tmp_path / "taken").write_bytes(b"a file")
    (tmp_path / "circle.png").symlink_to("circle.png")
    with pytest.raises(Invalid, match=f"cannot be written into '.*': .*({told})") as caught:
        save_image(ONE, name, run=FakeRun(tmp_path))
    assert caught.value.port == "name"


def test_many_at_once_each_get_a_file(tmp_path):
    images = [Image(np.full((1, 3, 8, 8), k / 16, np.float32)) for k in range(16)]
    threads = [threading.Thread(target=save_image, args=(image, "fox-{n}"), kwargs={"run": FakeRun(tmp_path)}) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    saved = content(tmp_path)
    assert sorted(saved) == sorted(f"fox-{n}.png" for n in range(1, 17))
    assert len({PIL.Image.open(io.BytesIO(data)).getpixel((0, 0)) for data in saved.values()}) == 16


def test_without_hard_links_files_are_still_claimed(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError("this file system has no links")

    monkeypatch.setattr("os.link", no_links)
    save_image(IMAGE, "fox", run=FakeRun(tmp_path))
    assert sorted(content(tmp_path)) == ["fox-2.png", "fox.png"]


def test_a_name_that_was_claimed_in_vain_is_given_up(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(Invalid, match="No space left"):
        save_image(ONE, "fox", run=FakeRun(tmp_path))
    assert not content(tmp_path)


def test_a_file_of_another_user_is_let_be(tmp_path, monkeypatch):
    save_image(ONE, "fox", run=FakeRun(tmp_path))

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(type(tmp_path), "read_bytes", refuse)
        save_image(ONE, "fox", run=FakeRun(tmp_path))
    assert sorted(content(tmp_path)) == ["fox-2.png", "fox.png"]


METADATA = {"workflow": {"name": "Füchse", "nodes": {}}, "inputs": {"seed": 1}}


def test_a_png_tells_of_its_making(tmp_path):
    file = save_image(ONE, run=FakeRun(tmp_path, METADATA))[0]
    assert json.loads(PIL.Image.open(file.path).text["nodegraph"]) == METADATA
    bare = save_image(ONE, "bare", embed=False, run=FakeRun(tmp_path, METADATA))[0]
    assert PIL.Image.open(bare.path).text == {}


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_jpeg_and_webp_tell_of_their_making(tmp_path, format):
    file = save_image(ONE, format=format, run=FakeRun(tmp_path, METADATA))[0]
    picture = PIL.Image.open(file.path)
    comment = picture.getexif().get_ifd(0x8769)[0x9286]
    assert picture.format == format.upper()
    assert comment[:8] == b"ASCII\0\0\0"
    assert json.loads(comment[8:]) == METADATA
    assert np.array_equal(loaded(file)[0], np.asarray(picture))


def test_metadata_too_large_for_a_jpeg(tmp_path):
    run = FakeRun(tmp_path, {"text": np.random.default_rng(0).bytes(JPEG_EXIF_BYTES).hex()})  # cannot be deflated enough
    with pytest.raises(Invalid, match="too large to be embedded"):
        save_image(ONE, format="jpeg", run=run)
    assert len(save_image(ONE, format="jpeg", embed=False, run=run)) == 1
    fits = FakeRun(tmp_path, {"text": "x" * (JPEG_EXIF_BYTES - 100)})
    assert len(save_image(ONE, "fits", format="jpeg", run=fits)) == 1


@pytest.mark.parametrize("format", ["png", "webp"])
def test_saving_with_alpha(tmp_path, format):
    mask = Mask(np.random.default_rng(5).random((1, 1, 20, 30), np.float32))
    files = save_image(IMAGE, format=format, mask=mask, run=FakeRun(tmp_path))
    for file in files:
        assert np.array_equal(load_image(file).mask.bytes_hwc(), mask.bytes_hwc())


def test_wrong_masks(tmp_path):
    with pytest.raises(Invalid, match="jpeg has no alpha"):
        save_image(ONE, format="jpeg", mask=Mask(np.ones((1, 1, 20, 30), np.float32)), run=FakeRun(tmp_path))
    with pytest.raises(Invalid, match="'mask' has 5×5 pixels"):
        save_image(ONE, mask=Mask(np.ones((1, 1, 5, 5), np.float32)), run=FakeRun(tmp_path))
