# ruff: noqa: E501  (a table)
"""Packs that are wrong, odd or hostile: each gives one clear message, and harms nothing else."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import goldens
import pytest
from cases import bare_engine

from nodegraph import skeleton, spec_index
from nodegraph.errors import render
from nodegraph.packs import load_all
from nodegraph.registry import Registry
from nodegraph.settings import builtin_packs, packs_in

HEAD = "from __future__ import annotations\nfrom typing import Annotated, Any, NamedTuple\nfrom nodegraph import node, Field, Image, Lazy\n"
GOOD = {"pack.toml": "version = 3\n", "nodes.py": HEAD + "@node\ndef good(value: int = 1) -> int:\n    return value\n"}
ROOT = Path(__file__).parents[2]


def signature(line: str) -> dict[str, str]:
    return {"pack.toml": "", "nodes.py": f"{HEAD}@node\ndef plum{line}:\n    ...\n"}


WRONG: dict[str, dict[str, str]] = {
    "syntax-error": {"pack.toml": "", "nodes.py": HEAD + "@node\ndef plum(x: int -> int:\n    return x\n"},
    "null-bytes": {"pack.toml": "", "nodes.py": HEAD + "@node\ndef plum(x: int) -> int:\n    return x\0\n"},
    "missing-requirement": {"pack.toml": 'requires = ["no-such-thing >= 2"]\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "missing-import": {"pack.toml": "", "nodes.py": "import no_such_thing\n" + GOOD["nodes.py"].replace("good", "plum")},
    "missing-sibling": {"pack.toml": "", "nodes.py": "from .other import x\n" + HEAD + "@node\ndef plum(x: int) -> int: ...\n"},
    "toml-broken": {"pack.toml": "name = \n", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "toml-key": {"pack.toml": "versoin = 1\n"},
    "toml-name": {"pack.toml": 'name = "a b"\n'},
    "toml-version": {"pack.toml": 'version = "1"\n'},
    "toml-numerics": {"pack.toml": 'numerics = "torch"\n'},
    "not-text": {"pack.toml": "", "nodes.py": "latin"},
    "clash": {"pack.toml": "", "nodes.py": GOOD["nodes.py"]},
    "clash-inside": {"pack.toml": "", "a.py": GOOD["nodes.py"].replace("good", "plum"), "b.py": GOOD["nodes.py"].replace("good", "plum")},
    "clash-in-a-module": {"pack.toml": "", "nodes.py": HEAD + 2 * "@node\ndef plum(x: int) -> int: ...\n"},
    "misspelled-node": {"pack.toml": "", "nodes.py": "from nodegraph import Image, nod\n@nod\ndef pear(x: int) -> int: ...\n@node\ndef plum(x: int) -> int: ...\n"},
    "missing-name-of-nodegraph": {"pack.toml": "", "nodes.py": "from nodegraph import Blanket\n" + HEAD + "@node\ndef plum(x: int) -> int: ...\n"},
    "pack-clash": {"pack.toml": 'name = "good"\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "no-annotation": signature("(x) -> int"),
    "no-return": signature("(x: int)"),
    "positional": signature("(*x: int) -> int"),
    "no-port-type": signature("(x: complex) -> int"),
    "unknown-name": signature("(x: Imag) -> int"),
    "no-port-type-out": signature("(x: int) -> bytes"),
    "unknown-name-at-once": {"pack.toml": "", "nodes.py": "from nodegraph import node\n@node\ndef plum(x: Imag) -> int: ...\n"},
    "unknown-option": {"pack.toml": "", "nodes.py": HEAD + "@node(cached=False)\ndef plum(x: int) -> int: ...\n"},
    "pattern": signature("(x: Annotated[str, Field(pattern='(')]) -> int"),
    "multiple": signature("(x: Annotated[float, Field(multiple_of=0)]) -> int"),
    "default-wrong": signature("(x: int = 2.5) -> int"),
    "default-above": signature("(x: Annotated[int, Field(ge=0, le=3)] = 5) -> int"),
    "default-no-choice": {"pack.toml": "", "nodes.py": "from typing import Literal\n" + HEAD + "@node\ndef plum(x: Literal['a', 'b'] = 'c') -> int: ...\n"},
    "default-in-list": signature("(x: Annotated[list[float], Field(multiple_of=8)] = [8, 12]) -> int"),
    "default-lazy": signature("(x: Annotated[Lazy[int], Field(ge=0)] = -1) -> int"),
    "default-field": signature("(x: int = Field(5, ge=0)) -> int"),
    "limit-wrong": signature("(x: Annotated[int, Field(ge='a')] = 5, y: Annotated[float, Field(lt=float('nan'))] = 1) -> int"),
    "method": {"pack.toml": "", "nodes.py": HEAD + "class Fruit:\n    @staticmethod\n    @node\n    def plum(x: int) -> int: ...\n"},
    "inner": {"pack.toml": "", "nodes.py": HEAD + "def make():\n    @node(version=2)\n    def plum(x: int) -> int: ...\n"},
    "lambda": {"pack.toml": "", "nodes.py": HEAD + "pear = node(lambda x: x)\npear2 = node(version=2)(pear)\n"},
    "node-class": {"pack.toml": "", "nodes.py": HEAD + "@node\nclass pear:\n    x: int = 1\n"},
    "renamed-node": {"pack.toml": "", "nodes.py": "from nodegraph import node as step\n@step\ndef pear(x: int) -> int: ...\n"},
    "node-in-init": {"pack.toml": "", "__init__.py": HEAD + "@node\ndef plum(x: int) -> int: ...\n"},
    "node-in-loop": {"pack.toml": "", "nodes.py": HEAD + "for _ in range(2):\n    @node\n    def plum(x: int) -> int: ...\n"},
    "default-imported": {"pack.toml": "", "nodes.py": "import numpy as np\n" + HEAD + "@node\ndef plum(x: float = np.pi) -> int: ...\n"},
    "limit-imported": {"pack.toml": "", "nodes.py": "import numpy as np\n" + HEAD + "@node\ndef plum(x: Annotated[float, Field(ge=np.pi)]) -> int: ...\n"},
    "lane": {"pack.toml": "", "nodes.py": HEAD + "@node(lane='gpu')\ndef plum(x: int) -> int: ...\n"},
    "options": {"pack.toml": "", "nodes.py": HEAD + "@node(effect=True, volatile=True)\ndef plum(x: int) -> int: ...\n"},
    "name": {"pack.toml": "", "nodes.py": HEAD + "@node(name='a b')\ndef plum(x: int) -> int: ...\n"},
    "slow-signature": {"pack.toml": "", "nodes.py": "def many():\n    while True:\n        pass\nMANY = many()\n" + HEAD + "@node\ndef plum(x: int = MANY) -> int: ...\n"},
    "default-acts": {"pack.toml": "", "nodes.py": "import time\n" + HEAD + "@node\ndef plum(x: int = time.sleep(60) or 1) -> int: ...\n"},
    "no-requirement": {"pack.toml": 'requires = ["a b"]\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "older-requirement": {"pack.toml": 'requires = ["pytest < 1"]\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "missing-pack": {"pack.toml": 'packs = ["better >= 2"]\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "older-pack": {"pack.toml": 'packs = ["good >= 4"]\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "no-pack-range": {"pack.toml": 'packs = ["good >= x"]\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "import-out-of-packs": {"pack.toml": "", "nodes.py": "from ...x import y\n" + HEAD + "@node\ndef plum(x: int) -> int: ...\n"},
    "missing-import-of-a-helper": {"pack.toml": "", "helper.py": "import no_such_thing\nX = 1\n", "nodes.py": "from .helper import X\n" + GOOD["nodes.py"].replace("good", "plum")},
    "facts-import": {**GOOD, "facts.py": '"""from torch import x"""\ndef plum(x):\n    import torch\n', "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "facts-syntax": {**GOOD, "facts.py": "def good(", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "facts-import-over-lines": {**GOOD, "facts.py": "from \\\n    torch import nn\n", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "facts-import-in-folder": {**GOOD, "facts/__init__.py": "from .rules import plum\n", "facts/rules.py": "import math\nimport torch\n", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "facts-import-out-of-folder": {**GOOD, "facts/__init__.py": "from . import rules\n", "facts/rules.py": "from ..nodes import plum\n", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "facts-syntax-in-folder": {**GOOD, "facts/__init__.py": "from .rules import plum\n", "facts/rules.py": "\ndef plum(", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "missing-part-of-facts": {**GOOD, "facts/__init__.py": "import math\nfrom .ruls import plum\n", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "facts-import-beside": {**GOOD, "facts.py": "from .rules import plum\n", "rules.py": "", "nodes.py": GOOD["nodes.py"].replace("good", "plum")},
    "node-in-facts": {"pack.toml": "", "facts/__init__.py": "", "facts/rules.py": HEAD + "@node\ndef plum(x: int) -> int: ...\n"},
    "folder-syntax": {"pack.toml": "", "shapes/plums.py": "def plum(", "nodes.py": "from .shapes import plums\n" + GOOD["nodes.py"].replace("good", "plum")},
}  # fmt: skip
BODY = "@node\ndef plum(x: int = 1) -> int:\n    return x + 1\n"
ODD = {
    "torch at module level": "import torch\nimport torch.nn as nn\nfrom torch import Tensor\nclass Net(nn.Module):\n    pass\nEPS = torch.finfo(torch.float32).eps\n" + HEAD + BODY,
    "talks": "import sys\nprint('hello')\nsys.stderr.write('hello')\n" + HEAD + BODY,
    "sleeps": "import time\ntime.sleep(60)\n" + HEAD + BODY,
    "ends the program": "import sys\nsys.exit(3)\nx = sys.exit(4)\nif True:\n    sys.exit(5)\ntry:\n    sys.exit(6)\nfinally:\n    sys.exit(7)\n" + HEAD + BODY,
    "ends the program at once": "import os\nx = os._exit(3)\nos.abort()\n" + HEAD + BODY,
    "ends the process": "import os, signal\nx = os.kill(os.getpid(), signal.SIGKILL)\n" + HEAD + BODY,
    "sleeps for a value": "import time\nx = time.sleep(60)\n" + HEAD + BODY,
    "computes for ever": "def f():\n    while True:\n        pass\nx = f()\ny = [i for i in iter(int, 1)]\nclass A:\n    while True:\n        pass\n" + HEAD + BODY,
    "writes files": "import pathlib\nx = pathlib.Path('/no/such/folder').write_text('x')\ny = open('/no/such/file', 'w')\n" + HEAD + BODY,
    "starts programs": "import subprocess, threading\nx = subprocess.run(['false'], check=True)\nt = threading.Thread(target=print).start()\n" + HEAD + BODY,
    "loops": "while True:\n    pass\n" + HEAD + BODY,
    "raises": "raise RuntimeError('no')\n" + HEAD + BODY,
    "fails on the way": "x = 1 / 0\ny = x + undefined\n" + HEAD + BODY,
    "asks": "answer = input('?')\n" + HEAD + BODY,
    "decorated": HEAD + "import functools\ndef wrap(f):\n    return functools.wraps(f)(lambda **k: f(**k))\n@wrap\n@node\ndef plum(x: int = 1) -> int:\n    return x + 1\n",
    "in a block": HEAD + "try:\n    import json\nexcept ImportError:\n    pass\nelse:\n    @node\n    def plum(x: int = 1) -> int:\n        return x + 1\n",
    "with a byte order mark": "\ufeff" + HEAD + BODY,
    "a default without parts": HEAD + "class Mine:\n    pass\nMINE = Mine()\n" + BODY.replace("x: int = 1", "x: int = 1, mine: Mine = MINE"),
    "a class whose methods name imports": "from collections.abc import Mapping\nimport torch\nfrom nodegraph import node\nclass Mine:\n    def parts(self, x=torch.zeros(3), *more: torch.Tensor) -> tuple[Mapping, torch.Tensor]: ...\n" + BODY.replace("x: int = 1", "x: int = 1, mine: Mine | None = None"),
    "for type checkers": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import no_such_thing\n" + HEAD + BODY,
}  # fmt: skip


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"# \xff" if text == "latin" else text.encode())
    return folder


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "good", GOOD)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_pack(name, tmp_path, good):
    """One message; its nodes are absent and point to it; the other pack works."""
    bad = write(tmp_path / "bad", WRONG[name])
    registry = Registry()
    infos = load_all(registry, [good, bad])
    assert registry.names() == ["good"]
    assert not infos[0].problems
    said = render(infos[1].problems).replace(str(tmp_path), "HERE").replace(pytest.__version__, "VERSION")
    goldens.compare("packs.txt", name, said)
    if "plum" in "".join(WRONG[name].values()) and name != "name":
        text, fix = registry.unknown("plum")
        assert text.startswith(f"'plum' is in the pack '{infos[1].name}', which could not be loaded: ")
        assert fix


@pytest.mark.parametrize("clock", [time.monotonic, time.thread_time])
def test_time_that_a_pack_does_not_take_is_not_counted(clock, tmp_path, monkeypatch):
    """That of other processes while it is read, and that of what it imports."""

    def importing(name):
        until = clock() + 0.3
        while name == "decimal" and clock() < until:
            time.sleep(0.05) if clock is time.monotonic else None
        return importlib.__import__(name, fromlist=["*"])

    monkeypatch.setattr(skeleton, "PATIENCE", 0.2)
    monkeypatch.setattr(skeleton.importlib, "import_module", importing)
    nodes = HEAD + "import decimal\nMOST = int(decimal.Decimal(3))\n@node\ndef plum(x: int = MOST) -> int:\n    return x\n"
    (info,) = load_all(Registry(), [write(tmp_path / "slowly", {"pack.toml": "", "nodes.py": nodes})])
    assert info.problems == []


def test_folder_without_pack(tmp_path):
    (info,) = load_all(Registry(), [tmp_path])
    goldens.compare("packs.txt", "no-pack", render(info.problems).replace(str(tmp_path), "HERE").replace(tmp_path.name, "NAME"))


@pytest.mark.parametrize("name", ODD)
def test_odd_pack_is_read(name, tmp_path, good, capsys):
    """What its modules do when they are imported is not done to read them."""
    registry = Registry()
    infos = load_all(registry, [write(tmp_path / "odd", {"pack.toml": "", "nodes.py": ODD[name]}), good])
    assert [info.problems for info in infos] == [[], []]
    assert registry.names() == ["good", "plum"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["in a block", "with a byte order mark", "a default without parts", "decorated"])
def test_odd_pack_runs(name, tmp_path):
    pack = write(tmp_path / "odd", {"pack.toml": f'name = "odd_{abs(hash(name))}"\n', "nodes.py": ODD[name]})
    with bare_engine(packs=[pack]) as engine:
        assert engine.run({"nodes": {"a": {"use": "plum"}}, "outputs": {"out": "a.int"}}).outputs == {"out": 2}


@pytest.mark.parametrize("name", ["torch at module level", "ends the program", "ends the program at once", "raises"])
def test_what_cannot_be_imported_fails_when_it_runs(name, tmp_path):
    pack = write(tmp_path / "odd", {"pack.toml": f'name = "odd_{abs(hash(name))}"\n', "nodes.py": ODD[name]})
    with bare_engine(packs=[pack]) as engine:
        job = engine.submit({"nodes": {"a": {"use": "plum"}}, "outputs": {"out": "a.int"}})
        result = job.result(10)
    assert result.status == "failed"
    assert [problem.code for problem in result.problems] == ["node-failed"]


RULES = (
    "from nodegraph.facts import Mismatch\ndef rule(value):\n    return Mismatch('value', 'odd') if value.get('value', 0) % 2 else None\n"
)
FACTS = {
    "one_file": {"facts.py": RULES.replace("rule", "good")},
    "folder": {"facts/__init__.py": "from .rules import rule\ndef good(value): return rule(value)\n", "facts/rules.py": RULES},
    "folder_of_folders": {
        "facts/__init__.py": "from .rules import odd\ndef good(value): return odd.rule(value)\n",
        "facts/more.py": RULES,
        "facts/rules/odd.py": "from ..more import rule\n",
        "facts/rules/__init__.py": "from . import odd\n",
    },
}


@pytest.mark.parametrize("name", FACTS)
def test_init_is_not_run_for_facts(name, tmp_path):
    files = {**GOOD, "pack.toml": f'name = "initial_{name}"', "__init__.py": "raise RuntimeError", **FACTS[name]}
    with bare_engine(packs=[write(tmp_path / "p", files)]) as engine:
        assert engine.packs[0].problems == []
        assert engine.check({"nodes": {"a": {"use": "good", "with": {"value": 2}}}}) == []
        assert [one.text for one in engine.check({"nodes": {"a": {"use": "good", "with": {"value": 3}}}})] == ["odd"]


@pytest.mark.parametrize("name", FACTS)
def test_nodes_import_what_facts_import(name, tmp_path):
    """From the facts as a whole and from a part of them, in the pack and in another one; signatures get what they name."""
    files = {**FACTS[name], "pack.toml": f'name = "rules_{name}"', "nodes.py": GOOD["nodes.py"]}
    part, rule = ("facts", "good") if name == "one_file" else ("facts.more", "rule") if "more" in str(files) else ("facts.rules", "rule")
    files[f"{part.replace('.', '/')}.py"] += "MOST = 8\n"
    uses = HEAD + f"from {{0}}.facts import good as judge\nfrom {{0}}.{part} import MOST, {rule}\nfrom {{0}} import facts\n"
    uses += "@node\ndef {1}(x: Annotated[int, Field(le=MOST)] = MOST) -> int:\n"
    uses += f"    return sum(one.__module__.startswith('nodegraph_packs') for one in (facts.good, judge, {rule}))\n"
    own = write(tmp_path / "p", {**files, "uses.py": uses.replace("{0}.", ".").replace("{0}", ".").replace("{1}", "plum")})
    other = {"pack.toml": f'packs = ["rules_{name}"]', "nodes.py": uses.replace("{0}", f"..rules_{name}").replace("{1}", "pear")}
    with bare_engine(packs=[own, write(tmp_path / f"other_{name}", other)]) as engine:
        assert [info.problems for info in engine.packs[:2]] == [[], []]
        for node in ("plum", "pear"):
            assert engine.registry.get(node).inputs["x"].maximum == 8
            assert engine.run({"nodes": {"a": {"use": node}}, "outputs": {"out": "a.int"}}).outputs == {"out": 3}


def test_folder_of_that_name_is_not_facts(tmp_path):
    """Without an `__init__.py` it is one of modules like others, which may have nodes."""
    registry = Registry()
    (info,) = load_all(registry, [write(tmp_path / "p", {"pack.toml": "", "facts/nodes.py": GOOD["nodes.py"]})])
    assert (info.problems, registry.names()) == ([], ["good"])
    assert registry.facts(registry.get("good")) is None


def test_mended_pack_is_forgiven(tmp_path):
    registry = Registry()
    folder = write(tmp_path / "mend", {"pack.toml": "", "nodes.py": "def ("})
    write(folder, {"nodes.py": HEAD + "@node\ndef plum(x: int -> int: ..."})
    load_all(registry, [folder])
    assert "could not be loaded" in registry.unknown("plum")[0]
    write(folder, {"nodes.py": HEAD + BODY})
    load_all(registry, [folder])
    assert registry.get("plum")
    assert "could not" not in registry.unknown("pear")[1]


# -- the index -----------------------------------------------------------------------------------------------------


def described(registry: Registry) -> list[object]:
    def kept(one):
        fields = {name: getattr(one, name) for name in one.__dataclass_fields__ if name not in ("call", "fingerprint")}
        return {**fields, "call": repr(one.call), "fingerprint": repr(one.fingerprint)}

    return [kept(one) for one in registry]


def test_index_gives_back_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("nodegraph.spec_index._REMEMBERED", {})
    plain, made, again = Registry(), Registry(), Registry()
    packs = packs_in(builtin_packs())
    load_all(plain, packs)
    spec_index._REMEMBERED.clear()
    load_all(made, packs, tmp_path)
    assert len(list((tmp_path / "packs").iterdir())) == len(packs)
    spec_index._REMEMBERED.clear()
    load_all(again, packs, tmp_path)
    assert described(plain) == described(made) == described(again)
    assert len(plain)


def test_index_follows_the_sources(tmp_path, good):
    registry = Registry()
    load_all(registry, [good], tmp_path / "index")
    load_all(registry, [good], tmp_path / "index")
    assert registry.names() == ["good"]
    write(good, {"nodes.py": GOOD["nodes.py"].replace("good", "better")})
    load_all(registry, [good], tmp_path / "index")
    assert registry.names() == ["better"]
    write(good, {"more.py": GOOD["nodes.py"].replace("good", "more")})
    load_all(registry, [good], tmp_path / "index")
    assert registry.names() == ["better", "more"]


@pytest.mark.parametrize("kind", ["packs", "catalogs"])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"x\n{}", b"[]", None])
def test_damaged_index_is_made_anew(kind, damage, tmp_path, good):
    load_all(Registry(), [good], tmp_path / "index")
    (file,) = (tmp_path / "index" / kind).iterdir()
    sound = file.read_bytes()
    file.write_bytes(sound[:-20] if damage is None else damage)
    registry = Registry()
    assert not load_all(registry, [good], tmp_path / "index")[0].problems
    assert registry.names() == ["good"]
    assert registry.get("good").inputs["value"].default == 1
    assert file.read_bytes() == sound


def test_record_that_is_gone_when_it_is_asked_for(tmp_path, good):
    """As when another process clears the cache: read again, or said to have changed."""
    for change in (False, True):
        load_all(Registry(), [good], tmp_path / "index")
        registry = Registry()
        load_all(registry, [good], tmp_path / "index")
        (file,) = (tmp_path / "index" / "packs").iterdir()
        file.unlink()
        if change:
            write(good, {"nodes.py": GOOD["nodes.py"] + "# changed"})
        one = registry.get("good")
        assert (one is None) == change
    assert "has changed since it was loaded" in registry.unknown("good")[0]


def test_node_types_are_made_when_they_are_asked_for(tmp_path, good, monkeypatch):
    """A start reads the catalog alone; asking for a node reads the record of its pack and of no other."""
    other = write(
        tmp_path / "other", {"pack.toml": "", "nodes.py": GOOD["nodes.py"].replace("good", "plum").replace("@node", "@node(was=('old',))")}
    )
    load_all(Registry(), [good, other], tmp_path / "index")
    asked = []
    reading = spec_index.SpecIndex.nodes
    monkeypatch.setattr(spec_index.SpecIndex, "nodes", lambda self, pack, files: asked.append(pack.name) or reading(self, pack, files))
    registry = Registry()
    infos = load_all(registry, [good, other], tmp_path / "index")
    assert [info.nodes for info in infos] == [["good"], ["plum"]]
    assert registry.names() == ["good", "plum"]
    assert len(registry) == 2
    assert "int" in registry.type_names()
    assert "did you mean 'plum'" in registry.unknown("plumm")[1]
    assert asked == []
    assert registry.get("old").name == "plum"
    assert registry.get("other/plum").name == "plum"
    assert asked == ["other"]
    assert [one.name for one in registry.copy()] == ["good", "plum"]
    assert sorted(asked) == ["good", "other"]


def test_index_that_cannot_be_written(tmp_path, good):
    (tmp_path / "index").write_text("a file where a folder should be")
    registry = Registry()
    assert not load_all(registry, [good], tmp_path / "index")[0].problems
    assert registry.names() == ["good"]


def test_index_of_many_at_once(tmp_path, good):
    wrong = []

    def work():
        for _ in range(20):
            registry = Registry()
            if load_all(registry, [good], tmp_path / "index")[0].problems or registry.names() != ["good"]:
                wrong.append(registry)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_default_that_is_not_plain_is_read_each_time(tmp_path):
    source = HEAD + "@node\ndef plum(x: Any = (1, 2)) -> int:\n    return 1\n"
    pack = write(tmp_path / "p", {"pack.toml": "", "nodes.py": source})
    for _ in range(2):
        registry = Registry()
        load_all(registry, [pack], tmp_path / "index")
        assert registry.get("plum").inputs["x"].default == (1, 2)
    assert not (tmp_path / "index").exists()


# -- without torch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["check", "WORKFLOW"], ["nodes"], ["nodes", "decode_latent"]])
def test_commands_never_import_torch(command, tmp_path):
    """In a process of its own, where whoever imports torch, numpy or diffusers fails."""
    block = """
import sys, importlib.util
class Block:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_loader(name, Block) if name in ("torch", "diffusers", "transformers", "numpy") else None
    @staticmethod
    def create_module(spec):
        raise ImportError("blocked: " + spec.name)
    exec_module = create_module
sys.meta_path.insert(0, Block)
"""
    (tmp_path / "sitecustomize.py").write_text(block)
    workflow = ROOT / "workflows" / "txt2img.json"
    arguments = [str(workflow) if word == "WORKFLOW" else word for word in command]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "nodegraph", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "blocked" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


def test_records_are_plain_json(tmp_path, good):
    load_all(Registry(), [good], tmp_path / "index")
    (file,) = (tmp_path / "index" / "packs").iterdir()
    record = json.loads(file.read_text().partition("\n")[2])
    assert [one["name"] for one in record["nodes"]] == ["good"]


SIGNATURES = """
import os, sys, time
from enum import Enum
from functools import partial
from .ports import Width, size
LOW = 8 * 2
HIGH = LOW * 4
def bounded(doc, low=LOW):
    return Annotated[int, Field(ge=low, le=HIGH), doc]
NAMES = tuple(sorted({"b", "a"}))
if sys.version_info >= (3, 11):
    DEFAULT = "b"
else:
    DEFAULT = "a"
try:
    import no_such_thing
    SPEED = no_such_thing.SPEED
except ImportError:
    SPEED = 2.5
class Pair(NamedTuple):
    first: int
    second: "Thing"
class Thing:
    LIMITS = {}
    def parts(self): return {}, {}
Thing.LIMITS["high"] = HIGH
UNUSED = time.sleep(60)
@node
def plum(a: bounded("how wide"), b: Width, c: size(4) = 5, how: Literal[NAMES] = DEFAULT, speed: float = SPEED, top: int = Thing.LIMITS["high"]) -> Pair:
    ...
"""


def test_signatures_get_what_they_name(tmp_path):
    """Constants, helpers, aliases, blocks and modules of the pack are made as far as signatures need them."""
    ports = (
        HEAD
        + "import time\nUNUSED = time.sleep(60)\nMOST = 4096\nWidth = Annotated[int, Field(ge=1, le=MOST)]\ndef size(n): return Annotated[int, Field(multiple_of=1, ge=n)]\n"
    )
    source = HEAD + "from typing import Literal\n" + SIGNATURES
    registry = Registry()
    (info,) = load_all(registry, [write(tmp_path / "p", {"pack.toml": "", "nodes.py": source, "ports.py": ports})])
    assert not info.problems, render(info.problems)
    ports = registry.get("plum").inputs
    assert (ports["a"].minimum, ports["a"].maximum, ports["a"].doc) == (16, 64, "how wide")
    assert (ports["b"].maximum, ports["c"].minimum) == (4096, 4)
    assert (ports["how"].choices, ports["how"].default) == (("a", "b"), "b")
    assert (ports["speed"].default, ports["top"].default) == (2.5, 64)
    assert {name: str(port.type) for name, port in registry.get("plum").outputs.items()} == {"first": "int", "second": "p/Thing"}
