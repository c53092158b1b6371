"""The order of vectors that go side by side: operands first, memory in its order, chunks a little apart."""

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import FLOAT
from kcompile.codegen.loops.skewed import SUMS, Skew, side_by_side
from kcompile.codegen.module import Param, new_module, pointer
from kcompile.target import X86_64_V4

CHAIN = 6


def written(with_branch: bool = False):
    """Two chains of multiplications on vectors, each behind a load and before a store; the block that holds them."""
    module = new_module("skew", X86_64_V4)
    b = KernelBuilder(module, X86_64_V4, "skew", [pointer("p"), Param("on", "i64")])
    with Skew(b) as skew:
        for n in range(2):
            with skew.chunk(n):
                value = b.load_vector(b["p"], "f32", 64 * n, 16)
                for _ in range(CHAIN):
                    value = b.fmul(value, value)
                if with_branch:
                    with b.if_(b.condition(b.compare("<", b["on"], 3))):
                        b.store_vector(value, b["p"], "f32", 64 * n)
                else:
                    b.store_vector(value, b["p"], "f32", 64 * n)
    return b.fn.blocks[0].instructions


def test_chains_run_beside_each_other_in_order():
    instructions = written()
    for n, instruction in enumerate(instructions):
        assert all(o in instructions[:n] for o in instruction.operands if isinstance(o, ir.Instruction))
    kinds = [i.opname for i in instructions]
    assert kinds.count("fmul") == 2 * CHAIN and kinds.count("store") == 2
    first = next(i for i in instructions if i.opname == "store").operands[0]
    before = instructions[: instructions.index(first)]
    assert sum(i.opname == "fmul" for i in before) > CHAIN  # the second chain has begun before the first ends


def test_branches_keep_their_order():
    assert [i.opname for i in written(with_branch=True)].count("fmul") == CHAIN


def test_long_functions_go_with_fewer_vectors():
    assert side_by_side(10) == 8 and side_by_side(90) == 4
    assert side_by_side(10_000) == SUMS


def test_functions_are_written_in_place_only_where_asked_for():
    b = KernelBuilder(new_module("place", X86_64_V4), X86_64_V4, "place", [Param("x", FLOAT)])

    def double(inner, x):
        return inner.fadd(x, x)

    with b.functions_in_place():
        b.helper("double", FLOAT, [b["x"]], double)
    assert "double" not in b.module.globals
    b.helper("double", FLOAT, [b["x"]], double)
    assert "double" in b.module.globals
