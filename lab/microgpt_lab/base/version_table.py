"""What a version's folder must hold: the keys of `[tool.microgpt]` in its pyproject.toml, and the
functions of its program. Each mistake is an InputError of one line that names the file and the key.
"""

import ast
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from microgpt import RECIPES, InputError

from microgpt_lab.base.hints import hint

DTYPES = ("float32", "float64")
FUNCTIONS = ("create", "logits", "loss_and_grads", "train", "export", "about")  # SPEC.md, S14.1


# ---------------------------------------------------------------- The table


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_module(value: Any) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def is_program(value: Any) -> bool:
    return isinstance(value, str) and value.endswith(".py") and Path(value).name == value


def are_dtypes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(item in DTYPES for item in value)


def are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_text(item) for item in value)


def is_recipe(value: Any) -> bool:
    return isinstance(value, str) and value in RECIPES


def is_yes_or_no(value: Any) -> bool:
    return isinstance(value, bool)


def are_variants(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(options, dict)
        and all(isinstance(x, (bool, int, float, str)) for x in options.values())
        for options in value.values()
    )


def are_variables(value: Any) -> bool:
    try:
        return isinstance(value, dict) and all(
            isinstance(text, str) and text.format(cache="") is not None for text in value.values()
        )
    except (LookupError, ValueError):  # a brace that is not {cache}
        return False


class Key(NamedTuple):
    """What a key of the table must be: the test, and the same in words."""

    fits: Callable[[Any], bool]
    meaning: str
    needed: bool = False


KEYS = {
    "title": Key(is_text, 'a text, such as "NumPy, gradients by hand"', needed=True),
    "dtypes": Key(are_dtypes, 'a list of "float32", "float64" or both', needed=True),
    "framework": Key(is_module, 'the name of a module, such as "torch"'),
    "program": Key(is_program, 'the name of a Python file in the folder, such as "main.py"'),
    "devices": Key(are_texts, 'a list of texts, such as ["cpu", "cuda"]'),
    "batched": Key(is_yes_or_no, "true or false"),
    "recipe": Key(is_recipe, f"one of {', '.join(RECIPES)}"),
    "variants": Key(are_variants, "a table of options, such as { compiled = { compile = true } }"),
    "variables": Key(are_variables, 'a table of texts, in which "{cache}" is a folder'),
}


def read_table(path: Path) -> dict[str, Any]:
    """The table [tool.microgpt] of a version's pyproject.toml, its lists as tuples. Raises
    InputError."""
    where = f"{path.parent.name}/{path.name}"
    table: Any = read_toml(path, where)
    for name in ("tool", "microgpt"):
        table = table.get(name) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise InputError(f"{where} has no table [tool.microgpt], which describes the version")
    for key, value in table.items():
        if key not in KEYS:
            raise InputError(f"{where}: [tool.microgpt] has no key {key!r}{hint(key, KEYS)}")
        if not KEYS[key].fits(value):
            raise InputError(f"{where}: {key} is {value!r}: it must be {KEYS[key].meaning}")
    for key, rule in KEYS.items():
        if rule.needed and key not in table:
            raise InputError(f"{where}: [tool.microgpt] needs the key {key}: {rule.meaning}")
    return {key: tuple(x) if isinstance(x, list) else x for key, x in table.items()}


def read_toml(path: Path, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent.name} has no {path.name}") from None
    except OSError as e:
        raise InputError(f"{where} cannot be read: {e.strerror or e}") from None
    except ValueError as e:  # not TOML, or not UTF-8
        raise InputError(f"{where} is not valid TOML: {e}") from None


# ---------------------------------------------------------------- The program


def check_program(path: Path, variants: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises InputError unless the program has every function of the interface, and its create()
    has the options that the variants give it. The program is parsed, but not run."""
    where = f"{path.parent.name}/{path.name}"
    tree = parse_program(path, where)
    defined = {name: node for node in tree.body for name in names_bound_by(node)}
    for name in FUNCTIONS:
        if name not in defined:
            has = ", ".join(FUNCTIONS)
            raise InputError(f"{where} has no function {name}(): a version has {has} (S14.1)")
    create = defined["create"]
    if not isinstance(create, ast.FunctionDef):
        return
    known = options_of(create, where)
    for variant, options in variants.items():
        for name in options:
            if name not in known:
                raise InputError(
                    f"{path.parent.name}/pyproject.toml: variants.{variant}: create() has no "
                    f"parameter {name!r}{hint(name, known)}"
                )


def parse_program(path: Path, where: str) -> ast.Module:
    try:
        return ast.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{where} is missing: it is the version's program") from None
    except OSError as e:
        raise InputError(f"{where} cannot be read: {e.strerror or e}") from None
    except SyntaxError as e:
        raise InputError(f"{where}, line {e.lineno}: {e.msg}") from None
    except ValueError as e:  # not UTF-8, or a null character
        raise InputError(f"{where} is not Python: {e}") from None


def names_bound_by(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module binds."""
    match node:
        case ast.FunctionDef(name=name):
            return [name]
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [(alias.asname or alias.name).split(".")[0] for alias in names]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def options_of(create: ast.FunctionDef, where: str) -> list[str]:
    """The parameters of create() after config and snapshot, which become options of the command
    line. Raises InputError for one without annotation or default (S14.4)."""
    given = create.args
    positional = [*given.posonlyargs, *given.args]
    without = len(positional) - len(given.defaults)  # so many have no default
    options = [(arg, i >= without) for i, arg in enumerate(positional)][2:]
    options += [(arg, value is not None) for arg, value in zip(given.kwonlyargs, given.kw_defaults)]
    for arg, has_default in options:
        if not has_default or arg.annotation is None:
            raise InputError(
                f"{where}: the parameter {arg.arg} of create() needs an annotation and a default, "
                "as in compile: bool = False (S14.4)"
            )
    return [arg.arg for arg, _ in options]
