"""Cores and bytes as manifests write them: "500m", "1", "512Mi", "1Gi", or plain numbers."""

from __future__ import annotations

import re

from gateway_server.prefabs.problems import Report, show

DEFAULT_CPU = 1.0
DEFAULT_MEMORY = 512 * 1024**2
MAX_CPU = 1024.0
MIN_MEMORY = 16 * 1024**2
MAX_MEMORY = 16 * 1024**4

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}
_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,9})?"


def read_cpu(raw: object, pointer: str, report: Report) -> float:
    """Cores; what cannot be understood is the default, with a warning."""
    if raw is None:
        return DEFAULT_CPU
    match = re.fullmatch(rf"({_NUMBER})(m?)", str(raw).strip()) if _is_quantity(raw) else None
    cores = float(match[1]) / (1000 if match[2] else 1) if match else 0.0
    if 0 < cores <= MAX_CPU:
        return cores
    report.warn(pointer, f'{show(raw)} is not an amount of processor such as "500m" or "1"; {DEFAULT_CPU:g} is used')
    return DEFAULT_CPU


def read_memory(raw: object, pointer: str, report: Report) -> int:
    """Bytes; what cannot be understood, or cannot be meant, is the default, with a warning."""
    if raw is None:
        return DEFAULT_MEMORY
    match = re.fullmatch(rf"({_NUMBER})\s*([A-Za-z]{{0,2}})", str(raw).strip()) if _is_quantity(raw) else None
    unit = _UNITS.get(match[2].lower().removesuffix("b")) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if MIN_MEMORY <= size <= MAX_MEMORY:
        return size
    report.warn(pointer, f'{show(raw)} is not an amount of memory such as "512Mi" or "1Gi"; 512Mi is used')
    return DEFAULT_MEMORY


def _is_quantity(raw: object) -> bool:
    return isinstance(raw, str | int | float) and not isinstance(raw, bool)
