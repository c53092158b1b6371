"""KCOMPILE_COMPARE: right kernels pass, a wrong one is named."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile import flags, pipeline
from kcompile.errors import CompilerBug
from kcompile.forms.records import Store
from kcompile.forms.scalar import call, const
from tests.passes.test_program import GRAPHS, arrays_for, softmax_graph
from tests.runtime.test_executable import split


@pytest.mark.parametrize("make", GRAPHS)
def test_right_kernels_pass(make):
    graph = make()
    inputs, variables = split(graph, arrays_for(graph, 6))
    plain = {n: a.copy() for n, a in variables.items()}
    with flags.scoped(compare=True):
        compared = pipeline.compile(make())
    results = compared.run(inputs, variables)
    for name, expected in pipeline.compile(make()).run(inputs, plain).items():
        np.testing.assert_array_equal(results[name], expected)
    for name, array in plain.items():
        np.testing.assert_array_equal(variables[name], array)


def test_a_wrong_kernel_is_named():
    with flags.scoped(compare=True):
        program = pipeline.compile(softmax_graph())
    ((name, form),) = program.forms.items()
    last = form.body[-1]
    nest = replace(last, body=tuple(_doubled(s) for s in last.body))
    program.forms = {name: replace(form, body=(*form.body[:-1], nest))}
    with pytest.raises(CompilerBug, match=f"kernel {name} differs from its form"):
        program.run({"x": np.ones((3, 10), np.float32)}, {})


def _doubled(store: Store) -> Store:
    return replace(store, value=call("mul", store.value, const(2.0, store.value.dtype)))
