"""The memory that there is as a limit of a command: what does not fit is told, and the process is not ended by the kernel."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from nodegraph.cli.memory_limit import MemoryLimit, available

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limits and accounts are Linux's")


def system(folder: Path, **files: str) -> Path:
    """A root with these files, named with `__` between folders; by default with 900 MiB of memory and 100 of swap."""
    files = {"proc__meminfo": "MemTotal:  2048000 kB\nMemAvailable:  921600 kB\nSwapFree:  102400 kB\n", **files}
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def group(limit: str, used: int, inactive: int, old: bool = False) -> tuple[str, str, str]:
    """The files of a control group."""
    return limit, f"{used}\n", f"anon 1\n{'total_' if old else ''}inactive_file {inactive}\nfile 2\n"


def test_what_the_kernel_deems_available_and_swap(tmp_path):
    assert available(system(tmp_path)) == 1000 * MIB


def test_a_system_that_does_not_tell(tmp_path):
    assert available(tmp_path) is None


def test_the_group_of_a_container_has_less(tmp_path):
    limit, used, stat = group(f"{512 * MIB}\n", 300 * MIB, 50 * MIB)
    files = {"sys__fs__cgroup__memory.max": limit, "sys__fs__cgroup__memory.current": used, "sys__fs__cgroup__memory.stat": stat}
    assert available(system(tmp_path, proc__self__cgroup="0::/\n", **files)) == (512 - 300 + 50) * MIB


def test_the_least_of_a_group_and_those_around_it(tmp_path):
    files = {"proc__self__cgroup": "0::/user/one\n"}
    for place, limit in (("user__one__", "max\n"), ("user__", f"{200 * MIB}\n"), ("", f"{800 * MIB}\n")):
        for name, text in zip(("max", "current", "stat"), group(limit, 100 * MIB, 0), strict=True):
            files[f"sys__fs__cgroup__{place}memory.{name}"] = text
    assert available(system(tmp_path, **files)) == 100 * MIB


def test_groups_of_the_first_version(tmp_path):
    files = {"proc__self__cgroup": "5:devices:/x\n4:memory:/box\n3:cpu,cpuacct:/\n0::/\n"}
    limit, used, stat = group(f"{400 * MIB}\n", 150 * MIB, 10 * MIB, old=True)
    for name, text in (("limit_in_bytes", limit), ("usage_in_bytes", used), ("stat", stat)):
        files[f"sys__fs__cgroup__memory__box__memory.{name}"] = text
    assert available(system(tmp_path, **files)) == 260 * MIB


def test_a_group_that_has_passed_its_limit_leaves_nothing(tmp_path):
    limit, used, stat = group(f"{100 * MIB}\n", 101 * MIB, 0)
    files = {"sys__fs__cgroup__memory.max": limit, "sys__fs__cgroup__memory.current": used, "sys__fs__cgroup__memory.stat": stat}
    assert available(system(tmp_path, proc__self__cgroup="0::/\n", **files)) == 0


@linux
def test_the_limit_is_set_and_taken_back(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    root = system(tmp_path, proc__self__status="VmRSS:  1 kB\nVmData:  204800 kB\n")
    with MemoryLimit("cpu", root) as limit:
        within = resource.getrlimit(resource.RLIMIT_DATA)
        assert within[0] - 1200 * MIB in range(1, 1024 * 16 * MIB), "what is claimed, what is there, and stacks"
        assert within[1] == before[1]
        system(tmp_path, proc__meminfo="MemAvailable:  20971520 kB\n")
        limit.renew()
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] - within[0] == (20480 - 1000) * MIB
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@linux
def test_a_gpu_and_a_limit_that_was_set_are_left_alone(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with MemoryLimit("cuda:0", system(tmp_path)):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    own = (1 << 50, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, own)
    try:
        with MemoryLimit("cpu", system(tmp_path)):
            assert resource.getrlimit(resource.RLIMIT_DATA) == own
        assert resource.getrlimit(resource.RLIMIT_DATA) == own
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


PACK = {
    "pack.toml": 'name = "hungry"\nversion = 1\n',
    "nodes.py": '''
"""A node that takes memory."""

from nodegraph import Run, node


@node(smaller=1)
def take(mebibytes: int, *, run: Run) -> int:
    """Where memory is short: a quarter at a time."""
    parts = 4 if run.smaller else 1
    for _ in range(parts):
        taken = bytearray(mebibytes * (1 << 20) // parts)
    return len(taken) * parts
''',
}
COMMAND = """
import sys
from nodegraph.cli import main, memory_limit

memory_limit.available = lambda root: 500 << 20
sys.exit(main(sys.argv[1:]))
"""


@linux
@pytest.mark.parametrize(("mebibytes", "fits"), [(100, True), (900, True), (5000, False)], ids=["whole", "smaller", "never"])
def test_a_node_that_takes_more_than_there_is(tmp_path, mebibytes, fits):
    """With 500 MiB to take, the allocations fail in truth: a smaller variant does it, or the run says that none can."""
    command = [*_command("run", tmp_path, mebibytes), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    told = json.loads(done.stdout.splitlines()[-1])
    if fits:
        assert done.returncode == 0, done.stderr
        assert told["outputs"] == {"taken": mebibytes << 20}
    else:
        assert done.returncode == 1
        assert [problem["code"] for problem in told["problems"]] == ["out-of-memory"]
        assert "--device" not in told["problems"][0]["fix"], "it runs on the CPU"


@linux
def test_watching_is_limited_too(tmp_path):
    with subprocess.Popen(_command("watch", tmp_path, 5000), cwd=ROOT, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        patience = threading.Timer(60, watching.kill)
        patience.start()
        assert "error[out-of-memory]" in "".join(_until(watching.stdout, "failed in"))
        _workflow(tmp_path, 900)
        assert "taken: 943718400" in "".join(_until(watching.stdout, "taken:"))
        patience.cancel()
        watching.terminate()


def _until(stream: TextIO, text: str) -> Iterator[str]:
    """The lines up to the first with a text."""
    for line in stream:
        yield line
        if text in line:
            return


def _workflow(folder: Path, mebibytes: int) -> Path:
    file = folder / "hungry.json"
    nodes = {"take": {"use": "take", "with": {"mebibytes": mebibytes}}}
    file.write_text(json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"taken": "take.int"}}))
    return file


def _command(name: str, folder: Path, mebibytes: int) -> list[str]:
    """A command line for a workflow with a hungry node, in a process that finds 500 MiB."""
    pack = folder / "hungry"
    pack.mkdir()
    for module, text in PACK.items():
        (pack / module).write_text(text)
    file = _workflow(folder, mebibytes)
    return [sys.executable, "-c", COMMAND, name, str(file), "--packs", str(pack), "--cache", str(folder / "cache")]
