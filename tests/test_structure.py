"""How the house is built: nothing imports in a circle, data flow one way, long functions are few and each has its reason, none takes many parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LONGEST = 60  # lines
AT_MOST = 10  # functions longer than that, in all that git tracks
PARAMETERS = 8  # at most, `self` and `cls` aside: what belongs together is one value
LONG = {
    "asrpeft/jobs/evaluate.py:evaluate": "half of it says what is asked and given; the parts of an evaluation follow one another, each a function of its own",
    "scripts/bench/rates.py:main": "a list of the flags of a benchmark",
    "scripts/bench/training.py:usual": "the usual recipe, as its users write it down, in one place",
    "tests/attack/runner.py:hostile": "a list of hostile values",
    "tests/cli/test_as_a_user.py:test_finetune_evaluate_transcribe_and_stream_with_the_adapter": "one user's way from a corpus to a transcript",
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for file in sorted((ROOT / "asrpeft").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(source: str, known: Mapping[str, object], *, in_functions: bool) -> set[str]:
    """The modules among `known` that a file imports when it is imported itself, and perhaps `in_functions`; but for types alone."""
    found: set[str] = set()
    for node in statements(ast.parse(source), in_functions):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f"{node.module}.{one.name}") in known else node.module for one in node.names}
    return found & known.keys()


def statements(node: ast.AST, in_functions: bool) -> Iterator[ast.AST]:
    """A node and all within it that runs: nothing under `if TYPE_CHECKING`, and what is in functions only where that is asked for."""
    yield node
    types_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for inner in node.orelse if types_only else ast.iter_child_nodes(node):
        if in_functions or not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(inner, in_functions)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The sets of two or more nodes that reach each other (Tarjan, 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            own = stack[stack.index(node) :]
            del stack[-len(own) :]
            found.extend([sorted(own)] if len(own) > 1 else [])

    for node in graph:
        if node not in order:
            visit(node)
    return found


def package_of(module: str) -> str:
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("graph, expected", [({"a": {"b"}, "b": {"c"}, "c": set()}, []), ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, [["b", "c"]])])
def test_a_circle_is_found(graph, expected):
    assert circles(graph) == expected


def test_no_modules_import_each_other_in_a_circle():
    """Not in functions either, where such an import would hide."""
    known = modules()
    del known["asrpeft"]  # the door: it names what is inside, each when it is asked for, and has a version that those inside tell
    graph = {name: imports(file.read_text(encoding="utf-8"), known, in_functions=True) - {name} for name, file in known.items()}
    assert circles(graph) == []


def test_no_packages_import_each_other_in_a_circle():
    known = modules()
    graph: dict[str, set[str]] = {package_of(name): set() for name in known}
    for name, file in known.items():
        graph[package_of(name)] |= {package_of(other) for other in imports(file.read_text(encoding="utf-8"), known, in_functions=False)} - {
            package_of(name),
            "",
        }
    assert circles(graph) == []


def test_data_flow_as_the_picture_of_the_house_says():
    """`a → b | c → d` in the README: b imports nothing of c or d."""
    (picture,) = re.findall(r"Data flows one way: `(audio → [^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    levels = [level.split(" | ") for level in picture.split(" → ")]
    place = {package: number for number, level in enumerate(levels) for package in level}
    known, wrong = modules(), []
    for name, file in known.items():
        own = package_of(name)
        for other in sorted(imports(file.read_text(encoding="utf-8"), known, in_functions=False)) if own in place else ():
            above = package_of(other)
            if above in place and above != own and place[above] > place[own]:
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def long_functions() -> dict[str, int]:
    """FILE:NAME of every function that is longer than it should be, and its lines."""
    found = {}
    for folder in ("asrpeft", "scripts", "tests"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST:
                    found[f"{file.relative_to(ROOT).as_posix()}:{node.name}"] = lines
    return found


def test_functions_of_more_than_sixty_lines_are_few_and_each_has_its_reason():
    assert {name: lines for name, lines in long_functions().items() if name not in LONG} == {}
    assert len(LONG) <= AT_MOST


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names that a function takes, but for the object or class it is called on."""
    given = node.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if one is not None]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


@pytest.mark.parametrize(
    "source, expected",
    [
        ("def f(a, /, b, *c, d=1, **e): ...", ["a", "b", "d", "c", "e"]),
        ("def f(self, a): ...", ["a"]),
        ("async def f(cls): ...", []),
        ("def f(a, self): ...", ["a", "self"]),
    ],
)
def test_parameters_of_every_kind_are_counted(source, expected):
    assert parameters(ast.parse(source).body[0]) == expected


def test_no_function_of_the_package_has_more_than_eight_parameters():
    many = {
        f"{name}:{node.name}": len(parameters(node))
        for name, file in modules().items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and len(parameters(node)) > PARAMETERS
    }
    assert many == {}
