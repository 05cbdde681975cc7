"""Loops, as graphs that a node returns: one turn, and the same loop again with what is left.

The rest of the loop stands at the end of each graph (a tail call), so the engine resolves it without recursion, and every
turn is a result of its own: a run that is killed goes on from the last turn that was finished.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from nodegraph import Field, Graph, Invalid, Lazy, Workflow, node

T = TypeVar("T")

Body = Annotated[
    Workflow, "one turn: a workflow with an input and an output `value`; if it has an input `index`, that is the turn's number"
]
More = Annotated[Lazy[Any], "a further input of the body, the same in every turn"]

# A lazy input or a graph that a node returns stands for the value; the annotations name the value.
# mypy: disable-error-code="return-value"


@node
def repeat(
    value: Annotated[Lazy[T], "what the first turn gets"],
    body: Body,
    count: Annotated[int, Field(ge=0), "how many turns; 0 gives the value as it is"] = 1,
    index: Annotated[int, "the number of the first turn"] = 0,
    **more: More,
) -> T:
    """Use a workflow several times, each time on what the turn before it gave."""
    if count == 0:
        return value
    return _turn("repeat", body, index, more, {"count": count - 1})


@node
def repeat_while(
    value: Annotated[Lazy[T], "what the first turn gets"],
    body: Annotated[Workflow, "as for repeat, with a further output `again`: whether there is to be another turn"],
    again: Annotated[bool, "false gives the value as it is"] = True,
    limit: Annotated[int, Field(ge=0), "fail after this many turns"] = 1_000_000,
    index: Annotated[int, "the number of the first turn"] = 0,
    **more: More,
) -> T:
    """Use a workflow again and again, each time on what the turn before it gave, until its output `again` is false."""
    if not again:
        return value
    if limit == 0:
        raise Invalid(f"the loop was not done after {index} turns", fix="raise the limit, or mend the body's output 'again'", port="limit")
    return _turn("repeat_while", body, index, more, {"limit": limit - 1}, carried=("value", "again"))


def _turn(
    loop: str, body: Workflow, index: int, more: dict[str, Any], rest: dict[str, Any], carried: tuple[str, ...] = ("value",)
) -> Graph:
    """The graph of one turn of `body`, and of `loop` for the `rest`, which gets the `carried` outputs of the turn."""
    _check_body(body, more, carried)
    graph = Graph()
    same = {name: graph.input(name) for name in more}
    own_index = {"index": index} if "index" in body.inputs else {}
    turn = graph.add("turn", body, value=graph.input("value"), **own_index, **same)
    further = {name: turn[name] for name in carried}
    following = graph.add("next", loop, body=graph.input("body"), index=index + 1, **rest, **further, **same)
    return graph.give(value=following["value"])


def _check_body(body: Workflow, more: dict[str, Any], outputs: tuple[str, ...]) -> None:
    for name in ("value", *more):
        if name not in body.inputs:
            known = ", ".join(map(repr, body.inputs)) or "none"
            raise Invalid(
                f"the body of the loop has no input {name!r}", fix=f"its inputs are {known}", port="body" if name == "value" else name
            )
    for name in outputs:
        if name not in body.outputs:
            known = ", ".join(map(repr, body.outputs)) or "none"
            raise Invalid(f"the body of the loop has no output {name!r}", fix=f"its outputs are {known}", port="body")
