"""Writing workflow outputs to files."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import PIL.Image
import pytest

from nodegraph import Audio, Image, Mask, Video
from nodegraph.output import TEXT_KEY, is_file_output, safe_name, save_outputs, save_value

METADATA = {"workflow": {"name": "é – ü"}, "inputs": {"prompt": "a \x00 fox"}}


def result(**outputs: Any) -> SimpleNamespace:
    keys = dict.fromkeys(outputs, "0123456789abcdef")
    return SimpleNamespace(outputs=outputs, keys=keys, metadata=lambda output: {**METADATA, "output": output})


def image(count: int = 1, level: float = 0.5, channels: int = 3) -> numpy.ndarray:
    return numpy.full((count, channels, 4, 6), level, dtype=numpy.float32)


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_names_come_from_workflow_output_and_key(tmp_path: Path) -> None:
    paths = save_outputs(result(image=Image(image()), text="no file", number=5), tmp_path / "new", "my flow/2")
    assert paths == {"image": [tmp_path / "new" / "my_flow_2-image-01234567.png"]}
    assert written(tmp_path / "new") == ["my_flow_2-image-01234567.png"]


def test_pictures_are_exact_and_carry_what_made_them(tmp_path: Path) -> None:
    pixels = numpy.random.default_rng(0).random((1, 3, 4, 6), dtype=numpy.float32)
    [path] = save_outputs(result(image=Image(pixels)), tmp_path, "w")["image"]
    with PIL.Image.open(path) as picture:
        assert json.loads(picture.text[TEXT_KEY]) == {**METADATA, "output": "image"}
        assert numpy.array_equal(numpy.asarray(picture), Image(pixels).bytes_hwc()[0])


def test_masks_are_grey(tmp_path: Path) -> None:
    [path] = save_value(Mask(image(channels=1)), tmp_path, "m", {})
    with PIL.Image.open(path) as picture:
        assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("L", (6, 4), 128)


def test_batches_and_lists_are_numbered(tmp_path: Path) -> None:
    save_value(Image(image(2)), tmp_path, "batch", {})
    save_value([Image(image(1, 0.1)), Image(image(2, 0.2))], tmp_path, "list", {})
    save_value([Image(image())], tmp_path, "one", {})
    assert written(tmp_path) == ["batch-01.png", "batch-02.png", "list-01.png", "list-02-01.png", "list-02-02.png", "one-01.png"]


def test_the_same_content_is_written_to_the_same_file(tmp_path: Path) -> None:
    [first] = save_value(Image(image()), tmp_path, "a", {"x": 1})
    os.utime(first, (0, 0))
    assert save_value(Image(image()), tmp_path, "a", {"x": 1}) == [first]
    assert first.stat().st_mtime > 0
    assert written(tmp_path) == ["a.png"]


def test_other_content_never_overwrites(tmp_path: Path) -> None:
    paths = [save_value(Image(image(level=level)), tmp_path, "a", {})[0].name for level in (0.1, 0.2, 0.3, 0.2)]
    assert paths == ["a.png", "a-2.png", "a-3.png", "a-2.png"]
    assert save_value(Image(image(level=0.1)), tmp_path, "a", {"other": "metadata"})[0].name == "a-4.png"


def test_without_links_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    test_other_content_never_overwrites(tmp_path)


def refusing(number: int) -> Any:
    def refuse(*args: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_name_that_was_claimed_in_vain_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    monkeypatch.setattr(os, "replace", refusing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        save_value(Image(image()), tmp_path, "a", {})
    assert written(tmp_path) == []


def test_files_of_another_user_are_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [first] = save_value(Image(image(level=0.1)), tmp_path, "a", {})
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refusing(errno.EPERM))  # as in a sticky folder
        assert save_value(Image(image(level=0.1)), tmp_path, "a", {}) == [first]
        patched.setattr(filecmp, "cmp", refusing(errno.EACCES))
        assert save_value(Image(image(level=0.1)), tmp_path, "a", {}) == [tmp_path / "a-2.png"]
    assert written(tmp_path) == ["a-2.png", "a.png"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    audio = Audio(numpy.zeros((1, 1, 4), dtype=numpy.float32), rate=-1)
    with pytest.raises(Exception, match="rate"):
        save_value(audio, tmp_path, "a", {})
    assert written(tmp_path) == []


def test_audio_is_pcm_of_16_bit(tmp_path: Path) -> None:
    left, right = numpy.array([0.0, 1.0, -1.0, 2.0]), numpy.array([0.5, -0.5, 0.25, -3.0])
    [path] = save_value(Audio(numpy.stack([left, right])[None].astype(numpy.float32), rate=8000), tmp_path, "a", {})
    with wave.open(str(path)) as reader:
        assert reader.getparams()[:4] == (2, 2, 8000, 4)
        samples = numpy.frombuffer(reader.readframes(4), "<i2").reshape(4, 2)
    assert samples.tolist() == [[0, 16384], [32767, -16384], [-32767, 8192], [32767, -32767]]


def test_video_is_an_animated_png_without_loss(tmp_path: Path) -> None:
    frames = numpy.random.default_rng(1).random((3, 3, 4, 6), dtype=numpy.float32)
    [path] = save_value(Video(frames, rate=24.0), tmp_path, "v", METADATA)
    with PIL.Image.open(path) as picture:
        assert picture.n_frames == 3
        assert json.loads(picture.text[TEXT_KEY]) == METADATA
        total = 0.0
        for index in range(3):
            picture.seek(index)
            total += picture.info["duration"]
            assert numpy.array_equal(numpy.asarray(picture.convert("RGB")), Image(frames).bytes_hwc()[index])
    assert total == 125


def test_equal_frames_keep_their_time(tmp_path: Path) -> None:
    frames = numpy.concatenate([image(3, 0.1), image(2, 0.2)])
    [path] = save_value(Video(frames, rate=10.0), tmp_path, "v", {})
    with PIL.Image.open(path) as picture:
        durations = []
        for index in range(picture.n_frames):
            picture.seek(index)
            durations.append(picture.info["duration"])
    assert durations == [300, 200]


def test_an_output_without_a_key_is_named_by_its_content(tmp_path: Path) -> None:
    for level in (0.1, 0.2):
        made = result(image=Image(image(level=level)))
        made.keys = {}
        save_outputs(made, tmp_path, "w")
    assert len(written(tmp_path)) == 2


@pytest.mark.parametrize(("name", "safe"), [("a b", "a_b"), ("../../etc", "etc"), ("", "output"), ("ünï", "ünï"), ("x" * 300, "x" * 80)])
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_names_of_any_script_fit_into_file_names(tmp_path: Path) -> None:
    made = result(**{"画像" * 100: Image(image())})
    (paths,) = save_outputs(made, tmp_path, "e" + "é" * 100).values()
    assert paths[0].is_file()
    assert safe_name("e" + "é" * 100) == "e" + "é" * 39


def test_what_is_written_to_files() -> None:
    assert is_file_output([Image(image()), Mask(image(channels=1))])
    assert not any(map(is_file_output, [[], "text", 5, ["text"], None, [Image(image()), 1]]))
