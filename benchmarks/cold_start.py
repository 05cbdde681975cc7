"""How long a person waits for a new process: help, check, a run that is fully cached, and the first picture.

    python benchmarks/cold_start.py [--rounds 5]

Each command in a process of its own; the quickest of several rounds counts. Beside the wall clock stand the processor seconds of
all its threads: on a machine that is busy with other things these are what the command itself costs. Bytecode is compiled first.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import io
import tempfile
from itertools import count

from measure import ROOT, command, verdict

WORKFLOW = str(ROOT / "workflows" / "txt2img.json")
AIMS = {"--help": 0.15, "check": 0.4, "a fully cached run": 0.6, "the first picture with tiny-sd": 6.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        for folder in ("nodegraph", "nodes"):
            compileall.compile_dir(ROOT / folder, quiet=2)
    with tempfile.TemporaryDirectory() as folder:
        fresh = (str(number) for number in count())

        def run(cache: str) -> list[str]:
            return ["run", WORKFLOW, "--set", "prompt=a large red circle", "--output", f"{folder}/output", "--cache", f"{folder}/{cache}"]

        command("-m", "nodegraph", *run("warm"))  # also indexes the packs
        commands = {
            "--help": lambda: ["--help"],
            "check": lambda: ["check", WORKFLOW],
            "a fully cached run": lambda: run("warm"),
            "the first picture with tiny-sd": lambda: run(f"cold-{next(fresh)}"),
        }
        for what, arguments in commands.items():
            rounds = [command("-m", "nodegraph", *arguments()) for _ in range(options.rounds)]
            print(verdict(f"{what}, seconds", min(wall for wall, _, _ in rounds), AIMS[what]))
            print(f"{'    of which the processor was at work':58} {min(cpu for _, cpu, _ in rounds):9.3f}", flush=True)


if __name__ == "__main__":
    main()
