"""Compares the code of a package with its manifest, by reading alone."""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway_server.prefabs.functions import Function
from gateway_server.prefabs.manifest import Manifest
from gateway_server.prefabs.modules import FunctionNode, Import, Module, Modules, SourceError
from gateway_server.prefabs.problems import PackageError, Problem, step

#: Decorators that leave the parameters of a function as they are.
_TRANSPARENT = frozenset({"cache", "lru_cache", "override", "deprecated", "final", "no_type_check"})


def check_code(files: Mapping[str, Path], manifest: Manifest) -> tuple[Problem, ...]:
    """Warnings about functions that differ from what the manifest says; PackageError if one cannot exist."""
    if manifest.entry_point not in files:
        raise PackageError.of(f"there is no {manifest.entry_point} in the package", "/entry_point")
    try:
        return _check_functions(Modules(files), manifest)
    except RecursionError as error:
        raise PackageError.of("the code is nested too deeply to be read", "/entry_point") from error


def _check_functions(modules: Modules, manifest: Manifest) -> tuple[Problem, ...]:
    entry = manifest.entry_point.removesuffix(".py").replace("/", ".")
    try:
        module = modules.read(entry)
    except SourceError as error:
        raise PackageError.of(str(error), "/entry_point") from error
    missing: list[Problem] = []
    warnings = list(_misplaced_imports(modules, module))
    for function in manifest.functions:
        if function.disabled:
            continue
        found = modules.find(entry, function.name)
        if found is None:
            missing.append(_missing(function, manifest.entry_point, module.bindings))
        elif found.function is not None and _keeps_its_parameters(found.function):
            warnings += _compare(function, Signature.of(found.function))
    if missing:
        raise PackageError(missing)
    return tuple(warnings)


def _misplaced_imports(modules: Modules, module: Module) -> Iterator[Problem]:
    """Modules of the package that are imported as if `src/` were on the path: it is not."""
    misplaced = set()
    for bindings in module.bindings.values():
        tops = {binding.module.partition(".")[0] for binding in bindings if isinstance(binding, Import)}
        if len(bindings) == len(tops) == 1:  # else there is another attempt beside it
            misplaced |= tops
    for name in sorted(misplaced - sys.stdlib_module_names):
        if name != "src" and modules.exists(f"src.{name}"):
            message = f"{name!r} is imported, which is src/{name} here; write `from .{name} import …`"
            yield Problem("/entry_point", message)


def _missing(function: Function, entry_point: str, names: Iterable[str]) -> Problem:
    message = f"{entry_point} defines no {function.name!r}"
    return Problem(step(function.pointer, "name"), message + _did_you_mean(function.name, names))


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names)[:2000], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _keeps_its_parameters(node: FunctionNode) -> bool:
    return all(_last_name(decorator) in _TRANSPARENT for decorator in node.decorator_list)


def _last_name(decorator: ast.expr) -> str:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Which keyword arguments a function takes."""

    name: str
    #: Parameter -> whether a call must give it.
    accepted: Mapping[str, bool]
    positional_only: frozenset[str]
    takes_any: bool

    @classmethod
    def of(cls, node: FunctionNode) -> Signature:
        """Of a function as it is written."""
        arguments = node.args
        plain = [*arguments.posonlyargs, *arguments.args]
        optional = {argument.arg for argument in plain[len(plain) - len(arguments.defaults) :]}
        required = {argument.arg: argument.arg not in optional for argument in plain}
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            required[argument.arg] = default is None
        positional_only = frozenset(argument.arg for argument in arguments.posonlyargs)
        takes_any = arguments.kwarg is not None
        return cls(name=node.name, accepted=required, positional_only=positional_only, takes_any=takes_any)


def _compare(function: Function, signature: Signature) -> Iterator[Problem]:
    code = f"{signature.name}() in the code"
    declared = {parameter.name for parameter in function.parameters}
    for index, parameter in enumerate(function.parameters):
        name = parameter.name
        pointer = f"{function.pointer}/parameters/{index}"
        if name in signature.positional_only:
            yield Problem(pointer, f"the parameter {name!r} is passed by name, {code} takes {name!r} by position only")
        elif name not in signature.accepted:
            if not signature.takes_any:
                guess = _did_you_mean(name, set(signature.accepted) - declared)
                yield Problem(pointer, f"the manifest's parameter {name!r} is not accepted by {code}{guess}")
        elif signature.accepted[name] and not parameter.required:
            message = f"the manifest's parameter {name!r} may be left out, the parameter {name!r} of {code} may not"
            yield Problem(f"{pointer}/required", message)
        elif parameter.required and not signature.accepted[name]:
            message = f"the manifest requires the parameter {name!r}, the parameter {name!r} of {code} has a default"
            yield Problem(f"{pointer}/required", message)
    for name, required in signature.accepted.items():
        if required and name not in declared:
            guess = _did_you_mean(name, declared - set(signature.accepted))
            message = f"{code} requires the parameter {name!r}, which the manifest does not declare{guess}"
            yield Problem(f"{function.pointer}/parameters", message)
