"""Rows of benchmarks: medians and ratios by hand, files that come back as they were, files that cannot be read."""

from __future__ import annotations

import math
from dataclasses import asdict, fields

import numpy as np
import pytest

from reluscope.bench.rows import Row, missing_row, num_cores, read_rows, rows_of, versions_of, write_rows
from reluscope.errors import BenchmarkError


def rows() -> list[Row]:
    seconds = {
        "ours": np.array([1.0, 2.0, 4.0]),
        "theirs": np.array([3.0, 4.0, np.nan]),  # slow: two rounds were enough
    }
    return rows_of(
        "keys", "zipf/64", seconds, baseline="ours", work=10, unit="evaluations", packages=["pandas"]
    )


def test_medians_and_ratios_are_those_within_a_round():
    ours, theirs = rows()
    assert (ours.median_s, ours.p20_s, ours.p80_s) == pytest.approx((2.0, 1.4, 3.2))
    assert (ours.rounds, theirs.rounds) == (3, 2)
    assert theirs.median_s == pytest.approx(3.5)
    assert theirs.ratio_median == pytest.approx((3.0 / 1.0 + 4.0 / 2.0) / 2)  # not 3.5 / 2.0
    assert (ours.ratio_p20, ours.ratio_median, ours.ratio_p80) == (1.0, 1.0, 1.0)


def test_a_row_says_where_it_ran():
    row = rows()[0]
    assert row.device
    assert row.threads == num_cores() >= 1
    assert "torch=" in row.versions
    assert "pandas=" in row.versions
    assert "no-such-package" not in versions_of(["no-such-package"])


def test_what_is_missing_is_named_with_the_reason():
    row = missing_row(rows()[0], "cudf groupby", "not installed")
    assert (row.alternative, row.rounds, row.note) == ("cudf groupby", 0, "not installed")
    assert math.isnan(row.median_s)
    assert math.isnan(row.ratio_median)
    assert row.case == "zipf/64"


def test_a_file_comes_back_as_it_was(tmp_path):
    written = [*rows(), missing_row(rows()[0], "cudf groupby", "not installed, says pip")]
    write_rows(tmp_path / "new" / "rows.csv", written)
    read = read_rows(tmp_path / "new" / "rows.csv")
    for before, after in zip(written, read, strict=True):
        for name, value in asdict(before).items():
            if isinstance(value, float):
                assert getattr(after, name) == pytest.approx(value, rel=1e-5, nan_ok=True)
            else:
                assert getattr(after, name) == value


def test_files_from_before_there_were_notes_are_read(tmp_path):
    write_rows(tmp_path / "rows.csv", rows())
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    (tmp_path / "old.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert [row.note for row in read_rows(tmp_path / "old.csv")] == ["", ""]
    assert [field.name for field in fields(Row)][-1] == "note"


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n1,2\n", "KeyError"), (None, "there is no"), ("HEAD\nkeys,zipf,ours,many,x\n", "ValueError")],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, text, words):
    path = tmp_path / "rows.csv"
    if text is not None:
        path.write_text(text.replace("HEAD", ",".join(field.name for field in fields(Row))))
    with pytest.raises(BenchmarkError, match=words):
        read_rows(path)
