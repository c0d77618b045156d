"""Tables in parts: where a part ends, what a rewrite touches, and that the rows alone decide."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reluscope.errors import RunCorruptError, RunSchemaError
from reluscope.runs import parts
from reluscope.runs.parts import PartLimits, PartTable, part_paths, read_part
from reluscope.runs.schema import arrow_schema

SCHEMA = arrow_schema({"step": "int64", "value": "float64", "indices": "list<int64>"})


def table(*steps: int, length: int = 0) -> pa.Table:
    columns = [list(steps), [float(step) for step in steps], [[0] * length for _ in steps]]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def layout(folder) -> list[list[int]]:
    return [read_part(path).column("step").to_pylist() for path in part_paths(folder)]


def test_a_part_ends_after_so_many_steps(tmp_path):
    found = PartTable(tmp_path, SCHEMA, PartLimits(max_steps=3))
    found.append(table(0, 0, 1))
    found.append(table(2, 2))
    found.append(table(3))
    assert layout(tmp_path) == [[0, 0, 1, 2, 2], [3]]
    assert [path.name for path in part_paths(tmp_path)] == ["part-000000.parquet", "part-000001.parquet"]


def test_the_default_is_256_steps_or_16_mb():
    assert PartLimits() == PartLimits(max_steps=256, max_bytes=16 * 2**20)


def test_a_part_ends_after_so_many_bytes(tmp_path):
    found = PartTable(tmp_path, SCHEMA, PartLimits(max_bytes=1000))  # a row: 24 bytes and 8 for each index
    found.append(table(0, 1, 2, 3, length=50))
    assert layout(tmp_path) == [[0, 1, 2], [3]]


def test_many_rows_fill_many_parts(tmp_path):
    PartTable(tmp_path, SCHEMA, PartLimits(max_steps=2)).append(table(*range(5)))
    assert layout(tmp_path) == [[0, 1], [2, 3], [4]]


def test_earlier_parts_are_never_written_again(tmp_path, monkeypatch):
    found = PartTable(tmp_path, SCHEMA, PartLimits(max_steps=2))
    found.append(table(*range(4)))
    written = []
    monkeypatch.setattr(parts, "replace_file", lambda path, write: written.append(path.name))
    found.append(table(4))
    found.append(table(5))
    assert written == ["part-000002.parquet", "part-000002.parquet"]


def test_replacing_from_a_step_drops_parts_and_rewrites_one(tmp_path):
    found = PartTable(tmp_path, SCHEMA, PartLimits(max_steps=3))
    found.append(table(*range(9)))
    found.replace_from(4, table(4, 7))
    assert layout(tmp_path) == [[0, 1, 2], [3, 4, 7]]
    assert found.steps() == [0, 1, 2, 3, 4, 7]


def test_merging_replaces_rows_where_they_stand_and_appends_the_rest(tmp_path):
    found = PartTable(tmp_path, SCHEMA, PartLimits(max_steps=3))
    found.append(table(2, 4, 6, 8, 10))
    found.merge(table(0, 5, 6, 9, 10, 12, 14, length=1))
    assert layout(tmp_path) == [[0, 2, 4, 5, 6], [8, 9, 10], [12, 14]]
    again = PartTable(tmp_path, SCHEMA, PartLimits(max_steps=3))
    for one in (found, again):
        rows = pa.concat_tables([one.rows_at(step) for step in one.steps()])
        lengths = [len(indices) for indices in rows.column("indices").to_pylist()]
        assert dict(zip(one.steps(), lengths, strict=True)) == {
            2: 0,
            4: 0,
            8: 0,
            **dict.fromkeys((0, 5, 6, 9, 10, 12, 14), 1),
        }
        assert one.rows_at(0).num_rows == 1


def test_merging_writes_only_the_parts_that_hold_the_steps(tmp_path, monkeypatch):
    found = PartTable(tmp_path, SCHEMA, PartLimits(max_steps=2))
    found.append(table(*range(7)))
    written = []
    monkeypatch.setattr(parts, "replace_file", lambda path, write: written.append(path.name))
    found.merge(table(2, 3))
    found.merge(table(6))
    assert written == ["part-000001.parquet", "part-000003.parquet"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_merging_is_what_a_dictionary_does(tmp_path_factory, data):
    """At any moment of it too: each state of the folder holds every earlier step, each once and in order."""
    folder = tmp_path_factory.mktemp("merged")
    limits = PartLimits(max_steps=data.draw(st.integers(1, 4)))
    model: dict[int, int] = {}
    for length in range(data.draw(st.integers(1, 6))):
        steps = sorted(data.draw(st.sets(st.integers(0, 15), max_size=8)))
        found, states = PartTable(folder, SCHEMA, limits), []
        write = found._write

        def write_and_look(number, tail, write=write, states=states):
            write(number, tail)
            states.append([step for part in layout(folder) for step in part])

        found._write = write_and_look
        found.merge(table(*steps, length=length))
        for state in states:
            assert state == sorted(set(state))
            assert set(model) <= set(state) <= set(model) | set(steps)
        model |= dict.fromkeys(steps, length)
        whole = pa.concat_tables([read_part(path) for path in part_paths(folder)])
        lengths = [len(indices) for indices in whole.column("indices").to_pylist()]
        assert dict(zip(whole.column("step").to_pylist(), lengths, strict=True)) == model
        assert found.last_step == max(model, default=None)


def test_rows_at(tmp_path):
    found = PartTable(tmp_path, SCHEMA, PartLimits(max_steps=2))
    found.append(table(1, 1, 3, 5, 6))
    for step, num in {0: 0, 1: 2, 2: 0, 3: 1, 4: 0, 5: 1, 6: 1, 7: 0}.items():
        assert found.rows_at(step).column("step").to_pylist() == [step] * num


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.integers(0, 40), unique=True).map(sorted),
    cuts=st.lists(st.integers(0, 40)),
    back=st.integers(0, 40),
    length=st.integers(0, 20),
)
def test_the_layout_follows_from_the_rows_alone(tmp_path_factory, steps, cuts, back, length):
    """Written at once, or in pieces with reopenings between them and an end written twice: the same bytes."""
    limits = PartLimits(max_steps=4, max_bytes=500)
    once, pieces = tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("pieces")
    PartTable(once, SCHEMA, limits).append(table(*steps, length=length))
    bounds = sorted({0, 41, *cuts})
    for low, high in pairwise(bounds):
        piece = [step for step in steps if low <= step < high]
        PartTable(pieces, SCHEMA, limits).append(table(*piece, length=length))
    again = [step for step in steps if step >= back]
    PartTable(pieces, SCHEMA, limits).replace_from(back, table(*again, length=length))
    assert [path.read_bytes() for path in part_paths(once)] == [
        path.read_bytes() for path in part_paths(pieces)
    ]


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PAR1" + bytes(100)]
)
def test_a_damaged_part_names_its_file(tmp_path, damage):
    PartTable(tmp_path / "layers", SCHEMA).append(table(0))
    path = tmp_path / "layers" / "part-000000.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunCorruptError, match=r"part-000000\.parquet\" is damaged: .*skip_damaged=True"):
        read_part(path)


def test_a_flipped_bit_is_never_another_number(tmp_path):
    found = PartTable(tmp_path / "layers", SCHEMA)
    found.append(table(*range(50), length=3))
    path = tmp_path / "layers" / "part-000000.parquet"
    whole, before = path.read_bytes(), read_part(path)
    num_caught = 0
    for position in range(4, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            after = read_part(path)
            parts.check_columns(after, SCHEMA.names, path)
        except (RunCorruptError, RunSchemaError):
            num_caught += 1
        else:
            assert after.select(SCHEMA.names).equals(before), position
    assert num_caught > 100


def test_text_that_is_no_text_is_damage(tmp_path):
    import pyarrow.parquet as pq

    wrong = pa.array([b"a\xff"]).view(pa.string())
    pq.write_table(pa.table({"step": [0], "site": wrong}), tmp_path / "part-000000.parquet")
    with pytest.raises(RunCorruptError, match=r"part-000000\.parquet\" is damaged: .*UTF"):
        read_part(tmp_path / "part-000000.parquet")


def test_a_part_without_a_column_of_the_run_is_damage(tmp_path):
    PartTable(tmp_path / "layers", arrow_schema({"step": "int64", "vblue": "float64"}))
    with pytest.raises(RunCorruptError, match='it lacks the column "value"'):
        PartTable(tmp_path / "layers", SCHEMA)


def test_a_part_of_a_newer_schema_is_refused(tmp_path):
    import pyarrow.parquet as pq

    newer = table(0).replace_schema_metadata({b"reluscope_run_schema": b"7"})
    pq.write_table(newer, tmp_path / "part-000000.parquet")
    with pytest.raises(RunSchemaError, match="written with run schema 7"):
        read_part(tmp_path / "part-000000.parquet")
