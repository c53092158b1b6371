"""The cycle collector rests while something is compiled, and only then."""

import gc
import weakref

import pytest

from kcompile import pipeline
from kcompile.runtime.garbage import no_collection
from tests.passes.test_program import dense_training


def test_it_is_off_inside_and_on_again_after():
    assert gc.isenabled()
    with no_collection():
        assert not gc.isenabled()
        with no_collection():
            pass
        assert not gc.isenabled()  # another one is still inside
    assert gc.isenabled()


def test_also_after_an_error():
    with pytest.raises(KeyError), no_collection():
        raise KeyError
    assert gc.isenabled()


def test_who_switched_it_off_keeps_it_off():
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_cycles_made_inside_are_found_later():
    class Cycle:
        pass

    with no_collection():
        one = Cycle()
        one.itself = one
        gone = weakref.ref(one)
        del one
    gc.collect(1)
    assert gone() is not None  # it counts as old
    gc.collect()
    assert gone() is None and gc.get_freeze_count() == 0


def test_what_the_user_froze_stays_frozen():
    gc.freeze()
    try:
        with no_collection():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_compiling_leaves_it_as_it_was():
    pipeline.build(dense_training())
    assert gc.isenabled()
