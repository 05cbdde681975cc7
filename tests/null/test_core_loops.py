"""Loops of the core pack: the graph of one turn, and what ends a loop. Running them is the engine's test."""

import pytest

from nodegraph import Graph, Invalid, Lazy, Ref, Workflow
from nodes.core.loops import repeat, repeat_while


def body(*inputs, outputs=("value",)):
    """A workflow with these inputs that gives its value on."""
    return Workflow.of(
        {
            "nodegraph": 1,
            "inputs": {name: {"type": "int"} for name in inputs},
            "nodes": {"same": {"use": "integer", "from": {"value": "inputs.value"}}},
            "outputs": dict.fromkeys(outputs, "same.int"),
        }
    )


def test_no_turn_gives_the_value_itself():
    value = Lazy("value")
    assert repeat(value, body("value"), 0) is value
    assert repeat_while(value, body("value", outputs=("value", "again")), again=False) is value


def test_a_turn_uses_the_body_and_hands_the_rest_to_the_same_loop():
    turn_body = body("value")
    graph = repeat(Lazy("value"), turn_body, 5)
    assert isinstance(graph, Graph)
    turn, following = graph.nodes["turn"], graph.nodes["next"]
    assert turn.use is turn_body
    assert turn.links == {"value": Ref("inputs", "value")}
    assert turn.literals == {}
    assert following.use == "repeat"
    assert following.links == {"value": Ref("turn", "value"), "body": Ref("inputs", "body")}
    assert following.literals == {"count": 4, "index": 1}
    assert graph.outputs == {"value": Ref("next", "value")}


def test_the_number_of_the_turn_goes_to_a_body_that_asks_for_it():
    graph = repeat(Lazy("value"), body("value", "index"), 5, index=7)
    assert graph.nodes["turn"].literals == {"index": 7}
    assert graph.nodes["next"].literals == {"count": 4, "index": 8}


def test_further_inputs_reach_every_turn():
    graph = repeat(Lazy("value"), body("value", "amount"), 2, amount=Lazy("amount"))
    assert graph.nodes["turn"].links["amount"] == Ref("inputs", "amount")
    assert graph.nodes["next"].links["amount"] == Ref("inputs", "amount")


def test_a_conditional_loop_lets_the_turn_decide():
    graph = repeat_while(Lazy("value"), body("value", outputs=("value", "again")), limit=3)
    following = graph.nodes["next"]
    assert following.use == "repeat_while"
    assert following.links["again"] == Ref("turn", "again")
    assert following.literals == {"limit": 2, "index": 1}


def test_a_loop_that_does_not_end_says_so():
    with pytest.raises(Invalid, match="not done after 9 turns"):
        repeat_while(Lazy("value"), body("value", outputs=("value", "again")), limit=0, index=9)


@pytest.mark.parametrize(
    ("loop", "turn", "more", "told"),
    [
        (repeat, body("x"), {}, "no input 'value'"),
        (repeat, body("value", outputs=("image",)), {}, "no output 'value'"),
        (repeat, body("value"), {"amount": Lazy("amount")}, "no input 'amount'"),
        (repeat_while, body("value"), {}, "no output 'again'"),
    ],
)
def test_a_body_that_does_not_fit_is_invalid(loop, turn, more, told):
    with pytest.raises(Invalid, match=told):
        loop(Lazy("value"), turn, **more)
