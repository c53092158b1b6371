"""Work of forms, counted by hand."""

from kcompile import ops, pipeline
from kcompile.forms.work import Work, work
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, bf16, f32
from kcompile.ops.contract import matmul

BATCH = dim.symbol("batch")


def only_form(make):
    g = Graph("g")
    make(g)
    (form,) = pipeline.build(g).forms.values()
    return form


def test_a_product_with_an_epilogue():
    def make(g):
        x, w, b = (g.input(n, Type(f32, s)) for n, s in (("x", (BATCH, 6)), ("w", (6, 8)), ("b", (8,))))
        g.output("y", ops.add(matmul(x, w), b))

    form = only_form(make)
    for rows in (3, 7):
        # one addition per element of the result; every array read or written once
        expected = Work(rows * 6 * 8, rows * 8, 4 * (rows * 6 + 48 + 8 + rows * 8), written=4 * rows * 8)
        assert work(form, {"batch": rows}) == expected
        assert expected.flops == 2 * rows * 48 + rows * 8


def test_products_of_bfloat16_are_counted_apart():
    def make(g):
        g.output("y", matmul(*(g.input(n, Type(bf16, s)) for n, s in (("x", (BATCH, 6)), ("w", (6, 8))))))

    found = work(only_form(make), {"batch": 3})
    assert found.bf16_products == found.multiply_adds == 3 * 6 * 8
    assert (found + found).bf16_products == 2 * 3 * 6 * 8


def test_a_map_counts_operations_and_not_loads():
    def make(g):
        x, y = (g.input(n, Type(f32, (BATCH, 5))) for n in "xy")
        g.output("z", ops.mul(ops.add(x, y), x))

    assert work(only_form(make), {"batch": 4}) == Work(0, 2 * 20, 3 * 4 * 20, written=4 * 20)


def test_a_sum_counts_each_addition():
    def make(g):
        g.output("s", ops.reduce_sum(g.input("x", Type(f32, (BATCH, 50))), axes=(1,), keepdims=False))

    found = work(only_form(make), {"batch": 3})
    assert found.multiply_adds == 0 and found.nbytes == 4 * (150 + 3)
    assert 150 <= found.operations <= 2 * 150


def test_operations_are_weighed_and_shared_ones_count_once():
    def make(g):
        x = g.input("x", Type(f32, (BATCH, 50)))
        y = ops.exp(x)
        g.output("y", y)
        g.output("s", ops.reduce_sum(y, axes=(1,), keepdims=False))

    found = work(only_form(make), {"batch": 3}, lambda fn, dtype: (13, 9) if fn == "exp" else (1, 0))
    assert (found.multiplies, found.written, found.read) == (9 * 150, 4 * (150 + 3), 4 * 150)
    assert 14 * 150 <= found.operations < 16 * 150


def test_what_does_not_move_with_an_axis_counts_once():
    def make(g):
        x, step, row = (
            g.input(n, Type(f32, s)) for n, s in (("x", (BATCH, 50)), ("step", (1, 1)), ("row", (BATCH, 1)))
        )
        g.output("y", ops.mul(ops.mul(x, ops.add(row, step)), ops.exp(step)))

    weighed = work(only_form(make), {"batch": 3}, lambda fn, dtype: (100, 0) if fn == "exp" else (1, 0))
    assert weighed.operations == 2 * 150 + 3 + 100  # a row's sum, the correction of an optimizer's step


def test_of_a_large_array_only_what_is_read_counts():
    def make(g):
        x = g.input("x", Type(f32, (100, 50)))
        g.output(
            "s", ops.reduce_sum(ops.slice(x, starts=(0, 0), sizes=(3, 50), strides=(1, 1)), axes=(0,), keepdims=False)
        )

    assert work(only_form(make), {}).read == 4 * 150


def test_works_add_up():
    assert Work(1, 2, 3) + Work(10, 20, 30) == Work(11, 22, 33)


def test_a_division_by_a_number_of_the_row_is_a_multiplication():
    def make(g):
        x = g.input("x", Type(f32, (BATCH, 50)))
        g.output("y", ops.div(x, ops.reduce_sum(x, axes=(1,), keepdims=True)))

    found = work(only_form(make), {"batch": 3}, lambda fn, dtype: {"mul": (1, 1), "div": (5, 5)}.get(fn, (1, 0)))
    assert found.multiplies == 3 * (50 + 5)
