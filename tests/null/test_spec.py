"""From signatures to ports. What is wrong with a signature is in test_packs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import pytest
from cases import NODES

from nodegraph import Choices, Field, Image, Kind, Lazy, ModelRef, Run, Seed, node
from nodegraph.spec import REQUIRED, node_type, output_name
from nodegraph.types import parse

T = TypeVar("T")


class Thing:
    """A class of a pack."""


class Pair(NamedTuple):
    image: Annotated[Image, "the picture"]
    count: int


@node(version=2, name="everything", was=("anything",))
def sample(
    image: Image,
    steps: Annotated[int, Field(ge=1, lt=100, multiple_of=2), "how many"] = 20,
    mode: Literal["a", "b"] = "a",
    mask: Image | None = None,
    model: Annotated[ModelRef, Kind("vae")] | None = None,
    style: Annotated[str, Choices("styles")] = "plain",
    seed: Seed = 0,
    *,
    thing: Thing,
    later: Lazy[list[T]],
    run: Run,
    **more: Annotated[T, "the rest"],
) -> Pair:
    """Everything a signature can say.

    At length.
    """


def test_ports():
    one = node_type(sample, "pack")
    assert {name: str(port.type) for name, port in one.inputs.items()} == {
        "image": "image", "steps": "int", "mode": "text", "mask": "image | none", "model": "model | none", "style": "text", "seed": "seed",
        "thing": "pack/Thing", "later": "list[T]",
    }  # fmt: skip
    assert [name for name, port in one.inputs.items() if port.default is REQUIRED] == ["image", "thing", "later"]
    steps = one.inputs["steps"]
    assert (steps.minimum, steps.below, steps.multiple, steps.doc, steps.default) == (1, 100, 2, "how many", 20)
    assert one.inputs["mode"].choices == ("a", "b")
    assert one.inputs["model"].model == "vae"
    assert one.inputs["style"].live == "styles"
    assert one.inputs["later"].lazy
    assert (one.takes_run, one.name, one.version, one.was) == ("run", "everything", 2, ("anything",))
    assert {name: (str(port.type), port.doc) for name, port in one.outputs.items()} == {
        "image": ("image", "the picture"),
        "count": ("int", ""),
    }
    assert one.doc == "Everything a signature can say.\n\nAt length."


def test_open_ports():
    one = node_type(sample)
    assert one.port("new").doc == "the rest"
    assert not one.port("new").open
    assert one.port("image") is one.inputs["image"]


def test_a_decorator_returns_the_function():
    def plain() -> int:
        return 3

    assert node(plain) is plain
    assert node(version=2)(plain) is plain
    assert plain() == 3


@pytest.mark.parametrize(
    ("kind", "name"),
    [("image", "image"), ("list[image]", "images"), ("list[int]", "ints"), ("image | none", "image"), ("any", "value"), ("T", "value"),
     ("int | text", "value"), ("pack/BigThing", "big_thing"), ("list[list[int]]", "value"), ("text_encoder", "text_encoder")],
)  # fmt: skip
def test_output_names(kind, name):
    assert output_name(parse(kind)) == name


@pytest.mark.parametrize("function", NODES, ids=lambda one: one.__name__)
def test_a_node_type_keeps_its_function(function):
    one = node_type(function)
    assert one.call is function
    assert one.key_name.startswith(f"/{function.__name__}@")


def test_any_without_annotations_of_its_own():
    def loose(x: Any = None) -> None: ...

    one = node_type(loose)
    assert str(one.inputs["x"].type) == "any"
    assert one.outputs == {}
