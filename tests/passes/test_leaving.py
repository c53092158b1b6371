"""Which results leave the program: those no other kernel of it reads."""

from kcompile import ops
from kcompile.forms.records import OUT
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, f32
from kcompile.ops.contract import matmul
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import lower
from kcompile.passes.place import place
from kcompile.passes.results import own_results

BATCH = dim.symbol("batch")
WIDTH = 8192  # of 64 rows: large enough to matter


def leaving(g: Graph) -> dict[str, bool]:
    """By name of the operation: whether what a kernel writes leaves the program."""
    graph = own_results(g)
    steps = place(graph, lower(fuse(graph))).steps
    return {s.call.writes[b.name].node.op.name: b.leaves for s in steps for b in s.call.form.buffers if b.role == OUT}


def test_a_result_leaves_unless_another_kernel_reads_it():
    g = Graph("g")
    x = g.input("x", Type(f32, (BATCH, WIDTH)))
    y = ops.exp(x)
    g.output("y", y)
    g.output("z", ops.reshape(ops.cos(x), shape=(BATCH * WIDTH,)))
    g.output("h", matmul(ops.reshape(y, shape=(2 * BATCH, WIDTH // 2)), g.input("w", Type(f32, (WIDTH // 2, 3)))))
    found = leaving(g)
    assert found["cos"] and not found["exp"]


def test_small_results_are_not_marked():
    g = Graph("g")
    g.output("y", ops.exp(g.input("x", Type(f32, (BATCH, 10)))))
    assert leaving(g) == {"exp": False}
