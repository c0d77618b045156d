"""A run in other people's formats: .zarr and .nc (the dataset), .csv (the layers table)."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from reluscope.errors import ExportError, MissingExtraError
from reluscope.runs.durable import TEMPORARY_SUFFIX

if TYPE_CHECKING:
    from reluscope.runs.reader import Run

__all__ = ["FORMATS", "export_run"]

# Suffix: what it needs beside the core dependencies.
FORMATS: dict[str, tuple[str, ...]] = {".zarr": ("zarr",), ".nc": ("h5netcdf", "h5py"), ".csv": ()}


def export_run(run: Run, target: Path, *, overwrite: bool = False) -> Path:
    """Write a run to `target` in the format of its suffix; the file appears whole or not at all.

    Raises:
        ExportError: another suffix, or something is there and `overwrite` is False.
        MissingExtraError: the format needs a package that is not installed.
    """
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise ExportError(
            f'cannot export to "{target}": the suffix "{target.suffix}" names no format; '
            f"there are {', '.join(FORMATS)}."
        )
    if target.exists() and not overwrite:
        raise ExportError(f'"{target}" is there already; choose another name or say overwrite=True.')
    for package in FORMATS[suffix]:
        _need(package, suffix)
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    _remove(temporary)
    try:
        if suffix == ".csv":
            run.layers.to_csv(temporary, index=False)
        elif suffix == ".nc":
            run.dataset.to_netcdf(temporary, engine="h5netcdf")
        else:
            # Format 2, since the third one has no stable way to store text yet.
            run.dataset.to_zarr(temporary, mode="w", zarr_format=2)
        _remove(target)
        temporary.replace(target)
    except BaseException:
        _remove(temporary)
        raise
    return target


def _need(package: str, suffix: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f'exporting to {suffix} needs the package "{package}", which is not installed: pip install '
            '"reluscope[export]".'
        ) from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
