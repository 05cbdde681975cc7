"""What an editor shows of a workflow file: a real JSON language server, driven over its protocol, with the schema of the packs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lsp
import platformdirs
import pytest

from nodegraph import Engine
from nodegraph.cli import main

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lsp.Editor]:
    """An editor with the schema that `nodegraph schema` writes for the packs that come with nodegraph."""
    server = lsp.find_server(Path(platformdirs.user_cache_dir("nodegraph-tests")) / "json-language-server")
    if isinstance(server, str):
        pytest.skip(server)
    path = tmp_path_factory.mktemp("schema") / "workflow.schema.json"
    assert main(["schema", "-q", "-o", str(path)]) == 0
    made = lsp.Editor(server, json.loads(path.read_text(encoding="utf-8")))
    yield made
    made.close()


def node(inside: str) -> str:
    return '{"nodes": {"a": {"use": "sample_latent", ' + inside + "}}}"


# -- completion --------------------------------------------------------------------------------------------------------


def said(item: dict[str, Any]) -> str:
    """The documentation of a completion."""
    told = item.get("documentation", "")
    return str(told["value"] if isinstance(told, dict) else told)


def test_the_keys_of_a_workflow(editor: lsp.Editor) -> None:
    found = editor.complete('{"name": "x", |}')
    assert {"nodes", "inputs", "outputs", "doc", "requires"} <= set(found)
    assert "name" not in found
    assert said(found["outputs"]) == "What a run gives, by name: 'node.output'."


def test_the_keys_of_a_node(editor: lsp.Editor) -> None:
    assert set(editor.complete('{"nodes": {"a": {|}}}')) == {"use", "from", "with", "each", "doc"}


def test_node_types_with_their_docs_and_outputs(editor: lsp.Editor) -> None:
    found = editor.complete('{"nodes": {"a": {"use": "|"}}}')
    with Engine(cache=False, packs=[]) as engine:
        assert {one.name for one in engine.registry} == set(found)
    assert said(found["decode_latent"]).endswith("Gives image (image).\n\nPack diffusion.")


def test_ports_of_the_node_type_that_take_values(editor: lsp.Editor) -> None:
    found = editor.complete(node('"with": {"steps": 5, |}'))
    assert {"guidance", "sampler", "seed", "strength"} <= set(found)
    assert not {"steps", "model", "latent"} & set(found)  # there already; only linked
    assert said(found["guidance"]) == "float = 7.5: Guidance scale; at 1 and below there is none."
    assert found["guidance"]["insertText"] == '"guidance": ${1:7.5}'


def test_ports_of_the_node_type_that_take_links(editor: lsp.Editor) -> None:
    found = editor.complete(node('"from": {"|"}'))
    assert {"model", "positive", "latent", "seed"} <= set(found)
    assert said(found["model"]).startswith("denoiser")


def test_ports_that_each_goes_through(editor: lsp.Editor) -> None:
    assert {"seed", "guidance", "positive"} <= set(editor.complete(node('"each": {|}')))


def test_the_choices_of_a_port(editor: lsp.Editor) -> None:
    found = editor.complete(node('"with": {"sampler": |}'))
    assert {"euler", "ddim", "dpm++_2m"} <= set(found)


def test_models_that_are_here(editor: lsp.Editor) -> None:
    assert "tiny-sd" in editor.complete('{"nodes": {"a": {"use": "load_model", "with": {"name": |}}}}')


def test_true_and_false(editor: lsp.Editor) -> None:
    assert set(editor.complete('{"nodes": {"a": {"use": "save_image", "with": {"embed": |}}}}')) == {"true", "false"}


def test_the_types_of_an_input(editor: lsp.Editor) -> None:
    assert {"text", "int", "image", "secret", "list[int]"} <= set(editor.complete('{"inputs": {"x": {"type": "|"}}}'))


def test_a_workflow_inside_of_a_workflow(editor: lsp.Editor) -> None:
    inner = '{"nodes": {"a": {"use": {"nodes": {"b": {"use": "sample_latent", "with": {|}}}}}}}'
    assert "guidance" in editor.complete(inner)


def test_the_pack_may_stand_before_the_name(editor: lsp.Editor) -> None:
    assert "guidance" in editor.complete('{"nodes": {"a": {"use": "diffusion/sample_latent", "with": {|}}}}')


# -- hover and mistakes ------------------------------------------------------------------------------------------------


def test_hovering_tells_what_a_port_is_for(editor: lsp.Editor) -> None:
    assert editor.hover(node('"with": {"gui|dance": 5}')).replace("\\", "").startswith("float = 7.5: Guidance scale")
    with Engine(cache=False, packs=[]) as engine:
        doc = engine.registry.get("decode_latent").doc  # type: ignore[union-attr]
    assert editor.hover('{"nodes": {"a": {"use": "decode_|latent"}}}').replace("\\", "").startswith(doc.partition("\n")[0])


@pytest.mark.parametrize(
    ("text", "underlined", "message"),
    [
        (node('"with": {"steps": 5000}'), "5000", "Value is above the maximum of 1000."),
        (node('"with": {"steps": 0}'), "0", "Value is below the minimum of 1."),
        (node('"with": {"steps": "5"}'), '"5"', 'Incorrect type. Expected "integer".'),
        (node('"with": {"stepz": 5}'), '"stepz"', "Property stepz is not allowed."),
        (node('"with": {"model": "x"}'), '"model"', "Property model is not allowed."),
        (node('"with": {"sampler": "eulr"}'), '"eulr"', 'Value is not accepted. Valid values: "default", "ddim"'),
        (node('"from": {"model": 5}'), "5", 'Incorrect type. Expected "string".'),
        (node('"from": {"model": "nodot"}'), '"nodot"', "String does not match the pattern of"),
        (node('"fron": {}'), '"fron"', "Property fron is not allowed."),
        ('{"nodes": {"a": {"use": "sample_latnet"}}}', '"sample_latnet"', "Value is not accepted. Valid values: "),
        ('{"nodes": {"a": {"with": {}}}}', '"a"', 'Missing property "use".'),
        ('{"inputs": {"x": {"type": "int", "min": "a"}}}', '"a"', "Incorrect type. Expected one of number, null."),
        ('{"nodegraph": 2}', "2", "Value must be 1."),
    ],
)
def test_mistakes_are_underlined(text: str, underlined: str, message: str, editor: lsp.Editor) -> None:
    [(where, what)] = editor.problems(text)
    assert where == underlined
    assert what.startswith(message)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_is_right_is_not_underlined(path: Path, editor: lsp.Editor) -> None:
    assert editor.problems(path.read_text(encoding="utf-8")) == []


def test_a_long_file_is_looked_at_while_a_person_types(editor: lsp.Editor) -> None:
    nodes = {f"n{number}": {"use": "sample_latent", "with": {"steps": number % 1000 + 1}} for number in range(1000)}
    text = json.dumps({"nodes": {**nodes, "last": {"use": "sample_latent", "with": {"steps": 0}}}}, indent=2)
    assert [where for where, _ in editor.problems(text)] == ["0"]
