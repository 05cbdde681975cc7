"""Arithmetic expressions over named numbers, evaluated without Python's eval. Everything is a float, so nothing can grow large."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from nodegraph import Invalid

MAX_LENGTH = 500
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "ceil": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "max": max,
    "min": min,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
_CONSTANTS = {"pi": math.pi, "e": math.e}


def evaluate(expression: str, values: Mapping[str, float]) -> float:
    """The finite value of an expression. Raises Invalid that says what in it is wrong."""
    if len(expression) > MAX_LENGTH:
        raise _invalid(f"the expression has {len(expression)} characters", f"use at most {MAX_LENGTH}")
    try:
        result = _value(ast.parse(expression.strip(), mode="eval").body, {**_CONSTANTS, **values})
    except SyntaxError as error:
        raise _invalid(f"{expression!r} is no expression: {error.msg}") from None
    except ZeroDivisionError:
        raise _invalid(f"{expression!r} divides by zero") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise _invalid(f"{expression!r} has no value: {error}") from None
    except (RecursionError, MemoryError):
        raise _invalid("the expression is nested too deeply", "use fewer brackets") from None
    if not math.isfinite(result):
        raise _invalid(f"{expression!r} is too large for a number")
    return result


def _value(part: ast.expr, names: Mapping[str, float]) -> float:
    match part:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id=name):
            if name in names:
                return float(names[name])
            raise _invalid(f"the expression names {name!r}, which is not given", f"link an input {name!r}")
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return float(_FUNCTIONS[name](*(_value(arg, names) for arg in args)))
    raise _invalid(f"{ast.unparse(part)!r} cannot stand in an expression", f"use + - * / // % ** and {', '.join(_FUNCTIONS)}")


def _invalid(text: str, fix: str = "") -> Invalid:
    return Invalid(text, fix=fix, port="expression")
