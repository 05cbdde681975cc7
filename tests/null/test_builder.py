"""Workflows in Python and in JSON: two spellings of one thing; and what type checkers know of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import toys, write  # noqa: F401

from nodegraph import Engine, Workflow, WorkflowInvalid
from nodegraph.cli import main
from nodegraph.python_source import WIDTH, python_source

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


def rebuilt(workflow: Workflow) -> dict[str, Any]:
    """The JSON of what the Python source of a workflow builds."""
    names: dict[str, Any] = {}
    exec(compile(python_source(workflow), "source.py", "exec"), names)
    return names["w"].to_workflow().to_json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_workflow_that_comes_with_nodegraph_goes_to_python_and_back(path: Path) -> None:
    workflow = Workflow.load(path)
    assert list_of(rebuilt(workflow)) == list_of(workflow.to_json())
    assert max(map(len, python_source(workflow).splitlines())) <= WIDTH + 40


def list_of(record: Any) -> Any:
    """A record with the order of its keys, which means something in `nodes` and in open ports."""
    if isinstance(record, dict):
        return [(key, list_of(value)) for key, value in record.items()]
    return [list_of(one) for one in record] if isinstance(record, list) else record


NAMES = st.from_regex(r"[a-z_ä][a-z0-9_-]{0,5}", fullmatch=True) | st.sampled_from(["class", "w", "None", "use", "input", "Workflow", "n"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
LINKS = st.builds(lambda node, port: f"{node}.{port}", NAMES | st.just("inputs"), NAMES)
NODES = st.fixed_dictionaries(
    {"use": NAMES | st.just("./other.json") | st.just("core/blend")},
    optional={
        "from": st.dictionaries(NAMES, LINKS | st.lists(LINKS, max_size=2), max_size=3),
        "with": st.dictionaries(NAMES, VALUES, max_size=3),
        "each": st.dictionaries(NAMES, LINKS | st.lists(VALUES, max_size=2), max_size=2),
        "doc": st.text(max_size=10),
    },
)
FLOWS = st.fixed_dictionaries(
    {"nodegraph": st.just(1), "nodes": st.dictionaries(NAMES.filter(lambda name: name != "inputs"), NODES, max_size=4)},
    optional={
        "name": st.text(max_size=6),
        "doc": st.text(max_size=20),
        "inputs": st.dictionaries(
            NAMES, st.fixed_dictionaries({"type": st.just("int")}, optional={"default": VALUES, "min": st.floats(-5, 5)}), max_size=3
        ),
        "outputs": st.dictionaries(NAMES, LINKS, max_size=2),
    },
)


@given(FLOWS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_workflow_goes_to_python_and_back(record: dict[str, Any]) -> None:
    for node in record["nodes"].values():
        taken: set[str] = set()
        for section in ("each", "from", "with"):  # a port stands in one section
            if section in node:
                node[section] = {port: value for port, value in node[section].items() if port not in taken}
                taken |= set(node[section])
    try:
        workflow = Workflow.of(record)
    except WorkflowInvalid:
        return
    plain = workflow.to_json()
    for node in plain["nodes"].values():
        for section in [key for key in ("each", "from", "with", "doc") if key in node and not node[key]]:
            del node[section]
    assert rebuilt(workflow) == plain


# -- building ----------------------------------------------------------------------------------------------------------


def test_what_is_built_runs() -> None:
    w = Workflow.build("sum")
    numbers = w.input("numbers", "list[int]", default=[1, 2])
    length = w.list_length(items=numbers)
    words = w.format_text("words", template="{n} numbers", n=length.int)
    w.describe(words, "Says how many.")
    w.output(text=words.text, count=length["int"])
    with Engine(cache=False) as engine:
        assert engine.check(w) == []
        assert engine.run(w, numbers=[5, 6, 7]).outputs == {"text": "3 numbers", "count": 3}
    assert w.to_workflow().to_json() == {
        "nodegraph": 1,
        "name": "sum",
        "inputs": {"numbers": {"type": "list[int]", "default": [1, 2]}},
        "nodes": {
            "list_length": {"use": "list_length", "from": {"items": "inputs.numbers"}},
            "words": {
                "use": "format_text",
                "from": {"n": "list_length.int"},
                "with": {"template": "{n} numbers"},
                "doc": "Says how many.",
            },
        },
        "outputs": {"text": "words.text", "count": "list_length.int"},
    }


def test_nodes_without_a_name_are_numbered_and_each_maps() -> None:
    w = Workflow.build()
    first = w.text_length(text="a")
    second = w.text_length(text=w.each(["a", "bc"]))
    third = w.use("core/text_length", text=w.each(second.int))
    assert [repr(one) for one in (first, second, third)] == ["<node 'text_length'>", "<node 'text_length_2'>", "<node 'text_length_3'>"]
    nodes = w.to_workflow().to_json()["nodes"]
    assert nodes["text_length_2"]["each"] == {"text": ["a", "bc"]}
    assert nodes["text_length_3"] == {"use": "core/text_length", "each": {"text": "text_length_2.int"}}


def test_workflows_inside(tmp_path: Path) -> None:
    inner = Workflow.build("inner", folder=tmp_path)
    inner.output(n=inner.text_length(text=inner.input("text", "text")).int)
    (tmp_path / "sub").mkdir()
    write(inner.to_workflow().to_json(), str(tmp_path / "sub" / "inner.json"))
    w = Workflow.build("outer", folder=tmp_path)
    both = [w.use(inner, text="abc"), w.use(Workflow.load(tmp_path / "sub" / "inner.json"), "file", text="abcd")]
    w.output(ns=[one.n for one in both])
    assert w.to_workflow().nodes["file"].use == "./sub/inner.json"
    with Engine(cache=False) as engine:
        assert engine.run(w).outputs == {"ns": [3, 4]}


def test_mistakes_have_the_line_of_the_call() -> None:
    w = Workflow.build("wrong")
    length = w.text_length(text=5)
    w.output(n=length.nit)
    with Engine(cache=False) as engine:
        found = engine.check(w)
    here = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert [problem.where for problem in found] == ["nodes.text_length.with.text", "outputs.n"]
    assert all(problem.file == __file__ for problem in found)
    assert {here[problem.line - 1].strip() for problem in found} == {"length = w.text_length(text=5)", "w.output(n=length.nit)"}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda w, node: w.text_length("a", text=node), "not-a-link"),
        (lambda w, node: w.join_texts(texts=[node.text, "b"]), "mixed-list"),
        (lambda w, node: w.text_length("node", text="x"), "name-clash"),
        (lambda w, node: w.text_length(text=Workflow.build().text(value="x").text), "foreign-link"),
        (lambda w, node: w.join_texts(texts=w.each([node.text, "b"])), "mixed-list"),
        (lambda w, node: w.format_json(json={"a": [node.text]}), "mixed-list"),
        (lambda w, node: w.text(value=f"{node.text}, in oil"), "link-in-text"),
        (lambda w, node: w.text(value=f"{node}, in oil"), "link-in-text"),
        (lambda w, node: w.text(value=w.each({"a", "b"})), "each-type"),
        (lambda w, node: w.text(value=w.each(node)), "not-a-link"),
        (lambda w, node: w.text(value=w.each("abc")), "each-type"),
        (lambda w, node: w.text(value=w.each(5)), "each-type"),
        (lambda w, node: w.use(None), "wrong-json"),
        (lambda w, node: w.output(x="node.text"), "not-a-link"),
        (lambda w, node: [w.input("a", "int"), w.input("a", "int")], "name-clash"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(wrong: Any, code: str) -> None:
    w = Workflow.build()
    node = w.text("node", value="x")
    with pytest.raises(WorkflowInvalid) as refused:
        wrong(w, node)
    [problem] = refused.value.problems
    assert problem.code == code
    assert problem.file == __file__
    assert problem.line > 0


def test_a_node_is_not_gone_through() -> None:
    """Python took its outputs 0, 1, 2 and so on, without end: `w.each(node)` took all memory."""
    node = Workflow.build().text(value="x")
    with pytest.raises(TypeError, match="not iterable"):
        list(node)  # type: ignore[call-overload]


def test_a_value_that_holds_itself_holds_no_link() -> None:
    w = Workflow.build()
    circle: list[Any] = []
    circle.append(circle)
    w.format_json(json=circle)
    with Engine(cache=False) as engine:
        assert [problem.where for problem in engine.check(w)] == ["nodes.format_json.with.json"]


def test_a_workflow_is_used_by_a_path(tmp_path: Path) -> None:
    (tmp_path / "inner.json").write_text('{"nodes": {"a": {"use": "text", "with": {"value": "x"}}}, "outputs": {"out": "a.text"}}')
    w = Workflow.build(folder=tmp_path)
    w.output(out=w.use(Path("inner.json")).out)
    with Engine(cache=False) as engine:
        assert engine.run(w).outputs == {"out": "x"}


def test_numbers_beyond_all_floats_go_to_python_and_back() -> None:
    workflow = Workflow.read('{"nodes": {"a": {"use": "make_list", "with": {"items": [1e999, -1e999, {"b": 1e999}]}}}}')
    assert rebuilt(workflow) == workflow.to_json()


def test_names_that_python_reads_as_others_stay_apart() -> None:
    """Python reads the ligature as two letters, and the micro sign as a Greek letter."""
    one = {"use": "sum", "with": {"\ufb01": 1, "fi": 2}}
    nodes = {"\ufb01": one, "fi": {"use": "sum", "from": {"\ufb01": "\ufb01.\ufb01", "fi": "\ufb01.fi"}}, "\u00b5": {"use": "\ufb01"}}
    record = {"nodegraph": 1, "inputs": {"\u03bc": {"type": "int"}}, "nodes": nodes, "outputs": {"\ufb01": "\u00b5.int", "fi": "fi.int"}}
    assert rebuilt(Workflow.of(record)) == record


def test_a_node_may_be_linked_before_it_is_there() -> None:
    w = Workflow.build()
    w.text_length(text=w.link("later.text"))
    w.text("later", value="abc")
    w.output(n=w.link("text_length.int"))
    with Engine(cache=False) as engine:
        assert engine.check(w) == []


# -- type checkers -----------------------------------------------------------------------------------------------------

RIGHT = """
from nodegraph import Workflow

w = Workflow.build("txt2img")
prompt = w.input("prompt", "text", default="")
model = w.load_model(name="tiny-sd")
positive = w.encode_text("positive", encoder=model.encoder, text=prompt)
canvas = w.empty_latent(model=model.denoiser, batch=2)
sample = w.sample_latent(
    model=model.denoiser, positive=positive.conditioning, latent=canvas.latent, guidance=3, sampler="ddim", seed=[1, 2]
)
decode = w.decode_latent(vae=model.vae, latent=sample.latent)
again = w.decode_latent("again", vae=model.vae, latent=sample.latent)
sheet = w.image_grid(images=[decode.image, again.image], columns=2)
size = w.image_size(image=sheet.image)
scaled = w.scale(image=sheet.image, factor=size.width)
w.output(image=scaled.image, sheet=[sheet.image])
"""
WRONG = {
    "latent=canvas.latent": ("latent=model.vae", 'has incompatible type "Link[Vae]"; expected "Link[Latent]'),
    "decode = w.decode_latent(vae=model.vae, latent=sample.latent)": (
        "decode = w.decode_latent(vae=model.vae, latent=sample.laten)",
        '"sample_latent_node" has no attribute "laten"',
    ),
    "w.load_model(": ("w.load_modle(", '"Nodes" has no attribute "load_modle"'),
    "guidance=3": ("guidence=3", 'Unexpected keyword argument "guidence"'),
    'sampler="ddim"': ('sampler="dim"', "has incompatible type"),
    "text=prompt": ("text=5", 'has incompatible type "int"'),
    "encoder=model.encoder, ": ("", 'Missing named argument "encoder"'),
    "batch=2": ("batch=2.5", 'has incompatible type "float"'),
    "images=[decode.image, again.image]": ("images=[decode.image, sample.latent]", "has incompatible type"),
}


@pytest.fixture(scope="module")
def typings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "typings"
    assert main(["stubs", "-q", "-o", str(folder)]) == 0
    return folder


SKIPPED = "torch.*,numpy.*,pydantic.*,PIL.*,rich.*,networkx.*,msgpack.*"


def checked(folder: Path, *texts: str) -> list[str]:
    """What mypy says of programs, each in a file of its own."""
    for number, text in enumerate(texts):
        (folder.parent / f"program{number}.py").write_text(text, encoding="utf-8")
    (folder.parent / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {folder}:{ROOT}\nstrict = True\nfollow_imports = silent\n[mypy-{SKIPPED}]\nfollow_imports = skip\n"
    )
    files = [f"program{number}.py" for number in range(len(texts))]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *files], cwd=folder.parent, capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).splitlines()


def test_mypy_passes_what_is_right_and_refuses_what_is_wrong(typings: Path) -> None:
    pytest.importorskip("mypy")
    wrong = [RIGHT.replace(there, instead) for there, (instead, _) in WRONG.items()]
    assert all(text != RIGHT for text in wrong)
    said = checked(typings, RIGHT, *wrong)
    assert [line for line in said if "program0" in line] == []
    for number, (_, message) in enumerate(WRONG.values(), 1):
        mine = [line for line in said if line.startswith(f"program{number}.py")]
        assert len([line for line in mine if ": error:" in line]) == 1, mine
        assert message in mine[0]


def test_the_stubs_themselves_are_clean(typings: Path) -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--follow-imports=silent", "--strict", str(typings / "nodegraph_nodes.pyi")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""


def test_the_command_prints_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(ROOT / "workflows" / "txt2img.json"), "--python"]) == 0
    assert "sample = w.sample_latent(" in capsys.readouterr().out
