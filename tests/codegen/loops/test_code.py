"""The code of loops: whole registers, the same text every time."""

import pytest

from kcompile import ops
from kcompile.codegen import llvm, loops
from kcompile.ir.types import Type, f32
from kcompile.target import X86_64_V2, X86_64_V3, X86_64_V4
from tests.codegen.loops.kernels import (
    B,
    T,
    adam,
    batch_statistics,
    bias_relu,
    check,
    forms,
    layer_norm,
    max_pool,
    only,
    row_softmax,
    scatter,
    tiles,
)

# widths that are whole registers: for others LLVM may take shorter ones that leave no remainder
KERNELS = {
    "bias_relu": lambda g: bias_relu(g, 256),
    "softmax": lambda g: row_softmax(g, T),
    "layer_norm": lambda g: layer_norm(g, 256),
    "column_sum": lambda g: g.output("y", ops.reduce_sum(g.input("x", Type(f32, (B, T))), axes=(0,), keepdims=False)),
    "batch_statistics": lambda g: batch_statistics(g, 64),
    "adam": adam,
    "max_pool": lambda g: max_pool(g, 64),
    "scatter": lambda g: scatter(g, 50, 64),
    "tiles": lambda g: tiles(g, 64),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("target, register", ((X86_64_V4, "zmm"), (X86_64_V3, "ymm"), (X86_64_V2, "xmm")))
def test_every_kind_of_kernel_uses_whole_registers(name, target, register):
    for form in forms(KERNELS[name]):
        text = llvm.assembly(loops.emit(form, target, "k").ir_text, target)
        assert any(register in line and "ps" in line for line in text.splitlines()), f"{form.name} is not vectorised"


def test_the_text_of_a_kernel_depends_on_the_form_only():
    form = only(layer_norm)
    assert loops.emit(form, X86_64_V4, "k").ir_text == loops.emit(form, X86_64_V4, "k").ir_text


@pytest.mark.parametrize("channels", (1, 3, 16, 37))
@pytest.mark.parametrize("tile", (2, 4))
def test_large_bodies_mask_what_lies_outside(tile, channels):
    """Elements of a tile beyond the border are not read: the arrays end where a page does."""
    form = only(lambda g: tiles(g, channels, tile))
    for batch in (1, 3):
        check(form, {"batch": batch}, guarded=True)
