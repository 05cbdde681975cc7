"""The memory and disk tiers: budgets, eviction, damage, a full disk, several engines on one folder."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from engine_nodes import CALLS, NODES, flow, make_engine, traced

from nodegraph import Engine, File, Image, keys, kinds, node
from nodegraph import store as store_module
from nodegraph.entries import OVERHEAD, Entry
from nodegraph.execution import Execution
from nodegraph.packing import Packed, Unpackable, unpack
from nodegraph.store import LOOKUPS, MAPS, Store

CALLED: list[int] = []


@node
def long_text(number: int, size: int = 100_000) -> str:
    CALLED.append(number)
    return f"{number:08d}" * (size // 8)


@node
def text_sizes(texts: list[str]) -> int:
    return sum(map(len, texts))


def wide(count: int) -> dict:
    nodes: dict = {
        "t": {"use": "long_text", "each": {"number": list(range(count))}},
        "sum": {"use": "text_sizes", "from": {"texts": "t.text"}},
    }
    return flow(nodes, {"sum": "sum.int"})


def test_a_tier_over_its_budget_lets_go_and_results_stay_right(tmp_path):
    with Engine(nodes=[long_text, text_sizes], cache=False, memory=1_000_000) as engine:
        for _ in range(2):
            assert engine.run(wide(40)).outputs == {"sum": 4_000_000}
        assert engine.run(flow({"t": {"use": "long_text", "each": {"number": list(range(60))}}}, {"last": "t.text"})).ok
        assert engine.cache.used <= 1_000_000
        assert engine.cache.evictions > 0


def test_a_budget_of_nothing_keeps_nothing(tmp_path):
    with Engine(nodes=[long_text, text_sizes], cache=tmp_path, memory=0, disk=0) as engine:
        for _ in range(2):
            assert engine.run(wide(4)).outputs == {"sum": 400_000}
        engine.store.flush()
        assert (engine.cache.used, engine.store.info()["bytes"]) == (0, 0)


def test_what_saves_least_time_for_its_bytes_goes_first():
    import time

    @node
    def worth(number: int) -> str:
        time.sleep(0.05)
        return "w" * 100_000

    with Engine(nodes=[long_text, worth], cache=False, memory=1_000_000) as engine:
        engine.run(flow({"w": {"use": "worth", "with": {"number": 1}}}, {"w": "w.text"}))
        for number in range(100, 140):
            engine.run(flow({"t": {"use": "long_text", "with": {"number": number}}}, {"t": "t.text"}))
        _, seen = traced(engine, flow({"w": {"use": "worth", "with": {"number": 1}}}, {"w": "w.text"}))
        assert "started" not in seen, "40 cheap results came and went, the costly one stayed"


def test_outputs_lie_on_disk_whatever_memory_holds(tmp_path):
    workflow = flow({"t": {"use": "long_text", "with": {"number": 5}}}, {"t": "t.text"})
    with Engine(nodes=[long_text], cache=tmp_path, memory=1000) as engine:
        engine.run(workflow)
    with Engine(nodes=[long_text], cache=tmp_path) as engine:
        result, seen = traced(engine, workflow)
        assert "started" not in seen
        assert len(result.outputs["t"]) == 100_000
        assert engine.store.verify() == {"checked": 1, "damaged": 0, "stray_files_removed": 0}


def test_verify_removes_no_file_of_others(tmp_path):
    """A cache may lie in a folder that holds a person's own results."""
    with Engine(nodes=[long_text], cache=tmp_path) as engine:
        engine.run(flow({"t": {"use": "long_text", "with": {"number": 5}}}, {"t": "t.text"}))
        engine.store.flush()
        (mine,) = tmp_path.glob("results/*/*.ng")
        old = [mine.with_name("a.ng"), mine.with_name("b.1.2.part"), mine.with_name("c.png"), tmp_path / "results" / "run1" / "d.ng"]
        for path in old:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
            os.utime(path, (0, 0))
        assert engine.store.verify() == {"checked": 1, "damaged": 0, "stray_files_removed": 2}
        assert [path.exists() for path in old] == [False, False, True, True]


def test_a_damaged_file_is_a_miss_and_set_aside(tmp_path):
    workflow = flow({"t": {"use": "long_text", "with": {"number": 5}}}, {"t": "t.text"})
    with Engine(nodes=[long_text], cache=tmp_path) as engine:
        expected = engine.run(workflow).outputs
    (file,) = tmp_path.glob("results/*/*.ng")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with Engine(nodes=[long_text], cache=tmp_path) as engine:
        assert engine.run(workflow).outputs == expected
    assert list(tmp_path.glob("results/*/*.damaged"))
    for broken in tmp_path.glob("results/*/*.ng"):
        broken.write_bytes(broken.read_bytes()[:100])
    with Engine(nodes=[long_text], cache=tmp_path) as engine:
        assert engine.run(workflow).outputs == expected


@pytest.mark.parametrize("limit", [1, 20_000, 120_000])
def test_a_full_disk_costs_the_disk_tier_and_nothing_else(tmp_path, limit):
    """A limit on the size of files stands in for a disk that is full: writes fail in the same places."""
    code = f"""
import logging, resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from test_tiers import long_text, text_sizes, wide
from nodegraph import Engine
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
with Engine(nodes=[long_text, text_sizes], cache={str(tmp_path)!r}, memory=300_000) as engine:
    for number in range(3):
        result = engine.run({{"nodes": {{"t": {{"use": "long_text", "with": {{"number": number}}}}}}, "outputs": {{"t": "t.text"}}}})
        assert len(result.outputs["t"]) == 100_000
    assert engine.run(wide(10)).outputs == {{"sum": 1_000_000}}
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr
    assert done.stderr.count("going on without the disk tier") <= 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part" or path.name.startswith(".")]
    with Engine(nodes=[long_text], cache=tmp_path) as engine:
        assert engine.run(flow({"t": {"use": "long_text", "with": {"number": 0}}}, {"t": "t.text"})).ok


def test_engines_share_a_folder(tmp_path):
    CALLS.clear()
    workflow = flow(
        {"a": {"use": "plus", "with": {"a": 1}}, "b": {"use": "plus", "from": {"a": "a.int"}, "with": {"b": 2}}}, {"out": "b.int"}
    )
    outputs = []

    def work() -> None:
        with make_engine(cache=tmp_path) as engine:
            for number in range(20):
                outputs.append(engine.run(flow({"n": {"use": "plus", "with": {"a": number}}}, {"n": "n.int"})).outputs["n"])
            outputs.append(engine.run(workflow).outputs["out"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outputs) == sorted([*range(20), 3] * 4)
    with make_engine(cache=tmp_path) as engine:
        assert engine.store.verify()["damaged"] == 0
        _, seen = traced(engine, workflow)
        assert "started" not in seen


def test_prune_and_clear(tmp_path):
    with Engine(nodes=[long_text], cache=tmp_path) as engine:
        for number in range(5):
            engine.run(flow({"t": {"use": "long_text", "with": {"number": number}}}, {"t": "t.text"}))
        engine.store.flush()
        assert engine.store.info()["results"] == 5
        assert engine.store.prune(250_000)["removed"] == 3
        assert engine.store.info()["results"] == 2
        engine.store.clear()
        assert engine.store.info()["results"] == 0
        assert not list(tmp_path.glob("results/*/*"))


VALUES = [
    None,
    True,
    0,
    -1,
    2**70,
    -(2**70),
    1.5,
    float("inf"),
    "",
    "é" * 5000,
    {"\ud800": "half of a pair \udcff"},
    b"\0\xff",
    [],
    [1, [2, "x"]],
    {},
    {"a": {"b": [None]}},
    ["l", "v"],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_values_survive_packing(value):
    packed = Packed(value)
    raw = b"".join(packed.chunks())
    assert len(raw) == packed.size
    assert unpack(memoryview(raw)) == value


ODD_ARRAYS = {
    "text": lambda numpy: numpy.array(["a", "bcd"]),
    "time": lambda numpy: numpy.array(["2020-01-01"], "datetime64[D]"),
    "other order": lambda numpy: numpy.arange(3, dtype=">f4"),
    "records": lambda numpy: numpy.zeros(2, [("a", "i4"), ("b", "f8")]),
    "long": lambda numpy: numpy.ones(2, numpy.longdouble),
    "masked": lambda numpy: numpy.ma.masked_array([1, 2], [0, 1]),
}


@pytest.mark.parametrize("odd", ODD_ARRAYS)
def test_arrays_that_would_not_come_back_are_not_packed(odd):
    array = ODD_ARRAYS[odd](pytest.importorskip("numpy"))
    with pytest.raises(Unpackable, match="has no form on disk"):
        Packed([array])


@pytest.mark.parametrize("dtype", ["float32", "int64", "complex128", "bool"])
def test_plain_arrays_come_back_as_they_were(dtype):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(6).reshape(2, 3).T.astype(dtype)
    [found] = unpack(memoryview(b"".join(Packed([array]).chunks())))
    assert type(found) is numpy.ndarray
    assert found.dtype == array.dtype
    assert numpy.array_equal(found, array)


def test_arrays_survive_packing():
    numpy = pytest.importorskip("numpy")
    from nodegraph import Conditioning, Image, Latent, Rng

    pixels = numpy.random.default_rng(0).random((2, 3, 5, 7), numpy.float32)
    values = [
        Image(pixels),
        Latent(pixels, "space", {"noise": pixels[:1]}),
        Conditioning({"states": pixels[0], "mask": pixels[0] > 0.5}),
        Rng((b"abc",)),
    ]
    raw = b"".join(Packed(values).chunks())
    image, latent, conditioning, rng = unpack(memoryview(raw))
    assert numpy.array_equal(image.numpy(), pixels)
    assert (latent.space, list(latent.extras)) == ("space", ["noise"])
    assert conditioning.named["mask"].dtype == bool
    assert rng == Rng((b"abc",))
    assert unpack(memoryview(b"".join(Packed([numpy.zeros((0, 3))]).chunks())))[0].shape == (0, 3)


def test_what_has_no_form_on_disk_says_so():
    with pytest.raises(Unpackable, match="no form on disk"):
        Packed(object())
    with pytest.raises(ValueError, match="no packed record"):
        unpack(memoryview(b"something else entirely"))


@pytest.mark.parametrize("fault", ["newer", "file", "index"])
def test_a_cache_that_cannot_be_used_is_said_once_and_the_run_goes_on(tmp_path, fault, caplog):
    """A cache of a newer version, a folder that cannot be made, an index that is no database."""
    folder = tmp_path / "cache"
    if fault == "newer":
        Store(folder, 1 << 30).close()
        with sqlite3.connect(folder / "index.sqlite") as database:
            database.execute("PRAGMA user_version = 1000")
    elif fault == "file":
        folder.write_text("in the way")
    else:
        folder.mkdir()
        (folder / "index.sqlite").write_bytes(b"no database" * 1000)
    with caplog.at_level("WARNING", logger="nodegraph"), Engine(nodes=[long_text, text_sizes], cache=folder) as engine:
        for _ in range(3):
            assert engine.run(wide(4)).outputs == {"sum": 400_000}
        assert engine.store.trouble
    assert ["disk tier" in record.message for record in caplog.records] == [True], "neither leases nor checkpoints say it again"


@pytest.mark.skipif(os.name != "posix", reason="users have no umask")
def test_a_group_shares_a_cache_where_the_umask_lets_it(tmp_path):
    before = os.umask(0o002)
    try:
        store = with_arrays(tmp_path, 1)
        closed = [path.name for path in tmp_path.rglob("*") if path.stat().st_mode & 0o060 != 0o060]
    finally:
        os.umask(before)
    assert not closed
    store.close()


def test_a_cache_on_a_read_only_disk_is_said_once(tmp_path, caplog, monkeypatch):
    with Engine(nodes=[long_text, text_sizes], cache=tmp_path) as engine:
        assert engine.run(wide(2)).ok

        def read_only(*_):
            raise sqlite3.OperationalError("attempt to write a readonly database")

        monkeypatch.setattr(Store, "_write", read_only)
        with caplog.at_level("WARNING", logger="nodegraph"):
            for count in (3, 4, 5):
                assert engine.run(wide(count)).outputs == {"sum": count * 100_000}
                engine.store.flush()
    assert len([record for record in caplog.records if "readonly" in record.message]) == 1


@pytest.mark.parametrize("jump", [-400 * 86400, 400 * 86400])
def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch, jump):
    real = time.time
    with Engine(nodes=[long_text, text_sizes], cache=tmp_path) as engine:
        before = engine.run(wide(3)).outputs
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        assert engine.run(wide(3)).outputs == before
        assert engine.run(wide(5)).outputs == {"sum": 500_000}
        engine.store.flush()
        assert engine.store.prune(1 << 40)["removed"] == 0
        monkeypatch.setattr(time, "time", real)
    with Engine(nodes=[long_text, text_sizes], cache=tmp_path) as engine:
        result, seen = traced(engine, wide(5))
        assert (result.outputs, "started" in seen) == ({"sum": 500_000}, False)
        assert engine.store.verify()["damaged"] == 0


@node
def small_text(number: int) -> str:
    """Too large for a plain result, and too cheap for the disk unless memory is short."""
    time.sleep(0.002)
    return f"{number:08d}" * 100


@node
def halved(text: str) -> str:
    """Few different results of many texts."""
    return f"{int(text[:8]) % 2}" * 800


def test_what_was_used_before_the_clock_was_set_back_is_not_the_first_to_go(tmp_path, monkeypatch):
    clock = time.time()
    store = Store(tmp_path, 1 << 30)
    for days, seconds in ((2.0, 3600.0), (1.5, 3600.0), (1.0, 3600.0), (0.0, 0.1)):
        monkeypatch.setattr(time, "time", lambda now=clock + days * 86400: now)
        store.put(Entry(b"%020.1f" % days, "values", ("text",), ("x" * 1000,), (b"=x",), seconds), None, ())
        store.flush()
    store.prune(4000)
    assert [store.get(b"%020.1f" % days) is not None for days in (2.0, 1.5, 1.0, 0.0)] == [True, True, True, False]
    store.close()


def test_what_is_remembered_beside_results_is_bounded(tmp_path, monkeypatch):
    """Links from plans and digests of models: those of what is gone are forgotten, and those of what sinks to the disk sink too."""
    monkeypatch.setattr("nodegraph.cache.LINKS", 50)
    nodes = [long_text, small_text, halved]

    def chain(number: int) -> dict:
        return flow(
            {"t": {"use": "small_text", "with": {"number": number}}, "h": {"use": "halved", "from": {"text": "t.text"}}}, {"h": "h.text"}
        )

    with Engine(nodes=nodes, cache=tmp_path / "cache", memory=30_000) as engine:
        for number in range(300):
            assert engine.run(chain(number)).ok
        engine.store.flush()
        assert engine.cache.evictions > 100
        assert len(engine.cache._links) <= 4 * len(engine.cache) + 50
        _, seen = traced(engine, flow({"t": {"use": "small_text", "with": {"number": 5}}}, {"t": "t.text"}))
        assert "started" not in seen, "it has sunk, and its link with it"
    models = tmp_path / "models"
    models.mkdir()
    with Engine(models=[models], cache=False) as engine:
        kept = [models / f"kept{number}" for number in range(100)]
        for number, folder in enumerate([*kept, *(models / f"gone{number}" for number in range(300))]):
            folder.mkdir()
            (folder / "config.json").write_text(f'{{"nodegraph_kind": "test", "number": {number}}}')
            reference = engine.models.ref(folder.name)
            assert engine.models.locate(reference.files)
            if folder not in kept:
                (folder / "config.json").unlink()
                folder.rmdir()
        assert len(engine.models._known) <= 2 * len(kept)
        assert all(engine.models.locate(engine.models.ref(folder.name).files) for folder in kept)


def test_small_values_are_kept_without_further_objects_until_they_are_asked_for(tmp_path):
    nodes = {"n0": {"use": "plus", "with": {"a": 0}}}
    nodes.update({f"n{number}": {"use": "plus", "with": {"b": number}, "from": {"a": f"n{number - 1}.int"}} for number in range(1, 300)})
    with Engine(nodes=NODES, cache=tmp_path) as engine:
        whole = flow(nodes, {"n": "n299.int"})
        assert engine.run(whole).outputs == {"n": sum(range(300))}
        assert len(engine.cache) == 300
        assert engine.cache.used >= 300 * OVERHEAD
        assert len(engine.cache._entries) < 100, "the first, before it is known how long it takes, the output, and what was slow"
        _, seen = traced(engine, {**whole, "outputs": {"n": "n150.int", "m": "n200.int"}})
        assert "started" not in seen
        assert len(engine.cache) == 300
        engine.cache.clear()
        assert (len(engine.cache), engine.cache.used) == (0, 0)
    with Engine(nodes=NODES, cache=tmp_path) as engine:
        result, seen = traced(engine, whole)
        assert result.outputs == {"n": sum(range(300))}
        assert "started" not in seen, "the output is on disk"


class Fails:
    def __init__(self, error: Exception):
        self.error = error

    def __call__(self, *arguments: Any) -> Any:
        raise self.error


def small(number: int) -> Entry:
    return Entry(number.to_bytes(20, "little"), "values", ("int",), (number,), (b"=%d" % number,), 1.0)


def test_the_budget_bounds_the_index_too(tmp_path):
    """Results of a few bytes took twenty times what they were counted with."""
    store = Store(tmp_path, 100_000)
    for number in range(3000):
        store.put(small(number), b"p" + small(number).key, ())
    store.flush()
    assert 100 < store.info()["results"] < 1000
    store.close()
    assert (tmp_path / store_module.INDEX).stat().st_size < 200_000


def test_links_to_the_same_few_results_are_bounded_on_disk_too(tmp_path, monkeypatch):
    """Each run of a service with another input left one for ever, on disk and in memory."""
    monkeypatch.setattr("nodegraph.store.LINKS", 100)
    store = Store(tmp_path, 1 << 30)
    store.put(small(0), None, ())
    for number in range(1000):
        store.link(b"%08d------------" % number, small(0).key, ())
    store.flush()
    assert store.info()["links"] <= 210
    assert store.linked(b"%08d------------" % 999) == (small(0).key, ())
    assert store.linked(b"%08d------------" % 0) is None
    store.close()


def test_keys_beyond_what_memory_should_hold_are_looked_up(tmp_path, monkeypatch):
    monkeypatch.setattr("nodegraph.store.KNOWN", 150)
    for number in range(2):
        store = Store(tmp_path, 1 << 30)
        for one in range(100):  # so many that they are read at once
            assert (store.get(small(one).key) is not None) == (number > 0)
        for one in range(200):
            store.put(small(one), b"p" + small(one).key, ())
        store.flush()
        assert store._results._known is None
        for one in range(250):
            assert (store.get(small(one).key) is not None) == (one < 200)
            assert store.may_have(small(one).key)
        store.close()


def test_a_pruned_index_does_not_grow_in_memory(tmp_path):
    with Engine(nodes=[long_text], cache=tmp_path, disk=1_000_000) as engine:
        for number in range(200):
            assert engine.run(flow({"t": {"use": "long_text", "with": {"number": number}}}, {"t": "t.text"})).ok
        engine.store.flush()
        assert 0 < engine.store.info()["results"] <= 10
        assert len(engine.store._results._known or ()) <= 20


def test_who_gives_the_disk_up_does_not_keep_it_from_others(tmp_path, monkeypatch):
    """Trouble in the midst of a transaction ends it: another writer of the same folder need not wait."""
    with Engine(nodes=[long_text], cache=tmp_path) as engine, monkeypatch.context() as patched:
        patched.setattr(Store, "_write_body", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        assert engine.run(flow({"t": {"use": "long_text", "with": {"number": 1}}}, {"t": "t.text"})).ok
        engine.store.flush()
        assert "no space left" in engine.store.trouble
        patched.undo()
        with sqlite3.connect(tmp_path / "index.sqlite", timeout=0.1) as other:
            other.execute("INSERT INTO links (plan, key) VALUES (x'00', x'01')")


def test_half_a_character_is_kept_as_it_is():
    value = {"\ud800": ["a \udfff", "ü"]}
    assert unpack(memoryview(b"".join(map(bytes, Packed(value).chunks())))) == value


@pytest.mark.parametrize("ask", ["plan", "submit"])
def test_what_another_engine_has_written_is_noticed_by_whoever_asks_next(tmp_path, ask):
    def text(number: int) -> dict:
        return flow({"t": {"use": "long_text", "with": {"number": number}}}, {"text": "t.text"})

    with Engine(nodes=[long_text], cache=tmp_path) as one, Engine(nodes=[long_text], cache=tmp_path) as other:
        for number in range(LOOKUPS + 1):  # so many that the keys that are there are known by heart
            assert one.plan(text(-number)).count("cached") == 0
        assert other.run(text(1_000_001)).ok
        other.store.flush()
        CALLED.clear()
        if ask == "plan":
            assert one.plan(text(1_000_001)).count("cached") == 1
        else:
            assert one.run(text(1_000_001)).ok
            assert not CALLED


def test_who_opens_an_index_that_another_process_is_making_waits_for_it(tmp_path):
    other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE t (x)")
    end = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    end.start()
    store = Store(tmp_path, 1 << 30)
    end.join()
    assert not store.trouble
    store.close()
    other.close()


def test_a_damaged_index_never_gives_another_result(tmp_path):
    store, names = Store(tmp_path, 1 << 30), [b"a" * 20, b"b" * 20]
    for name in names:
        store.put(Entry(name, "values", ("text",), (name.decode(),), (b"=" + name,), 1.0), None, ())
    store.flush()
    store._database.execute("UPDATE results SET head = (SELECT head FROM results WHERE id = 2) WHERE id = 1")
    assert store.get(names[0]) is None
    store.close()


@pytest.mark.parametrize("what", ["no database", "schema"])
def test_a_damaged_index_is_set_aside_and_whoever_comes_next_begins_a_new_one(tmp_path, what):
    Store(tmp_path, 1 << 30).close()
    path = tmp_path / "index.sqlite"
    whole = path.read_bytes()
    damaged = b"no database" * 100 if what == "no database" else whole.replace(b"CREATE TABLE results", b"CREATE TAB\x97E results")
    path.write_bytes(damaged)
    store = Store(tmp_path, 1 << 30)
    assert "cannot open" in store.trouble
    assert "set aside" in store.trouble
    store.close()
    assert (tmp_path / "index.sqlite.damaged").read_bytes() == damaged
    store = Store(tmp_path, 1 << 30)
    assert not store.trouble
    store.put(Entry(b"a" * 20, "values", ("text",), ("a",), (b"=a",), 1.0), None, ())
    store.flush()
    assert store.verify() == {"checked": 1, "damaged": 0, "stray_files_removed": 0}
    store.close()


def test_an_index_of_a_newer_format_stays_where_it_is(tmp_path):
    Store(tmp_path, 1 << 30).close()
    path = tmp_path / "index.sqlite"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=999")
    database.close()
    store = Store(tmp_path, 1 << 30)
    assert "newer" in store.trouble
    assert "set aside" not in store.trouble
    assert path.exists()
    store.close()


@pytest.mark.parametrize(
    "error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "of a pack"), OSError("of a pack"), RuntimeError("of a pack")]
)
def test_a_value_that_cannot_be_taken_apart_is_no_trouble_of_the_disk(tmp_path, monkeypatch, error):
    class Odd:
        def parts(self):
            raise error

    monkeypatch.setitem(kinds.NAMES, Odd, "odd")
    store = Store(tmp_path, 1 << 30)
    store.put(Entry(b"o" * 20, "values", ("odd",), (Odd(),), (b"=o",), 1.0), None, ())
    store.put(Entry(b"a" * 20, "values", ("text",), ("a",), (b"=a",), 1.0), None, ())
    store.flush()
    assert not store.trouble
    assert store.get(b"o" * 20) is None
    assert store.get(b"a" * 20) is not None
    store.close()


def with_arrays(folder: Path, count: int) -> Store:
    """A disk tier that holds so many pictures."""
    store = Store(folder, 1 << 30)
    for number in range(count):
        image = Image(numpy.full((1, 3, 32, 32), number / 256, numpy.float32))
        store.put(Entry(b"%08d------------" % number, "values", ("image",), (image,), (b"=%d" % number,), 1.0), None, ())
    store.flush()
    return store


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_results_in_memory_hold_few_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr("nodegraph.store.MAPPED", 1)
    store = with_arrays(tmp_path, 200)
    before = len(os.listdir("/proc/self/fd"))
    held = [store.read(store.get(b"%08d------------" % number)) for number in range(200)]
    assert len(os.listdir("/proc/self/fd")) <= before + MAPS
    assert [values[0].numpy()[0, 0, 0, 0] * 256 for values in held] == list(range(200))
    del held
    assert len(os.listdir("/proc/self/fd")) <= before
    store.close()


def test_a_result_that_cannot_be_opened_for_now_is_not_damaged(tmp_path, monkeypatch, caplog):
    store = with_arrays(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", lambda *args: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files")))
        assert store.read(store.get(b"%08d------------" % 0)) is None
    assert "Too many open files" in store.trouble
    assert "damaged" not in caplog.text
    store.close()
    store = Store(tmp_path, 1 << 30)
    assert store.read(store.get(b"%08d------------" % 0)) is not None
    store.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ESTALE])
def test_a_result_of_another_user_is_made_again_and_not_damaged(tmp_path, monkeypatch, caplog, number):
    """One that runs with another umask has kept it."""
    workflow = flow({"t": {"use": "long_text", "with": {"number": 5}}}, {"t": "t.text"})
    for _ in range(2):
        CALLED.clear()
        with Engine(nodes=[long_text], cache=tmp_path / "engine") as engine, monkeypatch.context() as patched:
            patched.setattr(store_module, "_content", lambda path: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
            assert engine.run(workflow).ok
        assert CALLED == [5]
    assert not engine.store.trouble
    store = with_arrays(tmp_path, 2)
    whole, closed = store_module._content, store._path(b"%08d------------" % 0)

    def content(path: Path) -> memoryview:
        if path == closed:
            raise OSError(number, os.strerror(number), str(path))
        return whole(path)

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_content", content)
        assert store.read(store.get(b"%08d------------" % 0)) is None
        assert store.verify() == {"checked": 1, "damaged": 0, "stray_files_removed": 0}
    assert not store.trouble
    assert "damaged" not in caplog.text
    store.close()
    store = Store(tmp_path, 1 << 30)
    assert store.read(store.get(b"%08d------------" % 0)) is not None
    store.close()


def test_what_async_nodes_gave_leaves_memory_as_all_else_does(tmp_path):
    made: list[weakref.ref] = []

    @node
    async def picture(number: int) -> Image:
        array = numpy.full((1, 3, 32, 32), number / 256, numpy.float32)
        made.append(weakref.ref(array))
        return Image(array)

    @node
    async def first_value(image: Image) -> float:
        return float(image.numpy()[0, 0, 0, 0])

    nodes = {"a": {"use": "picture", "each": {"number": list(range(20))}}, "b": {"use": "first_value", "each": {"image": "a.image"}}}
    with Engine(nodes=[picture, first_value], cache=False, memory=0) as engine:
        job = engine.submit(flow(nodes, {"values": "b.float"}))
        assert job.result(timeout=20).outputs["values"] == [number / 256 for number in range(20)]
        gc.collect()
        assert made
        assert all(one() is None for one in made)


def test_a_small_result_that_took_long_is_there_for_all_that_wait_for_it():
    called = []

    @node
    def slow(a: int) -> int:
        called.append(a)
        time.sleep(0.02)
        return a + 1

    nodes = {"a": {"use": "slow", "with": {"a": 0}}, **{name: {"use": "slow", "from": {"a": "a.int"}} for name in "bcd"}}
    with Engine(nodes=[slow], cache=False, memory=0) as engine:
        outputs = engine.run(flow(nodes, {name: f"{name}.int" for name in "abcd"})).outputs
        assert outputs == {"a": 1, "b": 2, "c": 2, "d": 2}
        assert called.count(0) == 1, "it was computed again for each"
        assert engine.cache.used == 0


WAYS = {
    "plain": {"x": {"use": "plus", "with": {"a": 1}}},
    "async": {"x": {"use": "slow_async", "with": {"a": 1, "seconds": 0.01}}},
    "failed": {"y": {"use": "fails", "with": {"a": 1, "when": 1}}, "x": {"use": "plus", "from": {"a": "y.int"}}},
    "skipped": {"y": {"use": "only_even", "with": {"a": 1}}, "x": {"use": "plus", "from": {"a": "y.int"}}},
    "asked for": {"y": {"use": "either", "with": {"base": 1, "extra": 2, "wanted": True}}, "x": {"use": "plus", "from": {"a": "y.int"}}},
    "graph": {"x": {"use": "repeat_plus", "with": {"value": 1, "count": 3}}},
    "late list": {"y": {"use": "count_up", "with": {"n": 4}}, "x": {"use": "plus", "each": {"a": "y.ints"}}},
    "cancelled": {"x": {"use": "steps", "with": {"a": 1}}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cached", [False, True])
def test_a_run_that_is_done_holds_no_results(way, cached, tmp_path):
    """Neither for who keeps its job, nor until the garbage collector comes by."""
    made: list[weakref.ref] = []

    @node
    def picture(after: Any) -> Image:
        array = numpy.full((1, 3, 32, 32), 0.5, numpy.float32)
        made.append(weakref.ref(array))
        return Image(array)

    @node
    def width_of(image: Image) -> int:
        return image.width

    nodes = {**WAYS[way], "p": {"use": "picture", "with": {"after": way}}, "w": {"use": "width_of", "from": {"image": "p.image"}}}
    with Engine(nodes=[*NODES, picture, width_of], cache=tmp_path if cached else False) as engine:
        gc.disable()
        try:
            job = engine.submit(flow(nodes, {"x": "x.int", "width": "w.int"}))
            for event in job.events():
                if way == "cancelled" and (event.kind, event.node) == ("finished", "w"):
                    job.cancel()
            assert job.result().status == {"failed": "failed", "cancelled": "cancelled"}.get(way, "ok")
            engine.cache.clear()
            patience = time.monotonic() + 5
            while made[0]() is not None:  # the worker may not have let go of it yet
                assert time.monotonic() < patience
                time.sleep(0.001)
        finally:
            gc.enable()


def full_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the disk be full from the writing of so many results on."""
    written: list[bytes] = []
    whole = Store._write_body

    def write_body(self, key, packed):
        written.append(key)
        if len(written) > number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(self, key, packed)

    monkeypatch.setattr(Store, "_write_body", write_body)


@pytest.mark.parametrize("committed", [True, False])
def test_what_a_full_disk_had_room_for_is_kept_and_nothing_else(tmp_path, monkeypatch, committed):
    full_at(monkeypatch, 3)
    if not committed:  # no room for that either
        monkeypatch.setattr(Store, "_commit", lambda self, database: False)
    store = with_arrays(tmp_path, 6)
    assert "No space left" in store.trouble
    store.close()
    store = Store(tmp_path, 1 << 30)
    kept = [number for number in range(6) if store.get(b"%08d------------" % number) is not None]
    assert kept == ([0, 1, 2] if committed else [])
    assert len(list(tmp_path.glob("results/*/*"))) == len(kept)
    store.close()


def test_prune_and_clear_remove_what_a_killed_process_left(tmp_path):
    store = with_arrays(tmp_path, 2)
    store._database.execute("DELETE FROM results")
    others = [tmp_path / name for name in ("packs/1f.json.7.part", "catalogs/1f.json.7.part", "checkpoints/1f.7.8.part", ".salt.7.1f")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for path in (*tmp_path.glob("results/*/*.ng"), *others):
        os.utime(path, (1, 1))
    assert store.clear() == {"removed": 0, "freed": 0, "stray_files_removed": 6}
    assert not list(tmp_path.glob("results/*/*"))
    assert not any(path.exists() for path in others)
    store.close()


def test_what_cannot_be_removed_stays(tmp_path):
    store = with_arrays(tmp_path, 2)
    folder = next(tmp_path.glob("results/*"))
    (folder / "a.ng").mkdir()  # as another user's file in a shared folder
    (folder / "b.ng").touch()
    for path in folder.glob("?.ng"):
        os.utime(path, (1, 1))
    assert store.verify() == {"checked": 2, "damaged": 0, "stray_files_removed": 1}
    store._path(b"%08d------------" % 0).unlink()
    store._path(b"%08d------------" % 0).mkdir()
    assert store.clear()["removed"] == 2
    assert not store.trouble
    assert store.info()["results"] == 0
    store.close()


def test_an_index_that_cannot_be_had_is_no_damage_of_results(tmp_path, monkeypatch):
    monkeypatch.setattr("nodegraph.store.PATIENCE", 0.1)
    store = with_arrays(tmp_path, 2)
    for path in tmp_path.glob("results/*/*.ng"):
        os.utime(path, (1, 1))
    store.close()
    for what in ("verify", "clear"):
        store = Store(tmp_path, 1 << 30)
        other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # a process that writes, and was stopped
        facts = getattr(store, what)()
        assert "locked" in store.trouble
        assert not any(facts.get(name) for name in ("damaged", "removed", "stray_files_removed"))
        other.close()
        assert len(list(tmp_path.glob("results/*/*.ng"))) == 2


@node
def slow_text(number: int) -> str:
    time.sleep(0.005)  # so long that it is worth a look at the disk
    return f"{number:08d}" * 1000


@pytest.mark.parametrize("trouble", ["full", "a file"])
def test_trouble_with_the_disk_that_is_over_is_forgotten(tmp_path, monkeypatch, caplog, trouble):
    """A service that met a full disk for a moment computed everything anew until it was started again."""
    monkeypatch.setattr("nodegraph.store.AGAIN", 0.5)
    cache = tmp_path / "cache"
    workflow = flow({"t": {"use": "slow_text", "with": {"number": 1}}}, {"t": "t.text"})
    with Engine(nodes=[slow_text], cache=cache, memory=0) as engine:
        with monkeypatch.context() as broken:
            if trouble == "full":
                broken.setattr("nodegraph.store.os.replace", Fails(OSError(errno.ENOSPC, "No space left on device")))
            else:
                shutil.rmtree(cache)
                cache.write_text("")
            for _ in range(3):
                assert engine.run(workflow).ok
                engine.store.flush()
            assert engine.store.trouble
        cache.unlink() if trouble == "a file" else None
        until = time.monotonic() + 30
        while engine.store.trouble:
            assert time.monotonic() < until
            time.sleep(0.05)
            assert engine.run(workflow).ok
        engine.store.flush()
        assert "started" not in traced(engine, workflow)[1]
        assert "is used again" in caplog.text
    engine.store.refresh()
    assert engine.store._database is None, "a store that is closed stays so"


@pytest.mark.parametrize("removed", [True, False])
def test_a_folder_that_is_removed_or_renamed_is_begun_anew(tmp_path, removed):
    cache = tmp_path / "cache"
    with Engine(nodes=[long_text], cache=cache, memory=0) as engine:
        for number in range(3):
            workflow = flow({"t": {"use": "long_text", "with": {"number": number}}}, {"t": "t.text"})
            expected = engine.run(workflow).outputs
            engine.store.flush()
            if number < 2:
                shutil.rmtree(cache) if removed else cache.rename(tmp_path / f"cache{number}")
        assert engine.run(workflow).outputs == expected
        with Engine(nodes=[long_text], cache=cache) as other:
            result, seen = traced(other, workflow)
            assert (result.outputs, "started" in seen) == (expected, False)
            assert other.store.verify() == {"checked": 1, "damaged": 0, "stray_files_removed": 0}
    with Engine(nodes=[long_text], cache=cache) as other:
        assert "started" not in traced(other, workflow)[1]


def test_what_another_process_wrote_or_removed_is_no_damage(tmp_path):
    store = with_arrays(tmp_path, 2)
    for _ in range(LOOKUPS + 1):
        store.get(b"none" * 5)  # from now on the keys are known
    with_arrays(tmp_path, 10).close()
    assert store.verify() == {"checked": 10, "damaged": 0, "stray_files_removed": 0}
    whole = store.get

    def removed_meanwhile(key: bytes) -> Entry | None:
        if key == b"%08d------------" % 5:
            other = Store(tmp_path, 1 << 30)
            other.clear()
            other.close()
        return whole(key)

    store.get = removed_meanwhile
    assert store.verify() == {"checked": 5, "damaged": 0, "stray_files_removed": 0}
    store.close()


def test_what_a_run_lets_go_when_it_ends_may_go_between_two_looks(tmp_path, monkeypatch):
    """Another thread may end it at any moment."""

    def vanishing(name: str) -> property:
        def look(run: Any) -> Any:
            found, run.__dict__[name] = run.__dict__[name], None
            return found

        return property(look, lambda run, value: run.__dict__.update({name: value}))

    monkeypatch.setattr(Execution, "debt", vanishing("debt"), raising=False)
    with Engine(nodes=[long_text, text_sizes], cache=tmp_path) as engine:
        assert engine.run(wide(3)).outputs == {"sum": 300_000}
    monkeypatch.setattr(Execution, "stretch", vanishing("stretch"), raising=False)
    run = Execution.__new__(Execution)
    run.stretch = SimpleNamespace(execute=lambda step: step + 1)  # type: ignore[assignment]
    assert run.execute(-2) == -1
    assert run.execute(-2) is None


def test_a_file_in_the_place_of_another_of_its_size_and_time_is_read(tmp_path, monkeypatch):
    """As from an archive, which gives all of its files one time: the next one may get the inode of the last one as well."""
    file, store = tmp_path / "weights.safetensors", Store(tmp_path / "cache", 1 << 30)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10**10)  # long enough ago to be remembered

    def unpacked(content: bytes) -> bytes:
        file.write_bytes(content)
        os.utime(file, (315532800, 315532800))
        return store.file_digest(file)

    first = unpacked(b"one")
    assert unpacked(b"two") != first
    with monkeypatch.context() as patched:
        patched.setattr(keys, "file_digest", None)
        store.file_digest(file)  # is remembered
    assert unpacked(b"one") == first
    store.close()


def test_a_result_behind_a_file_that_another_took_the_place_of_is_made_again(tmp_path):
    @node
    def chosen(name: str) -> File:
        return File.at(name)

    @node
    def shout(file: File) -> str:
        time.sleep(0.1)  # worth the disk
        return Path(file).read_text(encoding="utf-8").upper()

    nodes = {"file": {"use": "chosen", "with": {"name": str(tmp_path / "a.txt")}}, "shout": {"use": "shout", "from": {"file": "file.file"}}}
    for text in ("one", "two"):
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
        os.utime(tmp_path / "a.txt", (315532800, 315532800))
        with Engine(nodes=[chosen, shout], cache=tmp_path / "cache") as engine:
            assert engine.run(flow(nodes, {"text": "shout.text"})).outputs == {"text": text.upper()}


DAMAGES = ["size = x'ff00'", "seconds = 'long'", "seconds = x'ff'", "head = CAST(x'ff00ff' AS TEXT)", "body = 'text'", "key = 'text'"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_costs_itself_alone(tmp_path, damage):
    store = Store(tmp_path, 1 << 30)
    for number in range(3):
        store.put(Entry(b"%08d------------" % number, "values", ("text",), (f"{number}",), (b"=%d" % number,), 1.0), None, ())
    store.flush()
    store._database.execute(f"UPDATE results SET {damage} WHERE key = ?", (b"%08d------------" % 1,))
    entries = [store.get(b"%08d------------" % number) for number in range(3)]
    assert [entry and store.read(entry) for entry in entries] == [("0",), None, ("2",)]
    assert store.verify()["checked"] == 2
    assert store.clear()["removed"] == 2
    assert not store.trouble
    assert store.info()["results"] == 0
    store.close()
