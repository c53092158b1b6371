"""The step from Python into a program, as LLVM IR text: no ctypes and no attribute of an array on the way.

Two functions that Python calls as built-ins (METH_FASTCALL and METH_O), the same for all programs:

    PyObject *kc_call(PyObject *self, PyObject **arrays, ssize_t count)    arrays in the order of the inputs
    PyObject *kc_call_named(PyObject *self, PyObject *arrays_by_name)      a dict

`self` is a tuple; its first item is an int64 array, the record of a prepared call (the fields below), the others
keep alive what the record points to. The call checks that every argument is exactly what the record was made for
(ndarray itself, dtype, shape, contiguous, aligned), makes the results by calling what the record says, takes a
scratch block from the deque, and runs the program without the GIL. Whatever does not fit is no error here:
NotImplemented comes back before anything has happened, and the caller looks closer.

Returns the result, a tuple of several, or None where there are none.

Where the fields of an array lie is part of NumPy's ABI (`PyArrayObject_fields`, the same in 1.x and 2.x); they
begin where a Python object ends. `runtime/prepared.py` looks before it trusts this.
"""

from __future__ import annotations

FUNCTIONS = ("kc_call", "kc_call_named")

# what of the C API is called; the caller of `link` gives the addresses
API = (
    *("PyEval_SaveThread", "PyEval_RestoreThread", "PyObject_VectorcallDict", "PyTuple_GetItem", "PyTuple_SetItem"),
    *("PyTuple_New", "PyLong_FromLong", "PyDict_GetItemWithError", "PyErr_Clear", "Py_IncRef", "Py_DecRef"),
)

# the record: one i64 each. `watches`: a count, then so many pairs: the address of a number, and what it must be
FIELDS = (
    *("run", "inputs", "input_count", "outputs", "output_count", "arguments", "argument_count", "sizes"),
    *("arena_bytes", "pop", "append", "fail", "ndarray", "dict", "none", "not_implemented", "watches"),
)
INPUT_FIELDS = ("number", "name", "dtype", "rank", "shape")
OUTPUT_FIELDS = ("number", "make", "make_arguments", "make_count")

# bytes from the end of a plain object
DATA, RANK, SHAPE, DTYPE, FLAGS = 0, 8, 16, 40, 48
TYPE = -8
USABLE = 0x101  # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED


def pycall_ir(object_bytes: int) -> str:
    """The module's text. `object_bytes`: size of a plain Python object, where an array's own fields begin."""
    text = _TEXT
    places = {"TYPE": TYPE, "DATA": DATA, "RANK": RANK, "SHAPE": SHAPE, "DTYPE": DTYPE, "FLAGS": FLAGS}
    for name, place in places.items():
        text = text.replace("{" + name + "}", str(object_bytes + place))
    for prefix, fields in (("", FIELDS), ("in.", INPUT_FIELDS), ("out.", OUTPUT_FIELDS)):
        for n, name in enumerate(fields):
            text = text.replace("{" + prefix + name + "}", str(8 * n))
    sizes = {"IN": 8 * len(INPUT_FIELDS), "OUT": 8 * len(OUTPUT_FIELDS), "USABLE": USABLE}
    for name, value in sizes.items():
        text = text.replace("{" + name + "}", str(value))
    return text


_TEXT = """\
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyObject_VectorcallDict(ptr, ptr, i64, ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare ptr @PyLong_FromLong(i64)
declare ptr @PyDict_GetItemWithError(ptr, ptr)
declare void @PyErr_Clear()
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define internal ptr @field(ptr %base, i64 %offset) alwaysinline nounwind {
  %at = getelementptr i8, ptr %base, i64 %offset
  %value = load ptr, ptr %at, align 8
  ret ptr %value
}

define internal i64 @number(ptr %base, i64 %offset) alwaysinline nounwind {
  %at = getelementptr i8, ptr %base, i64 %offset
  %value = load i64, ptr %at, align 8
  ret i64 %value
}

define internal ptr @record(ptr %self) alwaysinline nounwind {
  %array = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %record = call ptr @field(ptr %array, i64 {DATA})
  ret ptr %record
}

define internal ptr @refuse(ptr %record) nounwind {
  %answer = call ptr @field(ptr %record, i64 {not_implemented})
  call void @Py_IncRef(ptr %answer)
  ret ptr %answer
}

; whether an argument is an array as the input's record wants it
define internal i1 @fits(ptr %array, ptr %input, ptr %ndarray) alwaysinline nounwind {
entry:
  %type = call ptr @field(ptr %array, i64 {TYPE})
  %type.same = icmp eq ptr %type, %ndarray
  br i1 %type.same, label %look, label %no
look:
  %dtype = call ptr @field(ptr %array, i64 {DTYPE})
  %dtype.wanted = call ptr @field(ptr %input, i64 {in.dtype})
  %dtype.same = icmp eq ptr %dtype, %dtype.wanted
  %rank.at = getelementptr i8, ptr %array, i64 {RANK}
  %rank.short = load i32, ptr %rank.at, align 4
  %rank = sext i32 %rank.short to i64
  %rank.wanted = call i64 @number(ptr %input, i64 {in.rank})
  %rank.same = icmp eq i64 %rank, %rank.wanted
  %flags.at = getelementptr i8, ptr %array, i64 {FLAGS}
  %flags = load i32, ptr %flags.at, align 4
  %flags.both = and i32 %flags, {USABLE}
  %flags.good = icmp eq i32 %flags.both, {USABLE}
  %good.1 = and i1 %dtype.same, %rank.same
  %good.2 = and i1 %good.1, %flags.good
  br i1 %good.2, label %shape, label %no
shape:
  %sizes = call ptr @field(ptr %array, i64 {SHAPE})
  %wanted = call ptr @field(ptr %input, i64 {in.shape})
  br label %axis
axis:
  %n = phi i64 [ 0, %shape ], [ %n.next, %axis.more ]
  %ended = icmp eq i64 %n, %rank
  br i1 %ended, label %yes, label %axis.more
axis.more:
  %size.at = getelementptr i64, ptr %sizes, i64 %n
  %size = load i64, ptr %size.at, align 8
  %size.wanted.at = getelementptr i64, ptr %wanted, i64 %n
  %size.wanted = load i64, ptr %size.wanted.at, align 8
  %n.next = add i64 %n, 1
  %size.same = icmp eq i64 %size, %size.wanted
  br i1 %size.same, label %axis, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

define ptr @kc_call(ptr %self, ptr %arrays, i64 %count) nounwind {
entry:
  %record = call ptr @record(ptr %self)
  %inputs.count = call i64 @number(ptr %record, i64 {input_count})
  %count.same = icmp eq i64 %count, %inputs.count
  br i1 %count.same, label %begin, label %refused
begin:
  %watches = call ptr @field(ptr %record, i64 {watches})
  %watches.count = call i64 @number(ptr %watches, i64 0)
  br label %watch
watch:
  %w = phi i64 [ 0, %begin ], [ %w.next, %watch.same ]
  %watches.done = icmp eq i64 %w, %watches.count
  br i1 %watches.done, label %table, label %watch.look
watch.look:
  %watch.offset = mul i64 %w, 16
  %watch.cell = add i64 %watch.offset, 8
  %watch.seen = add i64 %watch.offset, 16
  %cell = call ptr @field(ptr %watches, i64 %watch.cell)
  %version = load i64, ptr %cell, align 8
  %seen = call i64 @number(ptr %watches, i64 %watch.seen)
  %unchanged = icmp eq i64 %version, %seen
  br i1 %unchanged, label %watch.same, label %refused
watch.same:
  %w.next = add i64 %w, 1
  br label %watch

table:
  %arguments.count = call i64 @number(ptr %record, i64 {argument_count})
  %outputs.count = call i64 @number(ptr %record, i64 {output_count})
  %arguments = alloca ptr, i64 %arguments.count, align 16
  %results = alloca ptr, i64 %outputs.count, align 16
  %arguments.known = call ptr @field(ptr %record, i64 {arguments})
  %arguments.bytes = shl i64 %arguments.count, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %arguments, ptr %arguments.known, i64 %arguments.bytes, i1 false)
  %results.bytes = shl i64 %outputs.count, 3
  call void @llvm.memset.p0.i64(ptr %results, i8 0, i64 %results.bytes, i1 false)
  %inputs = call ptr @field(ptr %record, i64 {inputs})
  %ndarray = call ptr @field(ptr %record, i64 {ndarray})
  br label %input

input:
  %i = phi i64 [ 0, %table ], [ %i.next, %input.fits ]
  %inputs.done = icmp eq i64 %i, %count
  br i1 %inputs.done, label %scratch, label %input.look
input.look:
  %array.at = getelementptr ptr, ptr %arrays, i64 %i
  %array = load ptr, ptr %array.at, align 8
  %input.offset = mul i64 %i, {IN}
  %input.record = getelementptr i8, ptr %inputs, i64 %input.offset
  %good = call i1 @fits(ptr %array, ptr %input.record, ptr %ndarray)
  br i1 %good, label %input.fits, label %refused
input.fits:
  %data = call ptr @field(ptr %array, i64 {DATA})
  %input.number = call i64 @number(ptr %input.record, i64 {in.number})
  %input.place = getelementptr ptr, ptr %arguments, i64 %input.number
  store ptr %data, ptr %input.place, align 8
  %i.next = add i64 %i, 1
  br label %input

scratch:
  %arena.bytes = call i64 @number(ptr %record, i64 {arena_bytes})
  %append = call ptr @field(ptr %record, i64 {append})
  %held = alloca ptr, align 8
  store ptr null, ptr %held, align 8
  %no.arena = icmp eq i64 %arena.bytes, 0
  br i1 %no.arena, label %make.all, label %pop
pop:
  %pop.function = call ptr @field(ptr %record, i64 {pop})
  %block = call ptr @PyObject_VectorcallDict(ptr %pop.function, ptr null, i64 0, ptr null)
  store ptr %block, ptr %held, align 8
  %no.block = icmp eq ptr %block, null
  br i1 %no.block, label %all.taken, label %measure
all.taken:
  call void @PyErr_Clear()
  br label %refused
measure:
  %block.shape = call ptr @field(ptr %block, i64 {SHAPE})
  %block.bytes = load i64, ptr %block.shape, align 8
  %large = icmp sge i64 %block.bytes, %arena.bytes
  br i1 %large, label %arena.known, label %small
small:
  %handed.small = call i1 @hand_back(ptr %append, ptr %held)
  br i1 %handed.small, label %refused, label %raised
arena.known:
  %block.data = call ptr @field(ptr %block, i64 {DATA})
  br label %make.all

make.all:
  %arena = phi ptr [ null, %scratch ], [ %block.data, %arena.known ]
  %outputs = call ptr @field(ptr %record, i64 {outputs})
  br label %output
output:
  %o = phi i64 [ 0, %make.all ], [ %o.next, %output.made ]
  %outputs.done = icmp eq i64 %o, %outputs.count
  br i1 %outputs.done, label %run, label %output.make
output.make:
  %output.offset = mul i64 %o, {OUT}
  %output.record = getelementptr i8, ptr %outputs, i64 %output.offset
  %make = call ptr @field(ptr %output.record, i64 {out.make})
  %make.arguments = call ptr @field(ptr %output.record, i64 {out.make_arguments})
  %make.count = call i64 @number(ptr %output.record, i64 {out.make_count})
  %made = call ptr @PyObject_VectorcallDict(ptr %make, ptr %make.arguments, i64 %make.count, ptr null)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %not.made, label %output.made
output.made:
  %result.place = getelementptr ptr, ptr %results, i64 %o
  store ptr %made, ptr %result.place, align 8
  %made.data = call ptr @field(ptr %made, i64 {DATA})
  %output.number = call i64 @number(ptr %output.record, i64 {out.number})
  %output.place = getelementptr ptr, ptr %arguments, i64 %output.number
  store ptr %made.data, ptr %output.place, align 8
  %o.next = add i64 %o, 1
  br label %output
not.made:
  call void @drop(ptr %results, i64 %outputs.count)
  call void @let_go(ptr %held)                        ; an error is set: no Python call; the next one makes a block
  br label %raised

run:
  %function = call ptr @field(ptr %record, i64 {run})
  %sizes = call ptr @field(ptr %record, i64 {sizes})
  %thread = call ptr @PyEval_SaveThread()
  %code = call i32 %function(ptr %arguments, ptr %sizes, ptr %arena)
  call void @PyEval_RestoreThread(ptr %thread)
  %handed = call i1 @hand_back(ptr %append, ptr %held)
  br i1 %handed, label %judge, label %spoilt
judge:
  %fine = icmp eq i32 %code, 0
  br i1 %fine, label %pack, label %stopped
stopped:
  %code.long = sext i32 %code to i64
  %number = call ptr @PyLong_FromLong(i64 %code.long)
  %told = alloca ptr, align 8
  store ptr %number, ptr %told, align 8
  %fail = call ptr @field(ptr %record, i64 {fail})
  %never = call ptr @PyObject_VectorcallDict(ptr %fail, ptr %told, i64 1, ptr null)
  call void @Py_DecRef(ptr %number)
  br label %spoilt
spoilt:
  call void @drop(ptr %results, i64 %outputs.count)
  br label %raised

pack:
  switch i64 %outputs.count, label %several [ i64 0, label %none
                                              i64 1, label %one ]
none:
  %nothing = call ptr @field(ptr %record, i64 {none})
  call void @Py_IncRef(ptr %nothing)
  ret ptr %nothing
one:
  %only = load ptr, ptr %results, align 8
  ret ptr %only
several:
  %tuple = call ptr @PyTuple_New(i64 %outputs.count)
  %no.tuple = icmp eq ptr %tuple, null
  br i1 %no.tuple, label %spoilt, label %fill
fill:
  %f = phi i64 [ 0, %several ], [ %f.next, %fill.more ]
  %filled = icmp eq i64 %f, %outputs.count
  br i1 %filled, label %packed, label %fill.more
fill.more:
  %item.at = getelementptr ptr, ptr %results, i64 %f
  %item = load ptr, ptr %item.at, align 8
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %f, ptr %item)
  %f.next = add i64 %f, 1
  br label %fill
packed:
  ret ptr %tuple

refused:
  %answer = call ptr @refuse(ptr %record)
  ret ptr %answer
raised:
  ret ptr null
}

; put the block back into the deque, if there is one; false: an error is set
define internal i1 @hand_back(ptr %append, ptr %held) nounwind {
entry:
  %block = load ptr, ptr %held, align 8
  %none = icmp eq ptr %block, null
  br i1 %none, label %good, label %give
give:
  %answer = call ptr @PyObject_VectorcallDict(ptr %append, ptr %held, i64 1, ptr null)
  call void @Py_DecRef(ptr %block)
  %bad = icmp eq ptr %answer, null
  br i1 %bad, label %failed, label %given
given:
  call void @Py_DecRef(ptr %answer)
  br label %good
good:
  ret i1 true
failed:
  ret i1 false
}

define internal void @let_go(ptr %held) nounwind {
entry:
  %object = load ptr, ptr %held, align 8
  %none = icmp eq ptr %object, null
  br i1 %none, label %done, label %some
some:
  call void @Py_DecRef(ptr %object)
  br label %done
done:
  ret void
}

; let go of the first objects of a list, up to the first that is not there
define internal void @drop(ptr %objects, i64 %count) nounwind {
entry:
  br label %next
next:
  %n = phi i64 [ 0, %entry ], [ %n.next, %some ]
  %ended = icmp eq i64 %n, %count
  br i1 %ended, label %done, label %look
look:
  %at = getelementptr ptr, ptr %objects, i64 %n
  %object = load ptr, ptr %at, align 8
  %n.next = add i64 %n, 1
  %none = icmp eq ptr %object, null
  br i1 %none, label %done, label %some
some:
  call void @Py_DecRef(ptr %object)
  br label %next
done:
  ret void
}

define ptr @kc_call_named(ptr %self, ptr %given) nounwind {
entry:
  %record = call ptr @record(ptr %self)
  %type = call ptr @field(ptr %given, i64 {TYPE})
  %dict = call ptr @field(ptr %record, i64 {dict})
  %is.dict = icmp eq ptr %type, %dict
  br i1 %is.dict, label %begin, label %refused
begin:
  %count = call i64 @number(ptr %record, i64 {input_count})
  %inputs = call ptr @field(ptr %record, i64 {inputs})
  %arrays = alloca ptr, i64 %count, align 16
  %bytes = shl i64 %count, 3
  call void @llvm.memset.p0.i64(ptr %arrays, i8 0, i64 %bytes, i1 false)
  br label %input
input:
  %i = phi i64 [ 0, %begin ], [ %i.next, %found ]
  %done = icmp eq i64 %i, %count
  br i1 %done, label %call, label %find
find:
  %offset = mul i64 %i, {IN}
  %input.record = getelementptr i8, ptr %inputs, i64 %offset
  %name = call ptr @field(ptr %input.record, i64 {in.name})
  %array = call ptr @PyDict_GetItemWithError(ptr %given, ptr %name)
  %missing = icmp eq ptr %array, null
  br i1 %missing, label %gone, label %found
found:
  call void @Py_IncRef(ptr %array)                    ; the dict may change while the GIL is free
  %place = getelementptr ptr, ptr %arrays, i64 %i
  store ptr %array, ptr %place, align 8
  %i.next = add i64 %i, 1
  br label %input
call:
  %result = call ptr @kc_call(ptr %self, ptr %arrays, i64 %count)
  call void @drop(ptr %arrays, i64 %count)
  ret ptr %result
gone:
  call void @PyErr_Clear()
  call void @drop(ptr %arrays, i64 %count)
  br label %refused
refused:
  %answer = call ptr @refuse(ptr %record)
  ret ptr %answer
}
"""
