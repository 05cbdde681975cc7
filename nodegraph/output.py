"""Writing the outputs of a workflow to files: images and masks as PNG, sound as WAV, video as animated PNG.

A file is named by workflow, output and key, written aside and renamed. The same content goes to the same file; other content
never overwrites a file, it gets a number. All of them carry what made them: as PNG text under `nodegraph`, or as the comment of a WAV.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from nodegraph import kinds
from nodegraph.metadata import TEXT_KEY
from nodegraph.values import Audio, Image, Mask, Video

KEY_DIGITS = 8
NAME_LENGTH = 80
"""The most bytes that a workflow's or an output's name gives to a file name: file systems take 255 in all."""
FILES = (Image, Mask, Audio, Video)
"""The values that are written to files."""


class Outputs(Protocol):
    """What is asked of a result."""

    @property
    def outputs(self) -> Mapping[str, Any]: ...

    @property
    def keys(self) -> Mapping[str, str]: ...

    def metadata(self, output: str) -> Mapping[str, Any]:
        """What made an output: workflow, inputs, keys, versions; no time and no host."""


def save_outputs(result: Outputs, folder: Path, workflow_name: str) -> dict[str, list[Path]]:
    """Write every output that is a picture, a mask, sound or video, or a list of these. Returns the paths by output.

    The folder is made when it is needed. Raises OSError when a file cannot be written.
    """
    written = {}
    for output, value in result.outputs.items():
        if is_file_output(value):
            key = result.keys.get(output) or kinds.content(value).hex()
            stem = f"{safe_name(workflow_name)}-{safe_name(output)}-{key[:KEY_DIGITS]}"
            written[output] = save_value(value, folder, stem, result.metadata(output))
    return written


def is_file_output(value: Any) -> bool:
    """Whether a value is written to files: a picture, a mask, sound, video, or a list of nothing else."""
    if _is_list(value):
        return len(value) > 0 and all(map(is_file_output, value))
    return isinstance(value, FILES)


def save_value(value: Any, folder: Path, stem: str, metadata: Mapping[str, Any]) -> list[Path]:
    """Write one value as `<stem>.png` or `.wav`; where it holds several, as `<stem>-01`, `<stem>-02`, …"""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metadata, ensure_ascii=True, separators=(",", ":"), default=_content)
    return [write_once(folder, stem + number, suffix, write) for number, suffix, write in _files(value, text, "")]


def safe_name(name: str) -> str:
    """A name as a part of a file name on every platform."""
    text = re.sub(r"[^\w.-]+", "_", name).strip("._")
    return text.encode()[:NAME_LENGTH].decode(errors="ignore") or "output"


def _content(value: Any) -> str:
    """What stands in metadata for a value that JSON cannot hold: its content, never its address or path."""
    return kinds.content(value).hex()


Write = Callable[[Path], None]


def _files(value: Any, text: str, number: str) -> Iterator[tuple[str, str, Write]]:
    """(number, suffix, how to write it) of each file that a value becomes."""
    if _is_list(value):
        for one, item in zip(_numbers(len(value), always=True), value, strict=True):
            yield from _files(item, text, number + one)
    elif isinstance(value, Image | Mask):
        for one, picture in zip(_numbers(len(value)), value.pil(), strict=True):
            yield number + one, ".png", partial(_write_png, [picture], text)
    elif isinstance(value, Audio):
        for index, one in enumerate(_numbers(len(value))):
            yield number + one, ".wav", partial(_write_wav, value, index, text)
    elif len(value):
        yield number, ".png", partial(_write_video, value, text)


def _numbers(count: int, always: bool = False) -> list[str]:
    """`-01`, `-02`, …; nothing for a single one of a batch."""
    if count == 1 and not always:
        return [""]
    return [f"-{index:0{max(2, len(str(count)))}d}" for index in range(1, count + 1)]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


# -- formats -----------------------------------------------------------------------------------------------------------


def _write_png(pictures: list[Any], text: str, path: Path, **options: Any) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(TEXT_KEY, text)
    pictures[0].save(path, format="PNG", pnginfo=info, **options)


def _write_video(video: Video, text: str, path: Path) -> None:
    """Animated PNG: without loss, and every browser shows it. Each frame's duration is rounded to a millisecond."""
    frames = Image(video.data).pil()
    starts = [round(1000 * index / video.rate) for index in range(len(frames) + 1)]
    durations = [after - before for before, after in pairwise(starts)]
    _write_png(frames, text, path, save_all=True, append_images=frames[1:], duration=durations, loop=0, disposal=0, blend=0)


def _write_wav(audio: Audio, index: int, text: str, path: Path) -> None:
    """PCM of 16 bit, clipped to -1..1; 1.0 is 32767. The text is the comment (RIFF LIST INFO ICMT) behind the samples."""
    import wave

    import numpy

    samples = numpy.clip(audio.numpy()[index], -1.0, 1.0)
    frames = numpy.rint(samples.T * numpy.float32(32767)).astype("<i2")
    with path.open("wb") as file, wave.open(file, "wb") as writer:
        writer.setnchannels(frames.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(audio.rate)
        writer.writeframes(frames.tobytes())
    raw = text.encode("ascii") + b"\0"
    raw += b"\0" * (len(raw) % 2)
    comment = b"LIST" + (12 + len(raw)).to_bytes(4, "little") + b"INFOICMT" + len(raw).to_bytes(4, "little") + raw
    with path.open("r+b") as whole:
        whole.seek(0, 2)
        whole.write(comment)
        size = whole.tell() - 8
        whole.seek(4)
        whole.write(size.to_bytes(4, "little"))


# -- files that never overwrite others ---------------------------------------------------------------------------------


def write_once(folder: Path, stem: str, suffix: str, write: Write) -> Path:
    """Write a file aside, and put it in place as `stem`, or `stem-2`, `-3`, … where that name has other content.

    Safe among processes: a name is taken only where there is none, or where the same bytes lie.
    """
    aside = folder / f".{stem}.{os.getpid()}.{os.urandom(4).hex()}{suffix}"
    try:
        write(aside)
        number = 1
        while not _take(aside, target := folder / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"):
            number += 1
        return target
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def _take(aside: Path, target: Path) -> bool:
    """Put the file in place, unless other content lies there."""
    try:
        os.link(aside, target)
        return True
    except FileExistsError:
        pass
    except OSError:  # a file system without links: claim the name, then rename over it
        try:
            target.open("xb").close()
        except FileExistsError:
            return _replace_same(aside, target)
        try:
            os.replace(aside, target)
        except OSError:
            target.unlink(missing_ok=True)  # nothing but the claim
            raise
        return True
    return _replace_same(aside, target)


def _replace_same(aside: Path, target: Path) -> bool:
    import filecmp

    try:
        if not target.is_file() or not filecmp.cmp(aside, target, shallow=False):
            return False
    except PermissionError:  # another user's, who lets nobody read it
        return False
    with suppress(PermissionError):  # another user's: the same bytes lie there
        os.replace(aside, target)
    return True


__all__ = ["FILES", "TEXT_KEY", "Outputs", "is_file_output", "safe_name", "save_outputs", "save_value", "write_once"]
