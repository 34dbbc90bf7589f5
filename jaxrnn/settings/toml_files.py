"""Configuration files: read with the line of every mistake, written with a comment a section; and the recipes."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.settings.checking import check_value
from jaxrnn.settings.config import FIELD_TYPES, Config, suggest_key

PACKAGE_DIR = Path(__file__).resolve().parent.parent


def read_toml(path: str | Path) -> dict[str, Any]:
    """Reads the keys and values of a configuration file and checks each of them.

    Raises:
      UserError: ``FILE:LINE: key: got ..; expected ..``.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; expected a TOML file or one of the recipes: {', '.join(recipe_names())}"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not a TOML file: got bytes that are not UTF-8; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)", str(error))
        where = f"{place[1]}:{place[2]}" if place else f"{text.count(chr(10)) + 1}"
        reason = str(error)[: place.start()] if place else str(error)
        raise UserError(f"{path}:{where}: not a TOML file: {reason}; expected lines such as epochs = 10") from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, 5000 brackets
        raise UserError(f"{path}: not a TOML file: {error}") from error
    for key, value in values.items():
        try:
            if key in FIELD_TYPES:
                check_value(key, value, FIELD_TYPES[key][1])
            elif isinstance(value[0] if isinstance(value, list) and value else value, dict):
                raise UserError(f"{escape(key[:80])}: got a table; expected keys outside tables, such as epochs = 10")
            else:
                raise UserError(f"{escape(key[:80])}: unknown key{suggest_key(key)}")
        except UserError as error:
            raise UserError(f"{path}:{line_of(key, text)}: {error}") from error
    return values


def line_of(key: str, text: str) -> int:
    """Returns the line of a TOML text on which a key stands, counted from 1."""
    found = re.search(rf"^\s*(?:\[+\s*)?[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.end()) + 1 if found else 1


def to_toml(config: Config) -> str:
    """Writes a configuration as TOML, with a comment a section; None is left out."""
    lines = []
    for section in dataclasses.fields(config):
        part = getattr(config, section.name)
        lines.append(f"# {part.__doc__}")
        for key, value in dataclasses.asdict(part).items():
            if value is not None:
                plain = list(value) if isinstance(value, tuple) else value
                written = json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON leaves DEL bare
                lines.append(f"{key} = {written}")
        lines.append("")
    return "\n".join(lines)


def recipe_directory() -> Path:
    """Returns where the recipes are: in the installed package, or beside it in a checkout."""
    installed = PACKAGE_DIR / "configs"
    return installed if installed.is_dir() else PACKAGE_DIR.parent / "configs"


def recipe_names() -> list[str]:
    """Returns the recipes' names, which --config takes too."""
    return sorted(path.stem for path in recipe_directory().glob("*.toml"))
