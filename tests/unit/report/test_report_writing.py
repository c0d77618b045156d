"""Files: kinds, whole or not at all, equal for equal runs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reluscope.errors import ExportError
from reluscope.report import write_report, writing

BEGINNINGS = {".html": b"<!doctype html>", ".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.mark.parametrize("suffix", list(BEGINNINGS))
def test_every_kind_is_written_and_repeated_byte_for_byte(make_view, tmp_path: Path, suffix: str) -> None:
    first = write_report(make_view(), tmp_path / f"a{suffix}")
    second = write_report([make_view()], str(tmp_path / "new" / "folder" / f"b{suffix}"))
    assert first == tmp_path / f"a{suffix}"
    assert first.read_bytes().startswith(BEGINNINGS[suffix])
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [first.name]


def test_the_page_embeds_plotly_once(make_view, tmp_path: Path) -> None:
    source = write_report([make_view("a"), make_view("b")], tmp_path / "report.html").read_text()
    assert source.count("plotly.js v") == 1
    assert len(source) < 5_500_000


def test_a_report_can_be_read_by_others(make_view, tmp_path: Path) -> None:
    path = write_report(make_view(), tmp_path / "report.html")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_an_old_report_survives_a_failure(make_view, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writing.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(make_view(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["report", "report.htm", "report.jpg", "report.tar.gz"])
def test_other_suffixes_are_refused_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=r"known are \.html \(a page\) and \.png, \.pdf, \.svg"):
        write_report(tmp_path / "not looked at", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(make_view, tmp_path: Path) -> None:
    (tmp_path / "x.html").mkdir()
    with pytest.raises(ExportError, match="which is a folder"):
        write_report(make_view(), tmp_path / "x.html")
    with pytest.raises(ExportError, match="report of no runs"):
        write_report([], tmp_path / "y.html")
