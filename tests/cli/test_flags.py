"""Flags are made of the values that verbs take: each field has one on each verb that has the value, with help, and in recipes the same name."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from types import NoneType
from typing import get_args

import pytest
import typer

from asrpeft import options
from asrpeft.cli import main
from asrpeft.cli.flags import OWN, Given, Uses, command, values_of
from asrpeft.cli.verb import VERBS, find, verb
from asrpeft.errors import BadInput
from asrpeft.options import TrainingOptions
from asrpeft.options.flag import Flag, PythonOnly, fields_of, flag_of

ROOT = Path(main.__file__).resolve().parents[1]
COMMAND = typer.main.get_command(main.app)
TRAINING_VERBS = ("finetune", "speakers", "compare")


def leaves(command, path=()):
    below = getattr(command, "commands", None)
    return {path: command} if below is None else {p: c for name, one in below.items() for p, c in leaves(one, (*path, name)).items()}


PARSED = leaves(COMMAND)
FIELDS = [
    pytest.param(one, parameter, cls, field, id=f"{'-'.join(one.words)}-{'.'.join(field.path)}")
    for one in find()
    for parameter, (cls, fields) in values_of(one.run).items()
    for field in fields
]
# Values that a field accepts, where not any of its type is one; and what must be said beside it.
SAMPLES = {
    "schedule": "linear",
    "precision": "no",
    "context": "full",
    "augment": "strong",
    "loss": "ctc",
    "optimizer": "sgd",
    "average": "ema",
    "keep": "last",
    "pooled": "sum",
    "decide": "dev",
    "curve": "1,20,all",
    "amounts": "0.25,1",
    "set": "a.b=1",
    "columns": "text=t",
    "suppress": "7,8",
    "hotwords": "a,b",
    "dtype": "bfloat16",
    "ctc_weight": 0.25,
    "chunk": 0.5,
    "reading_speed": 9.5,
    "train_text": __file__,
    "weigh": "even",
    "by": "first",
    "encoder_layers": "2",
    "decoder_layers": "0,1",
}
BESIDE = {"guard_dev": {"max-loss": 3}, "max_loss": {"guard": "g"}, "rare": {"train-data": ["t"]}}


def sample(field):
    """A value as it is typed, which is not the default."""
    takes = field.type if field.flag.takes is OWN else field.flag.takes
    kinds = {one for one in (takes, *get_args(takes)) if one is not NoneType}
    if field.key in SAMPLES:
        return SAMPLES[field.key]
    if field.takes_settings:
        return "a.b=1"
    if bool in kinds:
        return field.default is not True
    if int in kinds:
        return 7
    return 0.75 if float in kinds else "x/y"


def toml(key, value):
    shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, int | float) else f'"{value}"'
    return f"{key} = {shown}\n"


def asked(one, line):
    """What a verb's function is given for a line, the function itself left out."""
    parser, seen = spied(one)
    seen.clear()
    parser.main(args=[str(part) for part in line], prog_name="asrpeft", standalone_mode=False)
    return dict(seen)


@functools.cache
def spied(one):
    """(the command of a verb, what its function was given last): making one takes longer than what a test asks of it."""
    seen = {}

    @functools.wraps(one.run)
    def spy(**given):
        seen.update(given)

    app = typer.Typer()
    app.command()(command(spy))
    return typer.main.get_command(app), seen


def read(kind, place):
    return (kind, tuple(place) if isinstance(place, list) else place)


def found(value, path):
    for name in path:
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("one", "parameter", "cls", "field"), FIELDS)
def test_every_field_has_a_flag_with_help_and_a_panel(one, parameter, cls, field):
    option = next(option for option in PARSED[one.words].params if option.name == field.key)
    assert option.opts[0] == field.name.split("/")[0] and len(option.help) > 8 and option.help[-1] in ".)"
    assert option.rich_help_panel is not None or one.words[0] in ("adapter", "data")


@pytest.mark.parametrize(("one", "parameter", "cls", "field"), FIELDS)
def test_a_value_comes_from_a_recipe_as_it_comes_from_the_command_line(one, parameter, cls, field, tmp_path):
    value, beside = sample(field), dict(BESIDE.get(field.key, {}))
    needed = {other.opts[0].lstrip("-"): "n" for other in PARSED[one.words].params if other.required and other.param_type_name == "option"}
    arguments = ["n" for other in PARSED[one.words].params if other.required and other.param_type_name == "argument"]
    needed.pop(field.name.lstrip("-"), None)
    beside = {key: one[0] if isinstance(one, list) else one for key, one in (needed | beside).items()}
    names = field.name.split("/")
    recipe = tmp_path / "recipe.toml"
    text = "".join(toml(key, each) for key, each in beside.items())
    recipe.write_text(text + (toml(names[0].lstrip("-"), value) if "=" not in str(value) else "[{}]\n{} = {}\n".format(names[0][2:], *quoted(value))))
    flags = [part for key, each in beside.items() for part in (f"--{key}", each)]
    flags += [names[0] if value else names[-1]] if isinstance(value, bool) else [names[0], value]
    results = []
    for line in ([*arguments, "--recipe", recipe], [*arguments, *flags]):
        given = asked(one, line)[parameter]
        assert isinstance(given, Given)
        results.append(found(given(read), field.path))
    assert results[0] == results[1] != field.default


def quoted(pair):
    key, value = pair.split("=")
    return f'"{key}"', f'"{value}"'


@pytest.mark.parametrize("name", [name for name in options.__all__ if name != "Overlapping"])
def test_every_field_of_every_value_is_asked_for_by_some_verb(name):
    """(`fields_of` refuses a field that neither has a flag nor says why not.)"""
    asked_for = {field.key for one in find() for _, fields in values_of(one.run).values() for field in fields}
    assert {field.key for field in fields_of(getattr(options, name))} <= asked_for


@pytest.mark.parametrize("verb", TRAINING_VERBS)
def test_whatever_trains_takes_all_that_training_takes(verb):
    flags = {option.opts[0] for option in PARSED[(verb,)].params if option.param_type_name == "option"}
    assert {field.name.split("/")[0] for field in fields_of(TrainingOptions)} <= flags
    assert {"--proxy-lang", "--lang", "--task", "--where", "--set", "--nonspeech", "--beams", "--ctc-weight", "--resume", "--record", "--recipe"} <= flags


@pytest.mark.parametrize("path", sorted(PARSED), ids="-".join)
def test_every_verb_takes_a_recipe(path):
    assert any("--recipe" in option.opts for option in PARSED[path].params)


# -- recipes against the command line --------------------------------------------------------------------------------------
def test_a_length_on_the_command_line_takes_the_place_of_a_recipes_in_whatever_unit(tmp_path):
    (tmp_path / "r.toml").write_text('data = "x"\nepochs = 9\nlr = 0.5\n')
    given = asked(VERBS[("finetune",)], ["--recipe", tmp_path / "r.toml", "--steps", "3"])
    told = given["training"]()
    assert (told.steps, told.epochs, told.lr) == (3, None, 0.5)


def test_settings_on_the_command_line_change_those_they_name_in_a_recipe(tmp_path):
    (tmp_path / "r.toml").write_text('data = "x"\n[set]\nrank = 32\nalpha = 64\n')
    given = asked(VERBS[("speakers",)], ["--recipe", tmp_path / "r.toml", "--out", "o", "--set", "rank=8"])
    assert given["adapter"]().settings == {"rank": "8", "alpha": "64"}


def test_a_recipe_may_switch_off_what_is_on(tmp_path):
    for line in ("record = false", "no-record = true", "no_record = true"):
        (tmp_path / "r.toml").write_text(f'data = "x"\n{line}\n')
        assert asked(VERBS[("finetune",)], ["--recipe", tmp_path / "r.toml"])["out"]().record is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "sets 'epoch', which is no option"),
        ("recipe = 'x'", "'recipe'"),
        ("no-record = 3", "true or false"),
        ("=", "cannot be read"),
    ],
)
def test_what_a_recipe_sets_in_vain_is_refused(tmp_path, text, said):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        asked(VERBS[("finetune",)], ["--recipe", tmp_path / "r.toml"])


def test_the_recipes_that_come_with_it_are_read():
    for recipe in (ROOT.parent / "recipes").glob("*.toml"):
        verb = re.search(r"asrpeft (\w+) --recipe", recipe.read_text(encoding="utf-8"))
        given = asked(VERBS[(verb[1],)], ["--recipe", recipe])
        assert given["training"]() != TrainingOptions(), recipe.name


# -- verbs --------------------------------------------------------------------------------------------------------------------
def test_a_verb_is_a_file_that_is_found():
    files = {path.stem for path in (ROOT / "cli" / "verbs").glob("*.py")} - {"__init__"}
    assert {one.run.__module__.rsplit(".", 1)[1] for one in find()} == files  # every file has one
    assert {one.words[0] for one in find()} == {path[0] for path in PARSED}


def test_two_verbs_are_not_called_alike():
    with pytest.raises(ValueError, match="'finetune'"):
        verb("finetune")(lambda: None)


def test_a_flag_that_a_verb_cannot_use_is_left_out_and_its_value_is_the_default():
    def of(training: Given[TrainingOptions]) -> None: ...

    of.__annotations__ = {"training": typing_of(Uses(without=("patience",), help={"lr": "Other words."}))}
    ((_, fields),) = values_of(of).values()
    assert "patience" not in {field.key for field in fields} and next(field for field in fields if field.key == "lr").flag.help == "Other words."


def typing_of(uses):
    from typing import Annotated

    return Annotated[Given[TrainingOptions], uses]


def test_a_field_without_a_flag_and_without_a_reason_is_refused():
    from dataclasses import dataclass
    from typing import Annotated

    @dataclass(frozen=True)
    class Forgotten:
        a: Annotated[int, Flag("A number.")] = 1
        b: Annotated[int, PythonOnly("it is none of a user's business")] = 2
        c: int = 3

    Forgotten.__annotations__ = {"a": Annotated[int, Flag("A number.")], "b": Annotated[int, PythonOnly("so")], "c": int}
    with pytest.raises(TypeError, match="Forgotten.c has no Flag"):
        fields_of(Forgotten)


# -- what is said of flags -----------------------------------------------------------------------------------------------------
EVERY_FLAG = {name for command in PARSED.values() for option in command.params for name in (*option.opts, *option.secondary_opts)}
SCORES = set(re.findall(r"--[a-z-]+", (ROOT.parent / "scripts" / "wer.py").read_text(encoding="utf-8")))  # a command of its own
OTHERS = {"--local-dir"}  # of `hf download`
OURS = EVERY_FLAG | SCORES | OTHERS | {"--help", "--version", "--install-completion"}


def texts(path: Path):
    """The texts in a file with their lines; of formatted ones the parts that are written there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_names_a_flag_that_no_verb_has(path):
    """Errors, help and docstrings. (A page's colors are `--names` too, in its style.)"""
    for line, text in texts(path):
        if "var(--" in text or "{--" in text or re.search(r"--\w+:", text):
            continue
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])", text))
        assert named <= OURS, f"{path.name}:{line}: {named - OURS}"


@pytest.mark.parametrize("field", fields_of(TrainingOptions), ids=lambda field: field.key)
def test_what_is_wrong_with_a_value_is_said_by_its_flag(field):
    with pytest.raises(BadInput) as told:
        TrainingOptions(**{field.path[-1]: object()})
    named = set(re.findall(r"--[a-z-]*[a-z]", str(told.value)))
    assert named == {flag_of(TrainingOptions, field.path[-1])} <= EVERY_FLAG
