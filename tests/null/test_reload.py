"""Packs that change while an engine is open: files saved, renamed over, deleted, broken and mended, with runs in flight."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from cases import bare_engine
from small_packs import HEAD, body, both, using, write

from nodegraph import editions, kinds, spec_index
from nodegraph.errors import render

GATES: dict[str, threading.Event] = {}
"""Where nodes of the packs below wait: reached through `sys.modules`, as they import nothing of the tests."""
sys.modules.setdefault("reload_gates", sys.modules[__name__])


def answer(engine, name: str, **literals: object) -> object:
    return engine.run(using(name, **literals)).outputs["out"]


def key_names(engine) -> dict[str, str]:
    return {one.name: one.key_name for one in engine.registry if one.pack}


@pytest.fixture
def packs(tmp_path, monkeypatch):
    """The folder that packs are found in; there are no built-in ones."""
    monkeypatch.setattr("nodegraph.settings.builtin_packs", lambda: tmp_path / "none")
    folder = tmp_path / "packs"
    folder.mkdir()
    return folder


def test_saved_file(packs):
    write(packs / "mine", nodes=body("plum", "value + 1"), other=body("pear", "value"))
    with bare_engine(packs=[packs]) as engine:
        assert answer(engine, "plum") == 2
        before = key_names(engine)
        write(packs / "mine", nodes=body("plum", "value + 5"))
        assert engine.reload().changed == ("mine",)
        assert answer(engine, "plum") == 6
        assert {name for name, key in key_names(engine).items() if key != before[name]} == {"plum"}
        assert not engine.reload()


def test_same_size_in_the_same_instant(packs):
    """Reload believes neither the time of its bytes nor bytecode; told which file was saved, nor that of any change, which may be the
    same for a moment."""
    file = packs / "mine" / "nodes.py"
    write(packs / "mine", nodes=body("plum", "value + 1"))
    stat = file.stat()
    with bare_engine(packs=[packs]) as engine:
        for number in (2, 3, 4):
            assert answer(engine, "plum") == number
            write(packs / "mine", nodes=body("plum", f"value + {number}"))
            os.utime(file, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
            assert engine.reload([file]).changed == ("mine",)


def test_same_size_and_time_of_what_is_put_in_the_place_of_a_file(packs, monkeypatch):
    """As `cp -p` and `rsync -t` may do: the old results were given, or the node failed, in a new process too."""
    options = {"packs": [packs], "cache": str(packs.parent / "cache")}
    long_ago = time.time_ns() - 10**12
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    for number in (1, 2, 3):
        new_process()
        write(packs / "mine", nodes=body("plum", f"value + {number}"))
        for path in (packs / "mine" / "nodes.py", packs / "mine"):
            os.utime(path, ns=(long_ago, long_ago))
        with bare_engine(**options) as engine:
            assert answer(engine, "plum") == 1 + number
        time.sleep(0.02)  # as coarse as the clock of files may be


def test_keys_follow_what_is_imported(packs):
    write(
        packs / "mine",
        helpers="STEP = 1\n",
        uses=body("plum", "value + STEP", "from .helpers import STEP"),
        apart=body("pear", "value"),
        chained=body("quince", "plum(value)", "from .uses import plum"),
    )
    with bare_engine(packs=[packs]) as engine:
        assert [answer(engine, name) for name in ("plum", "pear", "quince")] == [2, 1, 2]
        before = key_names(engine)
        write(packs / "mine", helpers="STEP = 10\n")
        assert engine.reload()
        after = key_names(engine)
        assert {name for name in after if after[name] != before[name]} == {"plum", "quince"}
        assert [answer(engine, name) for name in ("plum", "pear", "quince")] == [11, 1, 11]


@pytest.mark.parametrize(
    "importing",
    [
        "from.helpers import STEP",
        "from . helpers import STEP",
        "from .helpers import(STEP)",
        "from .import helpers; STEP = helpers.STEP",
        "import os; from .helpers import STEP",
        "if True: from .helpers import STEP",
        "from . import(helpers); STEP = helpers.STEP",
        "from . import (\n    other,  # (and more)\n    helpers,\n)\nSTEP = helpers.STEP",
        "from \\\n    .helpers \\\n    import STEP",
        "from . import other, \\\n    helpers\nSTEP = helpers.STEP",
    ],
)
def test_keys_follow_what_is_imported_however_that_is_written(packs, importing):
    write(packs / "mine", helpers="STEP = 1\n", other="", uses=body("plum", "value + STEP", importing))
    with bare_engine(packs=[packs]) as engine:
        assert answer(engine, "plum") == 2
        write(packs / "mine", helpers="STEP = 10\n")
        assert engine.reload()
        assert answer(engine, "plum") == 11


def test_keys_follow_the_folders_that_modules_lie_in(packs):
    """Python imports them first, and they may do anything to what lies in them."""
    write(
        packs / "mine",
        steps="STEP = 1\n",
        sub__init=body("pear", "value + STEP", "from ..steps import STEP\nfrom . import inner\ninner.STEP = STEP"),
        sub__inner=body("plum", "value + STEP", "STEP = 0"),
        apart=body("quince", "value"),
    )
    with bare_engine(packs=[packs]) as engine:
        assert [answer(engine, name) for name in ("plum", "pear", "quince")] == [2, 2, 1]
        before = key_names(engine)
        write(packs / "mine", steps="STEP = 10\n")
        assert engine.reload()
        after = key_names(engine)
        assert {name for name in after if after[name] != before[name]} == {"plum", "pear"}
        assert [answer(engine, name) for name in ("plum", "pear", "quince")] == [11, 11, 1]


def test_unchanged_modules_stay_the_same_modules(packs):
    """So a class of theirs is one class, whatever else of the pack changes."""
    thing = HEAD + "class Thing:\n    def __init__(self, n): self.n = n\n    def parts(self): return {'n': self.n}, {}\n"
    thing += "    @classmethod\n    def from_parts(cls, meta, arrays): return cls(meta['n'])\n"
    thing += "CALLS = []\n@node\ndef make(n: int = 3) -> Thing:\n    CALLS.append(n)\n    return Thing(n)\n"
    taking = HEAD + "from .things import CALLS, Thing\n@node\ndef take(thing: Thing) -> int:\n"
    taking += "    assert isinstance(thing, Thing)\n    return thing.n + {} + 10 * len(CALLS)\n"
    write(packs / "mine", things=thing, taking=taking.format(1))
    flow = {"nodes": {"m": {"use": "make"}, "t": {"use": "take", "from": {"thing": "m.thing"}}}, "outputs": {"out": "t.int"}}
    with bare_engine(packs=[packs]) as engine:
        assert engine.run(flow).outputs["out"] == 14
        write(packs / "mine", taking=taking.format(2))
        assert engine.reload()
        assert engine.run(flow).outputs["out"] == 15  # make was not called again, and its value is still a Thing


WAITS = """
from reload_gates import GATES
from .late import LATE
@node
def waits(value: int = 0, *, run: Run) -> int:
    GATES['here'].set()
    GATES['go'].wait(10)
    from .later import LATER
    return value + LATE + LATER + {}
@node
def turns(count: int = 2, value: int = 0) -> int:
    if count <= 0:
        return value
    graph = Graph()
    one = graph.add('one', 'waits', value=graph.input('value'))
    return graph.give(int=graph.add('next', 'turns', count=count - 1, value=one['int'])['int'])
"""


@pytest.fixture
def gates():
    GATES.update(here=threading.Event(), go=threading.Event())
    yield GATES
    GATES["go"].set()


def test_run_in_flight_ends_with_its_own_code(packs, gates):
    """Also for modules that it imports only later, and for graphs that its nodes return."""
    write(packs / "mine", nodes=HEAD + WAITS.format(0), late="LATE = 10\n", later="LATER = 100\n")
    with bare_engine(packs=[packs]) as engine:
        old = engine.submit(using("turns"))
        assert gates["here"].wait(10)
        write(packs / "mine", nodes=HEAD + WAITS.format(1000), late="LATE = 20\n", later="LATER = 200\n")
        assert engine.reload().changed == ("mine",)
        new = engine.submit(using("turns"))
        gates["go"].set()
        assert old.result(10).outputs == {"out": 220}
        assert new.result(10).outputs == {"out": 2440}


TAKING = (
    HEAD
    + """
@node
def {name}(value: int = 1) -> int:
    if not value:
        return 0
    from .{helper} import NUMBER
    return value + NUMBER + {more}
"""
)
GATED = "from reload_gates import GATES\nGATES['here'].set()\nGATES['go'].wait(10)\n"


def at_once(engine, gates) -> list[object]:
    """What two nodes give of which the second comes while the first one imports."""
    first = engine.submit(using("plum"))
    assert gates["here"].wait(10)
    second = engine.submit(using("pear"))
    time.sleep(0.3)
    gates["go"].set()
    return [job.result(10).outputs["out"] for job in (first, second)]


def test_a_module_that_is_as_it_was_is_imported_by_another_that_is_waited_for(packs, gates):
    """The node that imported the other one held what the unchanged one was then waited for with: neither ended, ever."""
    write(packs / "mine", one=TAKING.format(name="plum", helper="late", more=0), base="NUMBER = 10\n", late="from .base import NUMBER\n")
    with bare_engine(packs=[packs]) as engine:
        assert answer(engine, "plum") == 11
        two = HEAD + "from .late import NUMBER\n@node\ndef pear(value: int = 1) -> int:\n    return value + NUMBER\n"
        write(packs / "mine", two=two, late=f"{GATED}from .base import NUMBER\n")
        assert engine.reload().changed == ("mine",)
        assert at_once(engine, gates) == [11, 11]


def test_a_module_that_is_as_it_was_is_first_imported_by_two_threads(packs, gates):
    """The second one got what had stood in its place meanwhile, with nothing in it."""
    for more in (0, 5):
        taking = {name: TAKING.format(name=name, helper="base", more=more) for name in ("plum", "pear")}
        write(packs / "mine", base=f"{GATED}NUMBER = 10\n", **taking)
        if not more:
            engine = bare_engine(packs=[packs])
    with engine:
        assert engine.reload().changed == ("mine",)
        assert [answer(engine, name, value=0) for name in ("plum", "pear")] == [0, 0]  # so that nothing else is still to be imported
        assert at_once(engine, gates) == [16, 16]


def new_process() -> None:
    """Forget what this process knows of packs, so that the next engine has the index alone."""
    for name in [name for name in sys.modules if name.startswith(editions.ROOT)]:
        del sys.modules[name]
    editions._latest.clear()
    spec_index._REMEMBERED.clear()


@pytest.mark.parametrize("kept", [True, False])
def test_what_the_index_knows_runs_as_it_was(kept, packs, gates):
    """Modules that were never read in this process, whose files change: held by `keep_code`, refused without, and never mixed."""
    write(packs / "mine", nodes=HEAD + WAITS.format(0), late="LATE = 10\n", later="LATER = 100\n")
    write(packs / "other", nodes=body("plum", "value + 1"))
    nodes = {"w": {"use": "waits"}, "p": {"use": "plum", "from": {"value": "w.int"}}}
    options = {"packs": [packs], "cache": str(packs.parent / "cache")}
    bare_engine(**options).close()
    new_process()
    with bare_engine(**options) as engine:
        if kept:
            engine.keep_code()
        job = engine.submit({"nodes": nodes, "outputs": {"out": "p.int"}})
        assert gates["here"].wait(10)
        write(packs / "other", nodes=body("plum", "value + 6"))
        engine.reload()
        gates["go"].set()
        result = job.result(10)
        assert result.outputs == ({"out": 111} if kept else {})
        assert [problem.code for problem in result.problems] == ([] if kept else ["pack-changed"])


def test_changed_file_is_never_run_under_an_old_key(packs):
    """Without a reload: what a key promises is what was read."""
    write(packs / "mine", nodes=body("plum", "value + 1"))
    options = {"packs": [packs], "cache": str(packs.parent / "cache")}
    bare_engine(**options).close()
    new_process()
    with bare_engine(**options) as engine:
        write(packs / "mine", nodes=body("plum", "value + 2"))
        (problem,) = engine.submit(using("plum")).result(10).problems
        assert (problem.code, problem.where) == ("pack-changed", "a")
        assert "'nodes.py' of the pack 'mine' has changed since the pack was loaded" in problem.text
        assert engine.reload()
        assert answer(engine, "plum") == 3


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (HEAD + "@node\ndef plum(value: int -> int:\n", "bad-module"),
        (HEAD + "@node\ndef plum(value: complex) -> int: ...\n", "node-signature"),
        ("import no_such_thing\n" + body("plum", "1"), "pack-import"),
        (both("plum", "pear"), "node-clash"),
    ],
)
def test_broken_save_keeps_the_last_good_version(broken, code, packs):
    write(packs / "mine", nodes=body("plum", "value + 1"))
    write(packs / "other", nodes=body("pear", "value"))
    with bare_engine(packs=[packs]) as engine:
        before = key_names(engine)
        engine.keep_code()
        write(packs / "mine", nodes=broken)
        outcome = engine.reload()
        assert [problem.code for problem in outcome.problems] == [code]
        assert not outcome.changed
        assert key_names(engine) == before
        assert answer(engine, "plum") == 2
        (info,) = [info for info in engine.packs if info.name == "mine"]
        assert info.nodes == ["plum"]
        assert info.problems
        assert not engine.reload()  # said once
        write(packs / "mine", nodes=body("plum", "value + 3"))
        assert engine.reload().changed == ("mine",)
        assert answer(engine, "plum") == 4
        assert not any(info.problems for info in engine.packs)


def test_unknown_node_of_a_broken_save_points_to_it(packs):
    write(packs / "mine", nodes=body("plum", "1"))
    with bare_engine(packs=[packs]) as engine:
        write(packs / "mine", nodes=body("plum", "1") + "@node\ndef quince(x: int) -> int\n")
        engine.reload()
        (problem,) = engine.check(using("quince"))
        assert "'quince' is in the pack 'mine', which could not be loaded: nodes.py is not valid Python" in problem.text


def test_new_and_deleted_files_and_packs(packs):
    write(packs / "mine", nodes=body("plum", "1"), more=body("pear", "2"))
    with bare_engine(packs=[packs]) as engine:
        (packs / "mine" / "more.py").unlink()
        assert engine.reload().changed == ("mine",)
        assert list(key_names(engine)) == ["plum"]
        write(packs / "mine", fresh=body("fig", "3"))
        assert engine.reload([packs / "mine" / "fresh.py"]).changed == ("mine",)
        assert answer(engine, "fig") == 3
        write(packs / "extra", nodes=body("quince", "4"))
        assert engine.reload().changed == ("extra",)
        assert answer(engine, "quince") == 4
        (packs / "mine" / "pack.toml").unlink()
        assert engine.reload().removed == ("mine",)
        assert list(key_names(engine)) == ["quince"]
        assert [info.name for info in engine.packs] == ["extra"]


def test_renamed_pack_and_moved_node(packs):
    write(packs / "one", nodes=both("plum", "pear"), toml='name = "first"')
    write(packs / "two", nodes=body("fig", "1"))
    with bare_engine(packs=[packs]) as engine:
        write(packs / "one", toml='name = "better"\nversion = 2')
        outcome = engine.reload()
        assert (outcome.changed, outcome.removed) == (("better",), ("first",))
        assert engine.registry.versions == {"better": 2, "two": 1}
        write(packs / "one", nodes=body("plum", "1"))
        write(packs / "two", nodes=both("fig", "pear"))
        assert engine.reload().changed == ("better", "two")
        assert answer(engine, "pear") == 7


def test_packs_that_import_from_another(packs):
    helpers = "STEP = {}\ndef step(value):\n    return value + STEP\n"
    importing = "from ..base.helpers import step"
    write(packs / "base", helpers=helpers.format(1), nodes=body("fig", "value"))
    write(packs / "a_user", nodes=body("plum", "step(value)", importing), apart=body("pear", "value"), toml='packs = ["base >= 1"]')
    write(packs / "b_user", nodes=body("quince", "plum(value)", "from ..a_user.nodes import plum"), toml='packs = ["a_user"]')
    with bare_engine(packs=[packs]) as engine:
        assert not any(info.problems for info in engine.packs), render(engine.packs[0].problems)
        assert [answer(engine, name) for name in ("plum", "quince", "pear")] == [2, 2, 1]
        before = key_names(engine)
        write(packs / "base", helpers=helpers.format(5))
        assert set(engine.reload([packs / "base" / "helpers.py"]).changed) == {"base", "a_user", "b_user"}
        after = key_names(engine)
        assert {name for name in after if after[name] != before[name]} == {"plum", "quince"}
        assert [answer(engine, name) for name in ("plum", "quince", "pear")] == [6, 6, 1]
        write(packs / "base", helpers="def (\n")
        assert [problem.where for problem in engine.reload().problems] == ["base"]
        assert [answer(engine, name) for name in ("plum", "quince", "pear")] == [6, 6, 1]
        write(packs / "base", toml="version = 0", helpers=helpers.format(7))
        outcome = engine.reload()
        assert [problem.code for problem in outcome.problems] == ["pack-version"], render(outcome.problems)
        assert "needs 'base >= 1', but 'base' is version 0" in outcome.problems[0].text


def test_packs_that_import_what_is_not_there(packs):
    write(packs / "mine", nodes=body("plum", "x", "from ..base.helpers import x"), toml='packs = ["base"]')
    write(packs / "undeclared", nodes=body("pear", "x", "from ..base.helpers import x"))
    write(packs / "round", nodes=body("fig", "1"), toml='packs = ["trip"]')
    write(packs / "trip", nodes=body("quince", "1"), toml='packs = ["round"]')
    with bare_engine(packs=[packs]) as engine:
        codes = {info.name: info.problems[0].code for info in engine.packs}
        assert codes == {"mine": "pack-missing", "undeclared": "pack-import", "round": "pack-missing", "trip": "pack-missing"}
        (said,) = [info.problems[0] for info in engine.packs if info.name == "undeclared"]
        assert said.fix == 'write packs = ["base"] in pack.toml'
        write(packs / "base", helpers="x = 5\n")
        assert set(engine.reload().changed) == {"base", "mine"}
        assert answer(engine, "plum") == 5


def test_facts_are_read_again(packs):
    facts = "from nodegraph.facts import Mismatch\ndef plum(**facts):\n    {}\n"
    write(packs / "mine", nodes=body("plum", "1"), facts=facts.format("return None"))
    with bare_engine(packs=[packs]) as engine:
        assert engine.check(using("plum")) == []
        write(packs / "mine", facts=facts.format("return Mismatch('value', 'no')"))
        assert engine.reload()
        assert [one.text for one in engine.check(using("plum"))] == ["no"]


def test_part_of_facts_is_read_again(packs):
    """One of several files, before or after the facts were imported; what was broken by then, mended; keys follow it."""
    rule = "from nodegraph.facts import Mismatch\ndef judge():\n    return Mismatch('value', '{}')\n"
    whole = "from .rules import judge\ndef plum(**facts):\n    return judge()\n"
    write(packs / "mine", nodes=both("plum", "pear"), uses=body("fig", "judge()", "from .facts.rules import judge"))
    (packs / "mine" / "__init__.py").write_text("raise RuntimeError('not for facts')\n")
    write(packs / "mine", facts__init=whole, facts__rules=rule.format("once"))
    with bare_engine(packs=[packs]) as engine:
        for said in ("before", "after", "again"):
            before = key_names(engine)
            write(packs / "mine", facts__rules=rule.format(said))
            assert engine.reload([packs / "mine" / "facts" / "rules.py"] if said == "again" else None).changed == ("mine",)
            assert [one.text for one in engine.check(using("plum"))] == [said]
            assert {name for name, key in key_names(engine).items() if key != before[name]} == {"fig"}
        write(packs / "mine", facts__init="raise RuntimeError('broken')\n" + whole)
        assert engine.reload().changed == ("mine",)
        assert [one.code for one in engine.check(using("plum"))] == ["facts-failed"]
        write(packs / "mine", facts__init=whole)
        assert engine.reload().changed == ("mine",)
        assert [one.text for one in engine.check(using("plum"))] == ["again"]
        write(packs / "mine", facts__rules="def judge(\n")
        assert [one.code for one in engine.reload().problems] == ["bad-module"]
        assert [one.text for one in engine.check(using("plum"))] == ["again"]


def test_old_code_goes_when_nobody_calls_it(packs):
    write(packs / "mine", nodes=body("plum", "value + 0"))
    with bare_engine(packs=[packs]) as engine:
        for number in range(1, 6):
            assert answer(engine, "plum", value=number) == 2 * number - 1
            write(packs / "mine", nodes=body("plum", f"value + {number}"))
            engine.reload()
        gc.collect()
        left = [name for name in sys.modules if name.startswith(editions.ROOT) and str(packs) in str(sys.modules[name].__file__ or "")]
        assert len(left) <= 2, left


def test_packs_in_folders_that_are_gone_are_forgotten(packs, monkeypatch):
    """Each pack that was in a folder for a while stayed imported for good, as those that a service is sent."""
    monkeypatch.setattr(editions, "_look_at", 0)
    monkeypatch.setattr(editions, "MANY", 0)
    modules = weakref.WeakSet()
    for number in range(6):
        folder = packs.parent / f"packs{number}"
        write(folder / f"mine{number}", nodes=body("plum", "value + 1"))
        with bare_engine(packs=[folder]) as engine:
            assert answer(engine, "plum", value=1) == 2
            modules.update(one for name, one in sys.modules.items() if name.endswith(f"mine{number}.nodes"))
        editions._look_at = 0
        shutil.rmtree(folder)
        del engine
    assert {pack for pack in editions._newest if pack.startswith("mine") and pack != "mine"} == {"mine5"}
    gc.collect()  # the editions
    gc.collect()  # and then their modules
    assert len(modules) <= 2, list(modules)


def test_old_classes_go_with_their_values(packs):
    """A class kept its whole module: each reload of a pack with one left all that the module holds."""
    thing = HEAD + "NUMBER = {0}\nclass Thing:\n    def parts(self): return {{}}, {{}}\n"
    thing += "    @classmethod\n    def from_parts(cls, meta, arrays): return cls()\n@node\ndef make() -> Thing: return Thing()\n"
    classes = weakref.WeakSet()
    write(packs / "mine", nodes=thing.format(0))
    with bare_engine(packs=[packs]) as engine:
        for number in range(1, 6):
            value = engine.run(using("make", "thing")).outputs["out"]
            classes.add(type(value))
            assert kinds.name_of(type(value)) == "mine/Thing"
            write(packs / "mine", nodes=thing.format(number))
            assert engine.reload().changed == ("mine",)
        assert len(classes) == 5
        engine.cache.clear()
        gc.collect()  # the editions
        gc.collect()  # and then their modules, which are in sys.modules no more
        assert list(classes) == [type(value)]
        assert kinds.name_of(type(value)) == "mine/Thing"


def test_class_of_a_pack_in_two_versions(packs):
    """A stored value becomes the class as it is now; the old one still is of the type."""
    thing = HEAD + "class Thing:\n    x = {}\n    def parts(self): return {{}}, {{}}\n"
    thing += "    @classmethod\n    def from_parts(cls, meta, arrays): return cls()\n@node\ndef make() -> Thing: return Thing()\n"
    write(packs / "mine", nodes=thing.format(1))
    with bare_engine(packs=[packs], cache=str(packs.parent / "cache")) as engine:
        old = engine.run(using("make", "thing")).outputs["out"]
        write(packs / "mine", nodes=thing.format(2) + "@node\ndef take(thing: Thing) -> int: return thing.x\n")
        engine.reload()
        flow = {"inputs": {"t": {"type": "mine/Thing"}}, "nodes": {"a": {"use": "take", "from": {"thing": "inputs.t"}}}}
        assert engine.run({**flow, "outputs": {"out": "a.int"}}, t=old).outputs["out"] == 1
        assert engine.run(using("make", "thing")).outputs["out"].x == 2


def test_no_run_mixes_two_versions(packs):
    """Runs that start while packs change see all of the old version, or all of the new one; graphs that nodes return too."""
    text = HEAD + "@node\ndef plum() -> int:\n    return {0}\n@node\ndef pear(value: int = 1) -> int:\n    return value * 1000 + {0}\n"
    text += "@node\ndef grown(value: int) -> int:\n    graph = Graph()\n"
    text += "    return graph.give(int=graph.add('l', 'pear', value=graph.input('value'))['int'])\n"
    write(packs / "mine", nodes=text.format(0))
    flow = {"nodes": {"f": {"use": "plum"}, "g": {"use": "grown", "from": {"value": "f.int"}}}, "outputs": {"out": "g.int"}}
    seen: list[object] = []
    with bare_engine(packs=[packs]) as engine:
        engine.keep_code()
        ended = threading.Event()

        def work():
            while not ended.is_set():
                result = engine.submit(flow).result(10)
                seen.append(result.outputs.get("out", result.problems))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for version in range(1, 30):
            write(packs / "mine", nodes=text.format(version))
            engine.reload([packs / "mine"])
        ended.set()
        for thread in threads:
            thread.join()
    assert all(isinstance(out, int) and out // 1000 == out % 1000 for out in seen), set(map(str, seen))
    assert len(set(seen)) > 5


def test_modules_are_forgotten_while_others_are_imported(monkeypatch):
    """An edition goes when the last that calls it goes, in whichever thread that is."""

    class Meanwhile(str):
        def startswith(self, *prefix: Any) -> bool:
            sys.modules["imported_meanwhile"] = sys
            return False

    modules = {Meanwhile("looked_at"): sys, "gone.module": sys, "gone_not": sys}
    with monkeypatch.context() as patched:
        patched.setattr(sys, "modules", modules)
        editions._forget("gone")
    assert list(modules) == ["looked_at", "gone_not", "imported_meanwhile"]
