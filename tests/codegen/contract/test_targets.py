"""The same contractions for other CPUs: run where this machine can, else read the assembly."""

import platform
import re

import pytest

from kcompile.codegen.contract import emit
from kcompile.codegen.llvm import assembly
from kcompile.ir.dim import symbol
from kcompile.target import AARCH64_NEON, WASM32_SIMD, X86_64_V2, X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check
from tests.codegen.contract.forms import contract_form

BATCH = symbol("batch")
SPECS = {
    "i,k;k,j->i,j": {"i": BATCH, "j": 21, "k": 19},
    "i,k;j,k->i,j": {"i": BATCH, "j": 21, "k": 19},
    "i,k;k->i": {"i": BATCH, "k": 77},
    "b,i+r,j+s,c;r,s,c,n->b,i,j,n": {"b": BATCH, "i": 4, "j": 5, "r": 3, "s": 3, "c": 3, "n": 20},
    "b,i+r,j+s,c;b,i,j,n->r,s,c,n": {"b": BATCH, "i": 4, "j": 5, "r": 3, "s": 3, "c": 3, "n": 20},
    "b,i+r,j+s,c;r,s,c->b,i,j,c": {"b": BATCH, "i": 4, "j": 5, "r": 3, "s": 3, "c": 20},
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="runs x86 code")
@pytest.mark.parametrize("target", [X86_64_V2, X86_64_V3], ids=["v2", "v3"])
@pytest.mark.parametrize("spec", SPECS)
def test_older_x86(spec, target):
    check(spec, SPECS[spec], {"batch": 13}, target=target)


@pytest.mark.parametrize("target", [AARCH64_NEON, WASM32_SIMD, X86_64_V4], ids=["neon", "wasm", "v4"])
@pytest.mark.parametrize("spec", SPECS)
def test_compiles_elsewhere(spec, target):
    assert "kern" in assembly(emit(contract_form(spec, SPECS[spec]), target, "kern").ir_text, target)


@pytest.mark.parametrize("target", [X86_64_V4, X86_64_V3, AARCH64_NEON], ids=["v4", "v3", "neon"])
@pytest.mark.parametrize("spec", ["i,k;k,j->i,j", "b,i+r,j+s,c;r,s,c,n->b,i,j,n"])
def test_accumulators_stay_in_registers(spec, target):
    sizes = {"i": 13, "j": 13, "b": BATCH, "r": 3, "s": 3, "c": 32, "n": 192}
    if spec.startswith("i,k"):
        sizes = {"i": 96, "j": 192, "k": 256}
    text = assembly(emit(contract_form(spec, sizes), target, "kern").ir_text, target)
    blocks = [re.split(r"\n\t(?:j\w+|b\.\w+|cbn?z)\s", part)[0] for part in re.split(r"\n(?=\.L\w+:)", text)]
    loops = [block for block in blocks if len(re.findall(r"fmadd|fmla", block)) >= 12]
    assert loops, "no loop of multiply-adds found"
    for loop in loops:
        assert not re.search(r"\(%rsp\)|\[sp", loop), f"spilled:\n{loop}"
