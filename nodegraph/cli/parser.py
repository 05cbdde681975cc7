"""The commands and their flags."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from nodegraph.errors import Problem, WorkflowInvalid, did_you_mean


def parse(given: Sequence[str]) -> argparse.Namespace:
    """The arguments with `command` (`models show`). Raises WorkflowInvalid for a call that is wrong, SystemExit for --help."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        from nodegraph.cli.completion import answer

        answer(parser)
    _refuse_unknown_command(parser, given)
    arguments, further = parser.parse_known_args(given)
    if not hasattr(arguments, "command"):
        parser.print_help()
        raise SystemExit(0)
    if arguments.command == "run" and arguments.help and not arguments.workflow:
        arguments.flags.print_help()
        raise SystemExit(0)
    if further:
        flags = [flag for action in arguments.flags._actions for flag in action.option_strings]
        word = further[0].partition("=")[0]
        if word in flags and further[0] in given[: given.index(arguments.command.split()[-1])]:
            raise _misplaced(word, arguments.flags.prog)
        fix = (did_you_mean(word, flags) if word.startswith("-") else "") or f"see: {arguments.flags.prog} --help"
        raise WorkflowInvalid([Problem("usage", "", f"{arguments.flags.prog} does not know {word!r}", fix)])
    _refuse_empty(arguments)
    return arguments


def _misplaced(word: str, command: str) -> WorkflowInvalid:
    return WorkflowInvalid([Problem("usage", "", f"{word!r} stands before the command", f"write it behind: {command} {word} …")])


def _refuse_empty(arguments: argparse.Namespace) -> None:
    """Flags that are given nothing, as those whose variable is not set in a shell: they would count as not given."""
    for action in arguments.flags._actions:
        given = getattr(arguments, action.dest, None)
        if action.option_strings and (given == "" or (isinstance(given, list) and "" in given)):
            flag = action.option_strings[-1]
            raise WorkflowInvalid([Problem("usage", flag, f"{flag} is empty", "give it a value, or leave it away")])


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are Problems."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise WorkflowInvalid([Problem("usage", "", message, f"see: {self.prog} --help")])


def _refuse_unknown_command(parser: _Parser, given: Sequence[str]) -> None:
    """Say what was meant where argparse would list everything."""
    first = given[0].partition("=")[0] if given else ""
    if first.startswith("-") and first not in ("-", "--", "-h", "--help", "--version"):
        raise _misplaced(first, "nodegraph COMMAND")
    words = [word for word in given if not word.startswith("-")]
    here: argparse.ArgumentParser = parser
    for word in words[:2]:
        groups = [action for action in here._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups:
            return
        known = groups[0].choices
        if word not in known:
            fix = did_you_mean(word, known) or f"the commands are {', '.join(known)}"
            raise WorkflowInvalid([Problem("usage", "", f"{here.prog} has no command {word!r}", fix)])
        here = known[word]


def _parser() -> _Parser:
    from nodegraph import __version__

    top = _Parser(prog="nodegraph", description="Typed node graphs for generative media: workflows are JSON files.")
    top.add_argument("--version", action="version", version=f"nodegraph {__version__}")
    commands = top.add_subparsers(metavar="COMMAND")
    _run(commands)
    _files(commands)
    _history(commands)
    _installed(commands)
    _packs(commands)
    _stock(commands)
    return top


def _command(commands: Any, name: str, help: str, **options: Any) -> _Parser:
    """A command with the flags that all have."""
    made: _Parser = commands.add_parser(name, help=help, description=f"{help[:1].upper()}{help[1:]}.", **options)
    made.set_defaults(command=made.prog.removeprefix("nodegraph "), flags=made)
    group = made.add_argument_group("general")
    group.add_argument("-q", "--quiet", action="store_true", help="print results and problems only")
    group.add_argument("--traceback", action="store_true", help="show where nodegraph itself fails")
    group.add_argument("--log", choices=["debug", "info", "warning"], help="print what nodegraph's parts have to say, to stderr")
    return made


def _places(made: _Parser) -> None:
    """Flags of commands that look at packs and models."""
    group = made.add_argument_group("places")
    group.add_argument("--packs", action="append", metavar="DIR", help="a pack, or a folder of packs, beside the built-in ones")
    group.add_argument("--models", action="append", metavar="DIR", help="a folder of models")
    group.add_argument("--root", action="append", metavar="DIR", dest="roots", help="a folder that paths in workflow files may point into")


def _work(made: _Parser) -> None:
    """Flags of commands that compute keys."""
    _places(made)
    group = made.add_argument_group("work")
    group.add_argument("--cache", metavar="DIR", help="the folder of kept results, or 'off'")
    group.add_argument("--device", metavar="auto|cpu|cuda[:i]", help="where weights run")
    group.add_argument("--dtype", metavar="auto|float32|float16|bfloat16", help="what weights are in")
    group.add_argument("--threads", metavar="N", help="how many CPU nodes run at once")
    group.add_argument("--memory", metavar="SIZE", help="bytes that results may take in memory, like 8GiB")
    group.add_argument("--disk", metavar="SIZE", help="bytes that results may take on disk, like 50GiB")
    group.add_argument("--strict", action="store_true", default=None, help="reuse only what was made on such a machine")


def _inputs(made: _Parser) -> None:
    group = made.add_argument_group("inputs")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="sets",
        help="an input, or NODE.PORT=VALUE; text=@FILE reads a file; seed=random draws one",
    )
    group.add_argument("--inputs", metavar="FILE.json", help="inputs by name")
    group.add_argument("--only", action="append", default=[], metavar="OUTPUT|NODE.PORT", help="compute this and what it needs")


def _run(commands: Any) -> None:
    made = _command(commands, "run", "run a workflow", add_help=False)
    made.add_argument("workflow", nargs="?", metavar="WORKFLOW", help="a file, or the name of a built-in workflow")
    made.add_argument("-h", "--help", action="store_true", dest="help", help="show this, or what WORKFLOW takes and gives")
    _inputs(made)
    made.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="NAME=V,V…",
        help="one run for each value; several flags: for each combination; numbers also FIRST..LAST, or FIRST..LAST..STEP",
    )
    made.add_argument(
        "--grid", metavar="FILE.png", help="one labelled picture of all runs: columns, rows and blocks are the first three sweeps"
    )
    made.add_argument("--table", metavar="FILE.csv", help="what was what, a line for each run (.csv or .jsonl)")
    made.add_argument("--batch", metavar="FILE.jsonl", help="one run for each line of inputs")
    made.add_argument("--output", metavar="DIR", help="where files go (./output)")
    made.add_argument("--locked", metavar="FILE", help="refuse to run unless the packs here are those of this lock")
    made.add_argument("--no-cache", action="store_true", help="compute everything anew")
    made.add_argument("--events", choices=["jsonl"], help="print what happens, one JSON object a line")
    made.add_argument("--json", action="store_true", help="print one JSON object for each run at its end")
    made.add_argument("--profile", metavar="FILE.json", help="write what ran when and where, for ui.perfetto.dev or chrome://tracing")
    made.add_argument("--debug", action="store_true", default=None, help="find nodes that change their inputs in place (slow)")
    _work(made)


def _files(commands: Any) -> None:
    made = _command(commands, "check", "find what is wrong with workflows, without running them")
    made.add_argument("workflows", nargs="+", metavar="WORKFLOW")
    made.add_argument("--json", action="store_true", help="print problems as JSON")
    _places(made)

    made = _command(commands, "plan", "show what would run, and what is cached")
    made.add_argument("workflow", metavar="WORKFLOW")
    made.add_argument("--json", action="store_true", help="print the steps as JSON")
    _inputs(made)
    _work(made)

    made = _command(commands, "fmt", "write workflow files in their one canonical form")
    made.add_argument("workflows", nargs="+", metavar="WORKFLOW")
    made.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file would change")

    made = _command(commands, "show", "draw a workflow: a tree, a flowchart, or a picture with what is cached")
    made.add_argument("workflow", metavar="WORKFLOW")
    made.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart")
    made.add_argument("--python", action="store_true", help="print it as the Python that builds it")
    made.add_argument("--svg", metavar="FILE", help="draw it with its types, states and small pictures of results; - for stdout")
    made.add_argument("--png", metavar="FILE", help="the same as PNG")
    made.add_argument("--open", action="store_true", help="draw what is in workflows that are used as nodes")
    made.add_argument("--plain", action="store_true", help="draw without states and pictures of results")
    _inputs(made)
    _work(made)


def _history(commands: Any) -> None:
    made = _command(commands, "watch", "run a workflow again on every save of it, of its packs and of its input files")
    made.add_argument("workflow", metavar="WORKFLOW", help="a file, or the name of a built-in workflow")
    _inputs(made)
    made.add_argument("--open", action="store_true", help="show graph and outputs on a local page, and open it")
    made.add_argument("--port", type=int, metavar="N", help="serve that page at this port of 127.0.0.1, and print its address")
    made.add_argument("--output", metavar="DIR", help="where the newest outputs are kept (./output)")
    _work(made)

    made = _command(commands, "replay", "run again what made a picture, and compare")
    made.add_argument("file", metavar="FILE", help="a PNG, JPEG, WebP or WAV that nodegraph saved")
    made.add_argument("--check", action="store_true", help="run nothing; say what is different here from when it was made")
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="sets",
        help="an input in place of the recorded one, or NODE.PORT=VALUE",
    )
    made.add_argument("--output", metavar="DIR", help="where files go (./output)")
    made.add_argument("--json", action="store_true", help="print the verdict as JSON")
    made.set_defaults(inputs=None)
    _work(made)

    made = _command(commands, "diff", "tell two pictures or two workflows apart")
    made.add_argument("before", metavar="A", help="a saved picture, or a workflow")
    made.add_argument("after", metavar="B", help="another one")
    made.add_argument("--json", action="store_true", help="print the differences as JSON")
    _places(made)


def _installed(commands: Any) -> None:
    made = _command(commands, "nodes", "list node types, or explain one")
    made.add_argument("name", nargs="?", metavar="NAME")
    made.add_argument("--json", action="store_true", help="print them as JSON")
    _places(made)

    made = _command(commands, "types", "list port types, and which nodes give and take them")
    made.add_argument("--json", action="store_true", help="print them as JSON")
    _places(made)

    made = _command(commands, "schema", "print a JSON Schema of workflow files, for editors")
    made.add_argument("-o", "--output", metavar="FILE", dest="target", help="write it to a file")
    _places(made)

    made = _command(commands, "stubs", "write what Python editors and type checkers want to know of the nodes")
    made.add_argument(
        "-o", "--output", metavar="DIR", dest="target", default="typings", help="the folder (./typings, which editors look into)"
    )
    _places(made)

    made = _command(commands, "completion", "print what a shell reads to complete command lines")
    made.add_argument("shell", choices=["bash", "zsh", "fish"], help='bash and zsh: eval "$(nodegraph completion bash)"')


def _packs(commands: Any) -> None:
    group = commands.add_parser("packs", help="list, make and check node packs").add_subparsers(metavar="COMMAND", required=True)
    made = _command(group, "list", "list node packs")
    made.add_argument("--json", action="store_true", help="print them as JSON")
    _places(made)
    made = _command(group, "new", "make a pack: one node, its test and its pack.toml")
    made.add_argument("name", metavar="NAME", help="letters, digits and underscores")
    made.add_argument("--at", metavar="DIR", default=".", help="the folder that it is made in")
    _places(made)
    made = _command(group, "check", "try what every node of a pack promises, on sample values")
    made.add_argument("path", metavar="PATH", help="a pack, or a folder of packs")
    made.add_argument("--node", action="append", default=[], metavar="NAME", dest="names", help="only this node")
    made.add_argument("--cases", type=int, default=3, metavar="N", help="how many sets of inputs each node is tried with (3)")
    made.add_argument("--record", action="store_true", help="write what was found to the pack's pack.lock, to compare with next time")
    made.add_argument("--json", action="store_true", help="print problems as JSON")
    _work(made)
    made = _command(group, "lock", "write the packs of a workflow with their versions and digests")
    made.add_argument("workflow", metavar="WORKFLOW")
    made.add_argument("-o", "--output", metavar="FILE", dest="target", help="write it to a file")
    _places(made)
    made = _command(group, "verify", "say what of the packs is different here from a lock")
    made.add_argument("file", metavar="FILE")
    _places(made)


def _stock(commands: Any) -> None:
    group = commands.add_parser("models", help="list, add, show and verify models").add_subparsers(metavar="COMMAND", required=True)
    made = _command(group, "list", "list models")
    made.add_argument("--json", action="store_true", help="print them as JSON")
    _places(made)
    made = _command(group, "add", "copy a model into the first folder of models")
    made.add_argument("path", metavar="PATH", help="a model folder, or a .safetensors file")
    made.add_argument("--name", help="the name in workflows")
    _places(made)
    made = _command(group, "show", "show what is known of a model")
    made.add_argument("name", metavar="NAME")
    made.add_argument("--json", action="store_true", help="print it as JSON")
    _places(made)
    made = _command(group, "verify", "read models again and report damage")
    made.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    made.add_argument("--json", action="store_true", help="print problems as JSON")
    _places(made)

    group = commands.add_parser("cache", help="look after kept results").add_subparsers(metavar="COMMAND", required=True)
    for name, help in (
        ("info", "show what is kept"),
        ("verify", "read everything back"),
        ("prune", "remove what saves the least"),
        ("clear", "remove everything that is kept"),
    ):
        made = _command(group, name, help)
        made.add_argument("--cache", metavar="DIR", help="the folder of kept results")
        made.add_argument("--json", action="store_true", help="print it as JSON")
        if name == "prune":
            made.add_argument("size", metavar="SIZE", help="how much may be left, like 10GiB")
