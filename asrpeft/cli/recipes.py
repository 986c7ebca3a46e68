"""Recipes: TOML files with values for a verb's flags. Flags on the command line win over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from asrpeft.errors import BadInput
from asrpeft.options.flag import Field, pairs


def read(context: typer.Context, value: Path | None) -> Path | None:
    """Callback of `--recipe`: its settings become the defaults of the other flags.

    A recipe is a TOML file whose keys are names of flags with `_` or `-`; a table such as `[set]` holds KEY=VALUE settings.
    Raises: BadInput if it cannot be read, or sets what the verb does not have.
    """
    if value is None:
        return None
    import tomllib  # with its expressions a tenth of what --help takes

    try:
        told = tomllib.loads(value.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"The recipe {str(value)!r} cannot be read: {error}.") from None
    known = {option: parameter for parameter in context.command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    defaults: dict[str, Any] = {}
    for key, setting in told.items():
        flag = "--" + key.replace("_", "-")
        parameter = known.get(flag)
        if parameter is None or key == "recipe":
            raise BadInput(f"The recipe {str(value)!r} sets {key!r}, which is no option of `asrpeft {context.info_name}`.")
        if flag in parameter.secondary_opts:
            if not isinstance(setting, bool):
                raise BadInput(f"The recipe {str(value)!r} sets {key} = {setting!r}; it is true or false.")
            setting = not setting
        elif isinstance(setting, dict):
            setting = [f"{k}={v}" for k, v in setting.items()]
        elif isinstance(setting, list) and not parameter.multiple:
            setting = ",".join(map(str, setting))
        elif parameter.multiple:
            setting = [str(one) for one in setting] if isinstance(setting, list) else [str(setting)]
        defaults[parameter.name or key] = setting
    context.default_map = {**defaults, **(context.default_map or {})}
    return value


Recipe = Annotated[Path | None, typer.Option("--recipe", callback=read, is_eager=True, help="A TOML file with values for these options; flags win over it.")]


def over(context: typer.Context, flags: Mapping[str, Field], typed: Mapping[str, Any]) -> dict[str, Any]:
    """What of `typed` is changed by what a recipe gives and the command line says otherwise.

    A length on the command line, in epochs, steps or minutes, takes the place of a recipe's in whatever unit; KEY=VALUE settings of a recipe
    stay, but for those that the command line names.
    """
    changed: dict[str, Any] = {}
    from_recipe: Mapping[str, Any] = context.default_map or {}
    # By its name: the class is click's, or that of a copy which typer brings along.
    given = {key for key in flags if getattr(context.get_parameter_source(key), "name", None) == "COMMANDLINE"}
    for key, one in flags.items():
        rivals = {other for other, each in flags.items() if one.flag.instead_of and each.flag.instead_of == one.flag.instead_of}
        if key not in given and rivals & given:
            changed[key] = None
        if one.takes_settings and key in given and key in from_recipe:
            both = pairs(one.name, from_recipe[key]) | pairs(one.name, typed[key])
            changed[key] = [f"{name}={value}" for name, value in both.items()]
    return changed
