"""A kernel's record beside its object code: exact both ways, and nothing else is read."""

import pytest

from kcompile.codegen.kernel import Kernel, Phase
from kcompile.codegen.stored import from_bytes, to_bytes
from kcompile.ir import dim

B, T = dim.symbol("batch"), dim.symbol("x0_1")
KERNELS = [
    Kernel("k", "", (), (Phase("k", 1, 40),)),
    Kernel("k", "", ("batch",), (Phase("k", B, 3), Phase("k_phase1", B // 16 + 1, 4 * B * B - 7)), 4096, 64 * B),
    Kernel("k", "", ("batch", "x0_1"), (Phase("k", (B * T + 15) // 16 * (T // 3), 2),), 4 * ((B // 2) * T // 5)),
]
OBJECT = b"\x7fELF\n{}\x00" * 5


@pytest.mark.parametrize("kernel", KERNELS)
def test_round_trip(kernel):
    emitted = []
    found, code = from_bytes(to_bytes(kernel, OBJECT), "k", lambda: emitted.append(1) or "ir")
    assert code == OBJECT
    assert (found.symbols, found.phases) == (kernel.symbols, kernel.phases)
    assert found.workspace_bytes_per_worker == kernel.workspace_bytes_per_worker
    assert found.shared_workspace_bytes == kernel.shared_workspace_bytes
    assert not emitted and found.ir_text == "ir" and emitted


def test_sizes_inside_a_kernel_are_refused():
    with pytest.raises(ValueError, match="outside a kernel"):
        to_bytes(Kernel("k", "", (), (Phase("k", dim.of(dim.Axis("i", 4)), 1),)), OBJECT)


def damaged():
    whole = to_bytes(KERNELS[1], OBJECT)
    line, code = whole.split(b"\n", 1)
    yield b""
    yield line
    yield code
    yield whole[:-1]
    yield whole + b"\0"
    yield b"[]\n" + code
    yield b"null\n" + code
    yield b"[" * 100_000 + b"\n" + code
    for old, new in (
        (b'"k"', b'"other"'),
        (b'"k"', b"7"),
        (b'["batch"]', b"[7]"),
        (b'["batch"]', b'"batch"'),
        (b"4096", b"4096.0"),
        (b"4096", b"true"),
        (b"4096", b'"4096"'),
        (b"4096", b'{"sum":[]}'),
        (b"4096", b'{"sum":[[4096]]}'),
        (b"4096", b'{"sum":[[0,"batch"]]}'),
        (b"4096", b'{"sum":[[1,["batch"]]]}'),
        (b"4096", b'{"sum":[[1,"batch"]],"more":1}'),
        (b"4096", b" 4096"),
        (b'"shared"', b'"shard"'),
        (b'{"name"', b'{"extra":1,"name"'),
    ):
        assert old in line
        yield line.replace(old, new, 1) + b"\n" + code


@pytest.mark.parametrize("data", list(damaged()))
def test_what_writing_does_not_make_is_refused(data):
    with pytest.raises(ValueError):
        from_bytes(data, "k", lambda: "")
