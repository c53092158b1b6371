"""Which axis plays which part, and what merges."""

from dataclasses import replace

from kcompile.codegen.contract.affine import affine, linear_address
from kcompile.codegen.contract.classify import classify
from kcompile.forms.scalar import call, load
from kcompile.ir import dim
from kcompile.ir.dim import Axis, symbol
from kcompile.ir.types import Type, f32
from tests.codegen.contract.forms import contract_form

BATCH = symbol("batch")


def sizes_of(axes):
    return [a.extent for a in axes]


def test_parts():
    problem = classify(contract_form("b,i,k;b,k,j->b,i,j", {"b": 2, "i": 3, "j": 4, "k": 5}))
    assert (sizes_of(problem.batch), sizes_of(problem.m), sizes_of(problem.n), sizes_of(problem.k)) == (
        [2],
        [3],
        [4],
        [5],
    )
    swapped = problem.swapped()
    assert (sizes_of(swapped.m), sizes_of(swapped.n)) == ([4], [3])


def test_axes_of_size_one_vanish():
    problem = classify(contract_form("b,i,k;b,k,j->b,i,j", {"b": 1, "i": 1, "j": 4, "k": 5}))
    assert problem.batch == problem.m == ()


def test_batches_of_one_matrix_are_more_rows():
    problem = classify(contract_form("b,i,k;k,j->b,i,j", {"b": BATCH, "i": 3, "j": 4, "k": 5}))
    assert sizes_of(problem.m) == [3 * BATCH]


def test_an_epilogue_can_forbid_a_merge():
    """A scale per column of an image: rows and columns stay apart."""

    def epilogue(acc, at):
        return call("mul", acc, load("scale", (at[1],), f32))

    sizes = {"b": BATCH, "i": 3, "j": 4, "k": 5}
    free = contract_form("b,i,k;k,j->b,i,j", sizes)
    bound = contract_form("b,i,k;k,j->b,i,j", sizes, epilogue=epilogue, extra=[("scale", Type(f32, (3,)))])
    assert len(classify(free).m) == 1
    assert len(classify(bound).m) == 2


def test_merged_epilogue_addresses_cancel():
    form = contract_form("b,i,j,c;c,n->b,i,j,n", {"b": BATCH, "i": 3, "j": 4, "c": 5, "n": 6})
    (store,) = classify(form).stores
    at = affine(linear_address(store.index, form.buffers[-1].type.shape))
    assert at is not None and sorted(map(str, at.strides.values())) == ["1", "6"]


def test_window_overlap_keeps_rows_apart():
    problem = classify(contract_form("b,i+r,c;r,c,n->b,i,n", {"b": BATCH, "i": 7, "r": 3, "c": 8, "n": 4}))
    assert sizes_of(problem.m) == [BATCH, 7]
    assert sizes_of(problem.k) == [24]


def test_address_that_is_not_affine():
    i, j = Axis("i", 6), Axis("j", 4)
    assert affine(dim.of(i) * dim.of(j)) is None
    assert affine(dim.floordiv(dim.of(i), 4)) is None
    assert affine(7 + 3 * BATCH * dim.of(i)).strides == {i: 3 * BATCH}


def test_operand_behind_a_reshape_is_read_in_place():
    form = contract_form("i,k;k,j->i,j", {"i": 6, "j": 4, "k": 10})
    i, k = dim.of(form.out_axes[0]), dim.of(form.over[0])
    flat = i * 10 + k
    index = (dim.floordiv(flat, 30), flat - 30 * dim.floordiv(flat, 30))
    buffers = (replace(form.buffers[0], type=Type(f32, (2, 30))), *form.buffers[1:])
    problem = classify(replace(form, buffers=buffers, lhs=load("x0", index, f32)))
    assert problem.lhs.memory is not None and problem.lhs.memory.stride(form.out_axes[0]) == 10
