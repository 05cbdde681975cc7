"""The canonical form of workflow files."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.errors import WorkflowInvalid
from nodegraph.formatting import WIDTH, format_file, format_text, format_workflow
from nodegraph.keys import canonical
from nodegraph.settings import builtin_workflows

CANONICAL = """\
{
  "nodegraph": 1,
  "name": "txt2img",
  "doc": "One image from one prompt.",
  "requires": {"diffusion": ">=1"},
  "inputs": {
    "prompt": {"type": "text"},
    "seed": {"type": "int", "default": 0}
  },
  "nodes": {
    "model": {"use": "load_model", "with": {"name": "tiny-sd"}},
    "sample": {
      "use": "sample_latent",
      "from": {"model": "model.denoiser", "positive": "positive.conditioning", "seed": "inputs.seed", "steps": "inputs.steps"},
      "with": {"guidance": 7.50, "sampler": "euler"}
    }
  },
  "outputs": {"image": "decode.image"}
}
"""


def test_the_canonical_form_is_left_alone() -> None:
    assert format_text(CANONICAL) == CANONICAL


def test_any_layout_becomes_the_canonical_form() -> None:
    squeezed = "".join(line.strip() for line in CANONICAL.splitlines())
    spread = CANONICAL.replace(",", "  ,\n\n").replace(":", "\t:\r\n", 1)
    assert format_text(squeezed) == format_text(spread) == CANONICAL


def test_keys_of_the_format_have_one_order_and_names_keep_the_authors() -> None:
    text = format_text(
        '{"outputs": {}, "nodes": {"z": {"with": {}, "use": "b"}, "a": {"from": {}, "use": "b", "doc": "d"}}, "inputs": {}, "nodegraph": 1}'
    )
    assert text == (
        '{\n  "nodegraph": 1,\n  "inputs": {},\n  "nodes": {\n    "z": {"use": "b", "with": {}},\n'
        '    "a": {"use": "b", "doc": "d", "from": {}}\n  },\n  "outputs": {}\n}\n'
    )


@pytest.mark.parametrize("number", ["1.0", "1e3", "1E+3", "-0", "-0.0", "0.10", "12345678901234567890123", "3.141592653589793238"])
def test_numbers_stay_as_written(number: str) -> None:
    assert f'"with": {{"x": {number}}}' in format_text(f'{{"nodes": {{"a": {{"use": "b", "with": {{"x": {number}}}}}}}}}')


def test_texts_are_written_as_people_read_them() -> None:
    text = format_text('{"doc": "\\u00e9 \\u7e8c \\ud83d\\udc69\\u200d\\ud83c\\udfa8 \\u2028 \\ud800 \\n \\/", "nodes": {}}')
    assert text == '{\n  "doc": "é \u7e8c 👩\u200d🎨 \\u2028 \\ud800 \\n /",\n  "nodes": {}\n}\n'
    json.loads(text.encode("utf-8"))


def test_width_decides_by_the_value_alone() -> None:
    fitting = "x" * (WIDTH - 2)
    assert format_text(f'{{"nodes": {{"a": {{"use": "b", "with": {{"t": "{fitting}"}}}}}}}}').count(fitting) == 1
    row = ", ".join(["1"] * 40)
    assert f"[{row}]" in format_text(f'{{"nodes": {{"a": {{"use": "b", "with": {{"l": [{row}]}}}}}}}}')
    assert "[\n" in format_text(f'{{"nodes": {{"a": {{"use": "b", "with": {{"l": [{row}, 1]}}}}}}}}')


def test_a_workflow_inside_is_laid_out_as_one() -> None:
    assert format_text('{"nodes": {"a": {"use": {"nodes": {"b": {"use": "c"}}}, "each": {"x": [1]}}}}') == (
        '{\n  "nodes": {\n    "a": {\n      "use": {\n        "nodes": {\n          "b": {"use": "c"}\n        }\n      },\n'
        '      "each": {"x": [1]}\n    }\n  }\n}\n'
    )


def test_what_is_not_of_the_format_is_refused_with_a_place() -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        format_text('{"nodes": {"a": {"use": "b", "form": {}}}}', "w.json")
    assert (
        str(caught.value)
        == "error[unknown-key] 'form' is no key here\n  at  w.json:1:38: nodes.a.form\n  fix did you mean 'from'?\n1 problem"
    )


def test_a_workflow_that_does_not_check_is_formatted() -> None:
    assert '"use": "no_such_node"' in format_text('{"nodes":{"a":{"use":"no_such_node","from":{"x":"nowhere.y"}}}}')


@pytest.mark.parametrize("path", sorted(builtin_workflows().glob("*.json")), ids=lambda path: path.stem)
def test_shipped_workflows_are_in_the_canonical_form(path) -> None:
    assert format_text(path.read_text(encoding="utf-8")) == path.read_text(encoding="utf-8")


def test_files(tmp_path) -> None:
    path = tmp_path / "w.json"
    path.write_bytes(CANONICAL.encode())
    assert format_file(path) is None
    for changed in (CANONICAL.replace("\n", "\r\n"), "\ufeff" + CANONICAL, CANONICAL[:-1]):
        path.write_bytes(changed.encode())
        assert format_file(path) == CANONICAL


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_cannot_be_written_again_is_not_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody writes into it: whoever opened it would wait
    with pytest.raises(WorkflowInvalid, match="is a pipe or a device"):
        format_file(tmp_path / "pipe")
    with pytest.raises(WorkflowInvalid, match="Is a directory"):
        format_file(tmp_path)


def test_data_can_be_written_in_the_canonical_form() -> None:
    assert format_workflow({"nodes": {"a": {"with": {"x": 1.0}, "use": "b"}}}) == (
        '{\n  "nodegraph": 1,\n  "nodes": {\n    "a": {"use": "b", "with": {"x": 1.0}}\n  }\n}\n'
    )


NAMES = st.from_regex(r"[A-Za-zé_][\w-]{0,8}", fullmatch=True).filter(lambda name: name != "inputs")
TEXTS = st.text(max_size=140)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
LINKS = st.text(max_size=20) | st.lists(st.text(max_size=20), max_size=4)
INPUTS = st.fixed_dictionaries(
    {"type": st.text(max_size=9)}, optional={"default": VALUES, "choices": st.lists(VALUES, max_size=3), "doc": TEXTS}
)


def _workflows(uses: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    node = st.fixed_dictionaries(
        {"use": uses},
        optional={"with": st.dictionaries(TEXTS, VALUES, max_size=3), "from": st.dictionaries(TEXTS, LINKS, max_size=4), "doc": TEXTS},
    )
    return st.fixed_dictionaries(
        {"nodes": st.dictionaries(NAMES, node, max_size=4)},
        optional={
            "nodegraph": st.just(1),
            "doc": TEXTS,
            "name": TEXTS,
            "inputs": st.dictionaries(NAMES, INPUTS, max_size=3),
            "outputs": st.dictionaries(NAMES, LINKS, max_size=3),
        },
    )


WORKFLOWS = _workflows(st.text(max_size=12) | _workflows(st.text(max_size=12)))


@settings(max_examples=150, deadline=None)
@given(WORKFLOWS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_formatting_is_idempotent_and_keeps_the_meaning(data: object, ascii_only: bool, indent: int | str | None) -> None:
    text = json.dumps(data, ensure_ascii=ascii_only, indent=indent)
    formatted = format_text(text)
    assert canonical(json.loads(formatted)) == canonical(json.loads(text))
    assert format_text(formatted) == formatted
    formatted.encode("utf-8")


def test_the_schema_that_an_editor_is_told_stays(tmp_path):
    from nodegraph.workflow import Workflow

    path = tmp_path / "w.json"
    path.write_text('{"nodes": {}, "$schema": "./workflow.schema.json", "nodegraph": 1}')
    text = format_file(path)
    assert text == '{\n  "$schema": "./workflow.schema.json",\n  "nodegraph": 1,\n  "nodes": {}\n}\n'
    assert Workflow.read(text).digest() == Workflow.of({"nodes": {}}).digest()
