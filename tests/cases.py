"""What can be wrong with a workflow: one small case for each problem, and the node types and packs they use.

A case is files by path, the first of them the workflow that is checked. Values are written as JSON unless they are text.
"""

# ruff: noqa: E501  (a table)
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from nodegraph import Field, File, Image, Kind, Latent, Lazy, Mask, ModelRef, Seed, Workflow, node

T = TypeVar("T")


@node
def number(value: int = 0) -> int:
    """A number."""
    return value


@node
def add(a: int, b: int = 0) -> int:
    """The sum."""
    return a + b


@node
def half(value: float) -> float:
    """Half of it."""
    return value / 2


@node
def word(text: Annotated[str, Field(min_length=1, max_length=8, pattern="^[a-z]*$")] = "a") -> str:
    """A word."""
    return text


@node
def join(texts: list[str], separator: str = " ") -> str:
    """One text."""
    return separator.join(texts)


@node
def flag(on: bool) -> bool:
    """A truth."""
    return on


@node
def steps(
    count: Annotated[int, Field(ge=1, le=100)] = 20,
    size: Annotated[int, Field(multiple_of=8, ge=16)] = 64,
    scale: Annotated[float, Field(gt=0, lt=10)] = 1.0,
    sampler: Literal["euler", "heun"] = "euler",
    seed: Seed = 0,
) -> int:
    """Bounds of every kind."""
    return count


@node
def paint(width: int = 8) -> Image:
    """A picture."""
    raise NotImplementedError


@node
def cut(image: Image) -> Mask:
    """A mask."""
    raise NotImplementedError


@node
def encode(image: Image, mask: Mask | None = None) -> Latent:
    """A latent."""
    raise NotImplementedError


@node
def pick(condition: bool, on_true: Lazy[T], on_false: Lazy[T]) -> T:
    """One of two."""
    return on_true if condition else on_false


@node
def first(items: list[T]) -> T:
    """The first item."""
    return items[0]


@node
def range_list(count: int) -> list[int]:
    """Numbers."""
    return list(range(count))


@node
def open_file(file: File) -> str:
    """A text."""
    return str(file)


@node
def open_model(model: Annotated[ModelRef, Kind("vae")]) -> str:
    """A name."""
    return model.name


@node
def loop(body: Workflow, value: int = 0) -> int:
    """A workflow as a value."""
    return value


NODES = [number, add, half, word, join, flag, steps, paint, cut, encode, pick, first, range_list, open_file, open_model, loop]


@dataclass(frozen=True)
class Case:
    """Files by path; the first one is checked. `given`: what a run is given, where only that is wrong."""

    name: str
    files: dict[str, Any]
    given: dict[str, Any] | None = None
    packs: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        for path, content in {**self.files, **{f"packs/{path}": text for path, text in self.packs.items()}}.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            else:
                target.write_text(content if isinstance(content, str) else json.dumps(content, indent=2), encoding="utf-8")
        return Path(next(iter(self.files)))


def one(name: str, /, nodes: Any = None, packs: dict[str, str] | None = None, given: dict[str, Any] | None = None, **parts: Any) -> Case:
    """A case of one file: its nodes, and further parts of the workflow (`more`: further files)."""
    more = parts.pop("more", {})
    outputs = parts.pop("outputs", {})
    workflow = {"nodegraph": 1, **parts, "nodes": nodes or {}, **({"outputs": outputs} if outputs else {})}
    return Case(name, {"main.json": workflow, **more}, given, packs or {})


def text(name: str, content: str) -> Case:
    return Case(name, {"main.json": content})


def using(use: str, **inputs: Any) -> dict[str, Any]:
    """A node with literals; `from_` and `each` beside them."""
    links, each = inputs.pop("from_", None), inputs.pop("each", None)
    record: dict[str, Any] = {"use": use}
    record.update({"from": links} if links else {})
    record.update({"each": each} if each else {})
    record.update({"with": inputs} if inputs else {})
    return record


def header(kind: str) -> bytes:
    """A safetensors file without tensors."""
    raw = json.dumps({"__metadata__": {"kind": kind}}).encode()
    return len(raw).to_bytes(8, "little") + raw


FAMILY = {
    "family/pack.toml": 'name = "family"\n',
    "family/nodes.py": '''
from nodegraph import node, Conditioning, Image

@node
def plum_words(text: str, width: int = 7) -> Conditioning:
    """Words of the plum family."""

@node
def plum_paint(words: Conditioning, width: int = 7) -> Image:
    """Pictures of the plum family."""
''',
    "family/facts.py": """
from nodegraph.facts import Facts, Mismatch, differ

def plum_words(width, **rest):
    return Facts(family="plum", width=width.get("value"))

def plum_paint(words, width):
    if differ(words.get("width"), width.get("value")):
        return Mismatch("words", f"these words are {words['width']} wide, but plums are painted {width['value']} wide", "give both one width")
    return Facts(side=words.get("width"))
""",
}
PLUM_CHILD = {
    "inputs": {"words": {"type": "conditioning"}},
    "nodes": {"paint": using("plum_paint", from_={"words": "inputs.words"}, width=5)},
    "outputs": {"image": "paint.image"},
}
ADD_ONE = {"inputs": {"n": {"type": "int"}}, "nodes": {"add": using("add", from_={"a": "inputs.n"}, b=1)}, "outputs": {"sum": "add.int"}}
DEEP: Any = "x"
for _ in range(120):
    DEEP = [DEEP]
NESTED: Any = {"nodes": {}}
for _ in range(40):
    NESTED = {"nodes": {"a": {"use": NESTED}}}

CASES = [
    # the text
    text("json-comma-missing", '{"nodegraph": 1\n "nodes": {}}'),
    text("json-colon-missing", '{"nodegraph" 1, "nodes": {}}'),
    text("json-backslash", r'{"nodegraph": 1, "doc": "C:\Users\me"}'),
    text("json-conflict", '{"nodegraph": 1,\n<<<<<<< HEAD\n"doc": "a"\n=======\n"doc": "b"\n>>>>>>> other\n}'),
    text("json-unseen", '{"nodegraph":\u00a01}'),
    text("json-curly-quotes", '{"nodegraph": 1, "doc": “a”}'),
    text("json-quote-in-text", '{"nodegraph": 1, "doc": "a "blue" square"}'),
    text("json-bare-name", '{"nodegraph": 1, nodes: {}}'),
    text("json-bare-text", '{"nodegraph": 1, "doc": hello}'),
    text("json-control-character", '{"doc": "two\nlines", "nodes": {}}'),
    text("json-comma-extra", '{"nodegraph": 1,\n "nodes": {},\n}'),
    text("json-single-quotes", "{'nodegraph': 1}"),
    text("json-comment", '{\n  // a comment\n  "nodegraph": 1}'),
    text("json-true", '{"nodegraph": 1, "nodes": {"a": {"use": "flag", "with": {"on": True}}}}'),
    text("json-cut", '{"nodegraph": 1, "nodes": {"a": '),
    text("json-empty", ""),
    text("json-more", '{"nodegraph": 1}\n{"nodegraph": 1}'),
    text("json-nan", '{"nodegraph": 1, "doc": "NaN",\n "nodes": {"a": {"use": "half", "with": {"value": NaN}}}}'),
    text("json-digits", '{"nodegraph": ' + "1" * 5000 + "}"),
    text("json-list", "[1, 2]"),
    text("json-deep", "[" * 100_000),
    text("duplicate-keys", '{"nodegraph": 1, "nodes": {\n "a": {"use": "number"},\n "a": {"use": "number", "use": "add"}}}'),
    Case("not-utf8", {"main.json": b'{"doc": "\xff"}'}),
    Case("file-missing", {"mian.json": {"nodes": {}}}),
    # the shape
    one("format-newer", nodegraph=2),
    one("format-older", nodegraph=0),
    one("shape", {"a": {"use": "number", "form": {}}, "b": 5, "c": {"with": []}, "d": {"use": 7}}, input={}),
    one("shape-links", {"a": {"use": "add", "from": {"a": 1, "b": ["x.y", 2]}, "each": 5}}, outputs={"x": 3}),
    one("shape-inputs", inputs={"x": {"typ": "int"}, "y": {"type": "int", "min": "low", "maximum": 5}, "z": "int"}, name=5, doc=None),
    one("shape-inner", {"a": {"use": {"nodegraph": 3, "nodes": {"b": {"us": "number"}, "1": {"use": "number"}}}}}),
    one("names", {"inputs": using("number"), "a.b": using("number"), "": using("number")}, inputs={"1": {"type": "int"}}),
    one("nested-deep", NESTED["nodes"]),
    # names
    one("unknown-node", {"a": using("nubmer"), "b": using("zzz")}),
    one("unknown-input", {"a": using("add", a=1, c=2), "b": using("flag", no=True, on=True)}),
    one("unknown-input-of-nothing", {"a": using("number"), "b": using("number", from_={"zzz": "a.nope"})}),
    one("unknown-references", {"ab": using("add", a=1), "b": using("add", from_={"a": "ad.int", "b": "inputs.n"})}, outputs={"x": "ab"}),
    one("bad-references", {"a": using("number"), "b": using("add", from_={"a": "a", "b": "5"})}, outputs={"x": "n"}, inputs={"n": {"type": "int"}}),
    one("unknown-output", {"a": using("number"), "b": using("add", from_={"a": "a.nit"})}, outputs={"x": "a.image"}),
    one("missing-input", {"b": using("encode"), "c": using("join"), "d": using("add"), "a": using("paint")}),
    one("missing-input-nothing-gives", {"b": using("cut")}),
    one("set-twice", {"a": using("number"), "b": using("add", from_={"a": "a.int"}, a=1), "c": using("add", each={"a": [1]}, a=1)}),
    one("cycle", {"a": using("add", from_={"a": "c.int"}), "b": using("add", from_={"a": "a.int"}), "c": using("add", from_={"a": "b.int"})}),
    one("cycle-self", {"a": using("add", from_={"a": "a.int"})}),
    # literals
    one("wrong-int", {name: using("add", a=given) for name, given in {"a": True, "b": 3.9, "c": "5", "d": "x", "e": None, "f": [1]}.items()}),
    one("wrong-float", {name: using("half", value=given) for name, given in {"a": False, "b": "0.5", "c": {}, "d": [0.5]}.items()}),
    text("infinite-float", '{"nodes": {"a": {"use": "half", "with": {"value": 1e999}}}}'),
    one("wrong-text", {"a": using("word", text=5), "b": using("join", texts="x"), "c": using("join", texts=["a", 1])}),
    one("wrong-bool", {"a": using("flag", on=1), "b": using("flag", on="true")}),
    one("each-of-one-value", {"a": using("steps", each={"count": 3}), "b": using("steps", each={"count": {"from": "a"}})}),
    one("ports-beside-use", {"a": {"use": "steps", "count": 3, "width": 8, "sampler": "euler"}}),
    one("links-among-values", {"a": using("steps", count="inputs.n"), "b": using("steps", count="a.int"), "c": using("steps", count="inputs.x")}, inputs={"n": {"type": "int"}}),
    one("inputs-misspelled", {"a": using("steps", from_={"count": "input.n"})}, inputs={"n": {"type": "int"}}),
    one("wrong-seed", {"a": using("steps", seed="random"), "b": using("steps", seed=1.5)}),
    one("wrong-image", {"a": using("cut", image="cat.png")}),
    one("out-of-range", {"a": using("steps", count=0), "b": using("steps", count=101), "c": using("steps", size=20), "d": using("steps", size=7)}),
    one("out-of-open-range", {"a": using("steps", scale=0), "b": using("steps", scale=10)}),
    one("out-of-text", {"a": using("word", text=""), "b": using("word", text="abcdefghij"), "c": using("word", text="A")}),
    one("not-a-choice", {"a": using("steps", sampler="eulre"), "b": using("steps", sampler="x")}),
    one("literal-deep", {"a": using("first", items=DEEP)}),
    # types of links
    one("type-mismatch", {"a": using("number"), "p": using("paint"), "m": using("cut", from_={"image": "a.int"})}),
    one("type-mismatch-nothing-gives", {"a": using("number"), "m": using("cut", from_={"image": "a.int"})}),
    one("type-list", {"p": using("word"), "j": using("join", from_={"texts": "p.text"})}),
    one("type-each", {"r": using("range_list", count=3), "a": using("add", from_={"a": "r.ints"})}),
    one("type-several", {"n": using("number"), "a": using("add", from_={"a": ["n.int", "n.int"]})}),
    one("type-several-items", {"n": using("number"), "p": using("word"), "a": using("join", from_={"texts": ["p.text", "n.int"]})}),
    one("type-variable", {
        "p": using("paint"), "m": using("cut", from_={"image": "p.image"}),
        "s": using("pick", from_={"on_true": "p.image", "on_false": "m.mask"}, condition=True),
        "t": using("pick", from_={"on_true": "p.image"}, condition=True, on_false=5),
        "u": using("first", from_={"items": ["p.image", "m.mask"]}),
    }),
    one("type-variable-through", {
        "p": using("paint"), "s": using("pick", from_={"on_true": "p.image", "on_false": "p.image"}, condition=True),
        "a": using("add", from_={"a": "s.value"}),
    }),
    one("each-type", {"n": using("number"), "a": using("add", each={"a": "n.int"})}),
    one("each-lengths", {"a": using("add", each={"a": [1, 2, 3], "b": [1, 2]})}),
    one("each-items", {"a": using("add", each={"a": [1, "2", 3.5]})}),
    # inputs
    one("bad-types", inputs={"a": {"type": "imgae"}, "b": {"type": "list[int"}, "c": {"type": "T"}, "d": {"type": "x" * 300}}),
    one("types-called-otherwise", inputs={name: {"type": name} for name in ("string", "str", "number", "boolean", "IMAGE")}),
    one("bad-default", inputs={"a": {"type": "int", "default": "1"}, "b": {"type": "int", "default": 5, "max": 3}}),
    one("bad-bounds", inputs={"a": {"type": "text", "min": 3}}),
    one("bad-input-choices", inputs={"a": {"type": "int", "choices": [1, "2"]}}),
    one("default-out-of-inherited-range", {"s": using("steps", from_={"count": "inputs.n"})}, inputs={"n": {"type": "int", "default": 500}}),
    one("empty-range", {"s": using("steps", from_={"count": "inputs.n"})}, inputs={"n": {"type": "int", "min": 200}}),
    one("no-common-choice", {"s": using("steps", from_={"sampler": "inputs.s"})}, inputs={"s": {"type": "text", "choices": ["ddim"]}}),
    # files and workflows as nodes
    one("no-file", {"a": using("open_file", file="cta.txt"), "b": using("open_file", file="sub"), "c": using("open_file", file=5),
                    "d": using("open_file", file=""), "e": using("open_file", file="x" * 300)}, more={"cat.txt": "x", "sub/x.txt": "x"}),
    one("path-spelled", {
        name: using("open_file", file=path)
        for name, path in {"a": "Photo.PNG", "b": "old\new/photo.png", "c": "~photo.png", "d": ["~photo.png"], "e": ["~photo.png", "photo.png"], "f": ["photo.png", 5]}.items()
    }, more={"photo.png": "x", "~photo.png": "x"}),
    one("path-outside", {name: using("open_file", file=path) for name, path in {"a": "../secret", "b": "/etc/passwd", "c": "~/x", "d": "sub/../../x"}.items()}),
    Case("use-cycle", {"main.json": {"nodes": {"a": {"use": "./b.json"}}}, "b.json": {"nodes": {"c": {"use": "./main.json"}}}}),
    Case("use-broken", {"main.json": {"nodes": {"a": {"use": "./b.json"}}}, "b.json": {"nodes": {"c": {"use": "nubmer"}, "d": {"use": "./c.json"}}}, "c.json": "{"}),
    Case("use-missing", {"main.json": {"nodes": {"a": {"use": "./b.json"}, "b": {"use": "../b.json"}, "c": {"use": "addone.json"}}}, "add_one.json": ADD_ONE}),
    Case("use-inputs", {"main.json": {"nodes": {"a": {"use": "./b.json"}, "b": {"use": "./b.json", "with": {"n": "1", "m": 2}}}, "outputs": {"x": "a.smu"}}, "b.json": ADD_ONE}),
    one("use-written", {"a": {"use": {"nodes": {"b": using("add", a="x")}}}, "c": using("loop", body={"nodes": {"d": {"us": "add"}}}), "d": using("loop", body=5)}),
    # models
    one("unknown-model", {"a": using("open_model", model="vae-tny"), "b": using("open_model", model=3)}, more={"models/vae-tiny.safetensors": header("vae")}),
    one("wrong-model", {"a": using("open_model", model="big")}, more={"models/big.safetensors": header("upscaler"), "models/v.safetensors": header("vae")}),
    one("unsafe-weights", {"a": using("open_model", model="old"), "b": using("open_model", model="odd.ckpt")}, more={"models/old.pt": "x", "models/odd.ckpt": "x"}),
    one("model-incomplete", {"a": using("open_model", model="half")}, more={"models/half/unet.txt": "x"}),
    # packs
    one("requires", requires={"family": ">=2", "famliy": ">=1", "plum": "new"}, packs=FAMILY),
    one("pack-broken", {"a": using("pear")}, requires={"bad": ">=1"}, packs={"bad/pack.toml": "", "bad/nodes.py": "from nodegraph import node\n@node\ndef pear() -> int:\n  return (\n"}),
    # facts
    one("facts-mismatch", {"w": using("plum_words", text="x", width=9), "p": using("plum_paint", from_={"words": "w.conditioning"})}, packs=FAMILY),
    Case("facts-into-child", {"main.json": {"nodes": {"w": using("plum_words", text="x"), "c": using("./child.json", from_={"words": "w.conditioning"})}}, "child.json": PLUM_CHILD}, packs=FAMILY),
    Case("facts-into-grandchild", {
        "main.json": {"nodes": {"w": using("plum_words", text="x"), "c": using("./mid.json", from_={"words": "w.conditioning"})}},
        "mid.json": {"inputs": {"words": {"type": "conditioning"}}, "nodes": {"d": using("./child.json", from_={"words": "inputs.words"})}},
        "child.json": PLUM_CHILD,
    }, packs=FAMILY),
    Case("facts-out-of-child", {
        "main.json": {"nodes": {"c": {"use": "./child.json"}, "p": using("plum_paint", from_={"words": "c.words"})}},
        "child.json": {"nodes": {"w": using("plum_words", text="x", width=4)}, "outputs": {"words": "w.conditioning"}},
    }, packs=FAMILY),
    one("facts-through-each", {"w": using("plum_words", each={"text": ["a", "b"]}, width=9), "p": using("plum_paint", each={"words": "w.conditioning"})}, packs=FAMILY),
    one("facts-failed", {"w": using("plum_words", text="x"), "p": using("plum_paint", from_={"words": "w.conditioning"})},
        packs={**FAMILY, "family/facts.py": "def plum_words(**rest):\n    return 5\ndef plum_paint(**rest):\n    return 1 / 0\n"}),
    one("facts-unimportable", {"w": using("plum_words", text="x")}, packs={**FAMILY, "family/facts.py": "raise RuntimeError('no facts')"}),
    # secrets
    one("secret-literal", {"f": using("flag", on=True)}, inputs={"token": {"type": "secret", "default": "hunter2"}}),
    # what a run is given
    one("bind", {"s": using("steps", from_={"count": "inputs.n"}), "j": using("word", from_={"text": "inputs.t"})},
        inputs={"n": {"type": "int"}, "t": {"type": "text"}}, given={"n": 500, "x": 1}),
]  # fmt: skip


def bare_engine(**options: Any) -> Any:
    """An engine with the nodes of this module and without the built-in packs."""
    from unittest import mock

    from nodegraph import Engine

    with mock.patch("nodegraph.settings.builtin_packs", return_value=Path("none")):
        return Engine(**{"nodes": NODES, "packs": [], "cache": False, **options})
