"""A process that compiles modules for another one: LLVM runs under one lock, so threads would not help.

Started by `runtime/compilers.py`; it loads LLVM and little else. Over its standard input and output go frames,
a length of 8 bytes and as many bytes:

    in     the target, as JSON; then a module's text each, until the stream ends
    out    for each module: whether it was compiled, the seconds it took, its object file

What LLVM refuses is not explained here: the caller compiles it again and gets the whole error.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from typing import BinaryIO

from kcompile.codegen.llvm import compile_module
from kcompile.errors import CompilerBug
from kcompile.target import Target

BOOT = "import sys; sys.path[:] = sys.argv[1:]; from kcompile.codegen.compiler_process import serve; serve()"

_LENGTH = struct.Struct("<Q")
_ANSWER = struct.Struct("<?d")


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Send one frame."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes:
    """Receive one frame. Raises: EOFError if the other side has gone."""
    return _exactly(stream, _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0])


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def read_answer(stream: BinaryIO) -> tuple[bytes | None, float]:
    """Receive (object file, or None if LLVM refused; seconds)."""
    frame = read_frame(stream)
    compiled, seconds = _ANSWER.unpack_from(frame)
    return (frame[_ANSWER.size :] if compiled else None), seconds


def serve() -> None:
    """Compile what comes in until nothing more does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    modules, objects = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the frames
    try:
        target = Target(**json.loads(read_frame(modules)))
        while True:
            write_frame(objects, _answer(read_frame(modules).decode(), target))
    except (EOFError, OSError):
        pass  # the caller has gone


def _answer(ir_text: str, target: Target) -> bytes:
    start = time.perf_counter()
    try:
        compiled, data = True, compile_module(ir_text, target)
    except CompilerBug:
        compiled, data = False, b""
    return _ANSWER.pack(compiled, time.perf_counter() - start) + data
