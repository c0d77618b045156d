"""A specification as text: YAML in and out, `key=value` overrides, and errors in words.

>>> spec = read_specification("mlp-mnist", overrides=["optimizer.lr=0.01"])
>>> spec.optimizer.lr
0.01
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from reluscope.errors import SpecificationError, closest
from reluscope.lab.presets import preset
from reluscope.lab.specification import (
    ModelSpecification,
    OptimizerSpecification,
    ScheduleSpecification,
    Specification,
)

__all__ = ["parse_specification", "read_specification", "specification_differences", "specification_to_yaml"]

_KINDS_BY_SECTION = {
    "model": ModelSpecification,
    "optimizer": OptimizerSpecification,
    "schedule": ScheduleSpecification,
}
# A training is as long as one of the two says: setting one by override takes the other away.
_EITHER_OR = {"training.steps": "epochs", "training.epochs": "steps"}


def read_specification(source: str | Path, *, overrides: Sequence[str] = ()) -> Specification:
    """The specification of a preset's name or of a YAML file, with overrides applied.

    Args:
        source: a preset's name ("resnet20-mnist-sample"), or the path of a file that ends in .yaml or .yml.
        overrides: texts like "optimizer.lr=0.05", read as YAML values and applied in order. Changing the
            `name` of `model`, `optimizer` or `schedule` keeps the fields that the new kind knows too and
            drops the others; setting `training.steps` takes `training.epochs` away, and the reverse.

    Raises:
        SpecificationError: no such file or preset, not YAML, an unknown field, or a value that does not fit.
    """
    path = Path(source)
    if path.suffix.lower() in (".yaml", ".yml"):
        content = _load_yaml(path)
        origin = str(source)
    else:
        content = preset(str(source)).model_dump(mode="json")
        origin = f'preset "{source}"'
    for override in overrides:
        _apply_override(content, override)
    if overrides:
        origin += " with overrides"
    return parse_specification(content, origin=origin)


def parse_specification(content: Mapping[str, Any], *, origin: str = "the specification") -> Specification:
    """The specification that a mapping (a parsed YAML file, a dumped specification) describes.

    Args:
        content: sections by name.
        origin: what to call the mapping in error texts.

    Raises:
        SpecificationError: everything that is wrong with it, in one text.
    """
    try:
        return Specification.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(_in_words(detail) for detail in error.errors())
        raise SpecificationError(f"{origin} is not a training: {wrong}.") from None


def specification_to_yaml(specification: Specification) -> str:
    """The specification as YAML text with every field; reading it gives an equal specification."""
    return yaml.safe_dump(specification.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def specification_differences(before: Specification, now: Specification) -> str:
    """Every field in which two specifications differ: "optimizer.lr was 0.1, is 0.05"."""
    old, new = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return "; ".join(f"{name} was {old.get(name)}, is {new.get(name)}" for name in names)


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All fields by their dotted names."""
    found = {}
    for name, value in content.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecificationError(
            f"no specification at {path}. Give a YAML file, or a preset (`reluscope train --list`)."
        ) from None
    except OSError as error:
        raise SpecificationError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise SpecificationError(f"{path} is not a text file in UTF-8.") from None
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise SpecificationError(f"{path} is not YAML: {what}.") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise SpecificationError(f"{path} holds {found} where sections (model, data, ...) are expected.")
    return content


def _apply_override(content: dict[str, Any], override: str) -> None:
    """Set one dotted field in `content`, in place."""
    key, equals, text = override.partition("=")
    key = key.strip()
    names = key.split(".")
    if not equals or not all(names):
        raise SpecificationError(
            f'"{override}" is not an override. Write section.field=value: optimizer.lr=0.05.'
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise SpecificationError(f'the value of "{override}" is not YAML. Quote it: {key}="..."') from None
    section = content
    for name in names[:-1]:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise SpecificationError(f'"{key}" cannot be set: {name} is a value, not a section.')
    if key in _EITHER_OR:
        section.pop(_EITHER_OR[key], None)
    if names[-1] == "name" and len(names) == 2:
        _drop_foreign_fields(names[0], section, value)
    section[names[-1]] = value


def _drop_foreign_fields(section_name: str, section: dict[str, Any], kind_name: Any) -> None:
    """Before a section becomes another kind: drop what that kind has no field for."""
    kind = _kinds(section_name).get(kind_name) if isinstance(kind_name, str) else None
    if kind is not None and section.get("name") != kind_name:
        for field in [field for field in section if field not in kind.model_fields]:
            del section[field]


def _kinds(section_name: str) -> dict[str, type[BaseModel]]:
    """The classes that a section may be, by the `name` that chooses them; none where there is one only."""
    if section_name not in _KINDS_BY_SECTION:
        return {}
    union = get_args(_KINDS_BY_SECTION[section_name])[0]
    classes: tuple[type[BaseModel], ...] = get_args(union)
    return {name: one for one in classes for name in get_args(one.model_fields["name"].annotation)}


def _in_words(detail: Mapping[str, Any]) -> str:
    """One of pydantic's errors as half a sentence: where, what was found, what is allowed."""
    location, section = _place(detail["loc"])
    where = ".".join(location)
    kind = detail["type"]
    if kind == "extra_forbidden":
        fields = list(section.model_fields)
        return f'"{where}" is no field (closest: {closest(location[-1], fields)}; all: {", ".join(fields)})'
    if kind == "missing":
        return f'"{where}" is missing'
    if kind == "union_tag_not_found":
        return f'"{where}.name" is missing (allowed: {", ".join(_kinds(location[0]))})'
    if kind == "union_tag_invalid":
        allowed = _kinds(location[0])
        found = detail["input"].get("name") if isinstance(detail["input"], Mapping) else detail["input"]
        near = closest(str(found), allowed)
        return f'"{where}.name" is {found!r} (closest: {near}; all: {", ".join(allowed)})'
    if kind == "value_error":
        return f'"{where}": {detail["ctx"]["error"]}'
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f'"{where}" is {detail["input"]!r}, but {message.replace("input should be", "it must be")}'


def _place(location: Sequence[str | int]) -> tuple[list[str], type[BaseModel]]:
    """pydantic's location as the path that a user would write, and the section that its last name is in."""
    path: list[str] = []
    section: type[BaseModel] = Specification
    for index, part in enumerate(location):
        kinds = _kinds(str(location[index - 1])) if index == 1 else {}
        if part in kinds:  # the tag of a union, which is no part of the path
            section = kinds[str(part)]
            continue
        path.append(str(part))
        inner = section.model_fields.get(str(part)) if index < len(location) - 1 else None
        if (
            inner is not None
            and isinstance(inner.annotation, type)
            and issubclass(inner.annotation, BaseModel)
        ):
            section = inner.annotation
    return path, section
