"""Problems as text and as data."""

from __future__ import annotations

import pytest

from nodegraph import Invalid, NodegraphError, PackInvalid, Problem, RunFailed, WorkflowInvalid
from nodegraph.errors import did_you_mean, did_you_mean_file, listing, render

PROBLEM = Problem(
    "type-mismatch", "nodes.a.from.b", "it does not fit", "mend it", "w.json", 3, 5, "a frame\nanother", {"given": "int", "code": "x"}
)


def test_text():
    lines = [
        "error[type-mismatch] it does not fit",
        "  at  w.json:3:5: nodes.a.from.b",
        "  fix mend it",
        "      a frame",
        "      another",
        "error[x] short",
        "2 problems",
    ]
    assert render([PROBLEM, Problem("x", "", "short")]) == "\n".join(lines)
    assert render([Problem("x", "a", "short")]) == "error[x] short\n  at  a\n1 problem"


def test_data():
    """The problem's own data never hide what every problem has."""
    assert PROBLEM.to_json() == {
        "code": "type-mismatch", "message": "it does not fit", "file": "w.json", "line": 3, "column": 5, "path": "nodes.a.from.b",
        "fix": "mend it", "detail": "a frame\nanother", "given": "int",
    }  # fmt: skip
    assert Problem("x", "", "short").to_json() == {
        "code": "x",
        "message": "short",
        "file": None,
        "line": None,
        "column": None,
        "path": "",
        "fix": None,
    }


@pytest.mark.parametrize("kind", [WorkflowInvalid, PackInvalid, RunFailed])
def test_exceptions_carry_problems(kind):
    error = kind(iter([PROBLEM]))
    assert error.problems == (PROBLEM,)
    assert str(error) == render([PROBLEM])
    assert isinstance(error, NodegraphError)


def test_invalid_becomes_a_problem_of_its_port():
    problem = Invalid("no", fix="yes", port="x", code="odd", size=3).problem("a/b")
    assert (problem.code, problem.where, problem.text, problem.fix, problem.data) == ("odd", "a/b.x", "no", "yes", {"size": 3})


def test_near_names():
    assert did_you_mean("lateent", ["latent", "image"]) == "did you mean 'latent'?"
    assert did_you_mean("zzz", ["latent"]) == ""
    assert did_you_mean("x" * 10_000, ["x" * 9_999]) == ""
    assert did_you_mean("node_51", (f"node_{number}" for number in range(100_000))).startswith("did you mean 'node_51'")
    assert did_you_mean_file("cta.png", ["cat.png", "cta.txt", "main.png"]) == "did you mean 'cat.png'?"
    assert did_you_mean_file("A b.PNG", ["cat.png", "a b.png"]) == "did you mean 'a b.png'?"


def test_listing_is_bounded():
    assert listing("abc") == "'a', 'b', 'c'"
    assert listing(map(str, range(12)), 2) == "'0', '1', … (12 in all)"
