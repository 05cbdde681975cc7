"""The JSON Schema of workflow files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import jsonschema
import pytest
from pydantic import Field

from nodegraph import Choices, Conditioning, Image, Kind, Latent, ModelRef, Rng, Seed, node
from nodegraph.registry import Registry
from nodegraph.schema import workflow_schema
from nodegraph.spec import node_type

T = TypeVar("T")


class Sampled(NamedTuple):
    latent: Latent
    rng: Rng


@node
def sample(
    positive: Conditioning,
    seed: Seed,
    steps: Annotated[int, Field(ge=1, le=100), "How many steps."] = 20,
    guidance: Annotated[float, Field(gt=0)] = 7.5,
    sampler: Literal["euler", "ddim"] = "euler",
    style: Annotated[str, Choices("styles")] = "",
    sizes: Annotated[list[int], Field(multiple_of=8)] = [64],  # noqa: B006
    mask: Image | None = None,
) -> Sampled:
    """Turn noise into a latent."""
    raise NotImplementedError


@node(was=("load",))
def load_model(name: Annotated[ModelRef, Kind("diffusion")]) -> Conditioning:
    """Read a model."""
    raise NotImplementedError


@node
def pick(value: T, **more: T) -> T:
    return value


@node
def stack(images: list[Image], note: str = "") -> Image:
    return images[0]


def registry() -> Registry:
    found = Registry()
    found.add([node_type(function, "test") for function in (sample, load_model, pick, stack)], pack="test")
    return found


def live(one: Any, port: Any) -> list[str]:
    return {"diffusion": ["tiny-sd", "other"]}.get(port.model) or {"styles": ["oil"]}.get(port.live, [])


SCHEMA = workflow_schema(registry(), live)
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def one(use: str, **sections: Any) -> dict[str, Any]:
    return {"nodes": {"a": {"use": use, **{key.rstrip("_"): value for key, value in sections.items()}}}}


def test_the_schema_is_one_and_json() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


VALID = [
    {},
    {"nodegraph": 1, "name": "n", "doc": "d", "requires": {"test": ">=1"}, "inputs": {}, "nodes": {}, "outputs": {}},
    {
        "inputs": {"x": {"type": "list[int] | none", "default": None, "min": 1, "choices": [1, 2], "doc": "d"}},
        "outputs": {"y": ["inputs.x", "inputs.x"]},
    },
    one("sample", from_={"positive": "p.conditioning", "seed": "inputs.seed"}, with_={"steps": 1, "guidance": 0.1, "sampler": "ddim"}),
    one("sample", with_={"seed": [1, 2], "sizes": [8, 16], "style": "any text", "mask": None}),
    one("sample", each={"seed": [1, 2], "positive": "p.list", "steps": [1, 100]}),
    one("load", with_={"name": "not here yet"}),
    one("test/load_model", with_={"name": "tiny-sd"}),
    one("pick", with_={"value": {"any": ["thing"]}, "more": 1}, from_={"further": "a.b"}),
    one("stack", from_={"images": ["a.image", "b.image"]}),
    one("stack", with_={"images": []}),
    one("stack", each={"images": [[], []]}),
    one("test/sample_later", with_={"x": 1}, from_={"y": "a.b"}),
    {"$schema": "./workflow.schema.json", "nodes": {}},
    one("./other.json", with_={"x": 1}),
    {"nodes": {"a": {"use": {"nodes": {"b": {"use": "pick"}}}}}},
]

INVALID = [
    one("no_such_node", with_={"x": 1}),
    {"nodegraph": 2},
    {"node": {}},
    {"nodes": {"inputs": {"use": "pick"}}},
    {"nodes": {"a.b": {"use": "pick"}}},
    {"nodes": {"a": {"with": {}}}},
    {"inputs": {"x": {}}},
    {"outputs": {"y": "nodot"}},
    one("sample", with_={"step": 1}),
    one("sample", from_={"step": "a.b"}),
    one("sample", from_={"steps": ["a.b", "c.d"]}),
    one("sample", with_={"steps": 0}),
    one("sample", with_={"steps": 101}),
    one("sample", with_={"steps": 1.5}),
    one("sample", with_={"guidance": 0}),
    one("sample", with_={"guidance": "7"}),
    one("sample", with_={"sampler": "eular"}),
    one("sample", with_={"sizes": [9]}),
    one("sample", with_={"sizes": 8}),
    one("sample", with_={"positive": "text"}),
    one("sample", each={"steps": [0]}),
    one("sample", each={"step": [1]}),
    one("stack", with_={"images": ["a.png"]}),
    one("stack", each={"images": ["a.png"]}),
    one("load", with_={"name": 5}),
    {"nodes": {"a": {"use": {"nodes": {"b": {"use": "sample", "with": {"steps": 0}}}}}}},
]


@pytest.mark.parametrize("workflow", VALID, ids=json.dumps)
def test_valid(workflow: dict[str, Any]) -> None:
    VALIDATOR.validate(workflow)


@pytest.mark.parametrize("workflow", INVALID, ids=json.dumps)
def test_invalid(workflow: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(workflow)


def test_editors_find_names_docs_defaults_and_choices() -> None:
    names = SCHEMA["definitions"]["node"]["properties"]["use"]["anyOf"]
    assert {"const": "sample", "description": "Turn noise into a latent.\n\nGives latent (latent), rng (rng).\n\nPack test."} in names
    assert {"const": "load", "description": "The former name of load_model.", "deprecated": True} in names
    ports = SCHEMA["definitions"]["node.sample"]["properties"]["with"]["properties"]
    assert ports["steps"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20, "description": "int = 20: How many steps."}
    assert ports["style"]["anyOf"] == [{"enum": ["oil"]}, {"type": "string"}]
    assert SCHEMA["definitions"]["node.load_model"]["properties"]["with"]["properties"]["name"]["anyOf"][0] == {
        "enum": ["tiny-sd", "other"]
    }
    assert "positive" not in ports
    assert "positive" in SCHEMA["definitions"]["node.sample"]["properties"]["from"]["properties"]


def test_what_the_schema_knows_without_live_choices_stays_open() -> None:
    ports = workflow_schema(registry())["definitions"]["node.sample"]["properties"]["with"]["properties"]
    assert ports["style"] == {"type": "string", "default": "", "description": "text = "}


WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("**/*.json"))


@pytest.fixture(scope="module")
def installed() -> jsonschema.Draft7Validator:
    """The schema of the packs that come with nodegraph."""
    from nodegraph import Engine

    with Engine(cache=False, packs=[]) as engine:
        return jsonschema.Draft7Validator(workflow_schema(engine.registry))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_workflows_that_come_with_nodegraph_are_valid(path: Path, installed: jsonschema.Draft7Validator) -> None:
    installed.validate(json.loads(path.read_text(encoding="utf-8")))
