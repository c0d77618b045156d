"""Compiles every Triton kernel to machine code of a GPU, which needs no GPU. Run by test_parity_gpu_compiled.py.

The interpreter forgives what the compiler does not (a type that changes in a loop, a mask an atomic has not), so a suite
that only interprets could be green with kernels that never run. Prints the name and size of each.
"""

from __future__ import annotations

import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from reluscope.kernels import gpu_hash, gpu_join, gpu_pack

GEOMETRY = dict.fromkeys(["size1", "size2", "stride0", "stride1", "stride2", "unit_stride"], "i32")
READ = {"bits": "*i32", "thresholds": "*i32", "nan_counter": "*i64", "num_evaluations": "i32", "width": "i32"}
LOOK = {
    "NUM_AXES": 1, "NARROW": tl.uint32, "WORD": tl.uint32, "KINKS": 1, "LANES": 32, "PLANES": False,
    "TWO_RANGES": False, "WIDE": False, "BLOCK": 64,
}  # fmt: skip
HALF_FLOATS = {"bits": "*i16"}, {"NARROW": tl.uint16}
DOUBLES = {"bits": "*i64", "thresholds": "*i64"}, {"NARROW": tl.uint64, "WORD": tl.uint64}
PLANES = {}, {"PLANES": True, "NUM_AXES": 2, "BLOCK": 256}
KINKS = {}, {"KINKS": 2, "TWO_RANGES": True, "NUM_AXES": 3}
# What is 1 at a launch is a constant of the kernel.
ONE_UNIT = {"size1": "constexpr", "unit_stride": "constexpr"}, {"size1": 1, "unit_stride": 1, "LANES": 1}
MANY = {"num_evaluations": "i64"}, {"WIDE": True}


def compile_kernel(kernel, types: dict, constants: dict, *variants: tuple[dict, dict]) -> None:
    types, constants = dict(types), dict(constants)
    for more_types, more_constants in variants:
        types.update(more_types)
        constants.update(more_constants)
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    constants = {name: constants.get(name) for name in kernel.arg_names if signature[name] == "constexpr"}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
    sys.stdout.write(f"{kernel.__name__} {len(compiled.asm['cubin'])}\n")


def compile_packing() -> None:
    words = READ | GEOMETRY | {"words": "*i64"}
    for variants in (
        (),
        (HALF_FLOATS, PLANES),
        (DOUBLES, PLANES, KINKS),
        (KINKS, MANY),
        (ONE_UNIT,),
        (ONE_UNIT, PLANES),
    ):
        compile_kernel(gpu_pack.pack_words_kernel, words, LOOK, *variants)
    narrow = READ | GEOMETRY | {"rows": "*i32", "row_stride": "i32", "positions": "i32"}
    wide, grouped = narrow | {"rows": "*i64"}, {"groups": "*i64"}
    for types, look in (
        (narrow, {"HALVES": 1, "ROW_BITS": 32, "NUM_COLUMNS": 1, "GROUPED": False, "GROUP_BITS": 0}),
        (wide | grouped, {"HALVES": 2, "ROW_BITS": 68, "NUM_COLUMNS": 2, "GROUPED": True, "GROUP_BITS": 4}),
        (wide | {"hash_keys": "*i64"}, {"HALVES": 0, "ROW_BITS": 128, "NUM_COLUMNS": 2, "GROUPED": False, "GROUP_BITS": 0}),
        (wide | grouped, {"HALVES": 4, "ROW_BITS": 192, "NUM_COLUMNS": 3, "GROUPED": True, "GROUP_BITS": 0}),
    ):  # fmt: skip
        compile_kernel(gpu_pack.pack_rows_kernel, types, LOOK | look)


def compile_counting() -> None:
    dense = READ | GEOMETRY | {"counters": "*i64", "positions": "i32", "num_groups": "i32"}
    look = LOOK | {"LANES": 16, "BLOCK": 256, "ROUNDS": 4}
    compile_kernel(gpu_pack.count_dense_kernel, dense, look | {"GROUPED": False, "BINS": 256})
    compile_kernel(
        gpu_pack.count_dense_kernel, dense | {"groups": "*i64"}, look | {"GROUPED": True, "BINS": 0}
    )
    pointers = dict.fromkeys(["keys", "counts", "spare", "occupied"], "*i64")
    table = pointers | {"num_rows": "i32", "slot_mask": "i32"}
    block = {"ROUNDS": 4, "BLOCK": 256}
    compile_kernel(gpu_hash.insert_kernel, table | {"rows": "*i32"}, block | {"HAS_WEIGHTS": False})
    wide = table | {"rows": "*i64", "weights": "*i64", "slot_mask": "i64"}
    compile_kernel(gpu_hash.insert_kernel, wide, block | {"HAS_WEIGHTS": True, "ROUNDS": 0})


def compile_joins() -> None:
    pointers = dict.fromkeys(["rows", "counts", "other_rows", "other_counts", "totals"], "*i64")
    sizes = dict.fromkeys(["num_rows", "other_num_rows", "num_steps"], "i32")
    for num_columns in (1, 2):
        compile_kernel(gpu_join.compare_kernel, pointers | sizes, {"NUM_COLUMNS": num_columns, "BLOCK": 256})


compile_packing()
compile_counting()
compile_joins()
