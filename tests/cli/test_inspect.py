"""`kcompile inspect --times` and KCOMPILE_DEBUG=2: where the time of a compilation goes."""

import pytest

from kcompile import flags, inspection, keras, pipeline
from kcompile.cli import main
from tests.passes.test_program import dense_training

layers = keras.layers


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "m.keras"
    keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="softmax"), layers.Dense(3)]).save(path)
    return str(path)


def test_the_command_compiles_anew_and_names_the_kernels(saved, capsys):
    for _ in range(2):  # the second time the disk cache would have them
        assert main(["inspect", saved, "--times"]) == 0
        text = capsys.readouterr().out
        assert "LLVM" in text and "emit" in text and "kc_contract" in text and " 0 from the disk cache" in text


def test_every_new_kernel_has_its_times():
    with flags.scoped(cache=False):
        built = pipeline.build(dense_training())
    assert built.kernel_times.keys() == built.kernels.keys()
    assert all(t.emit_s > 0 and t.llvm_s > 0 and t.code_bytes > 0 for t in built.kernel_times.values())
    assert sum(t.emit_s for t in built.kernel_times.values()) == pytest.approx(built.times["emit"])


def test_a_long_list_is_cut():
    with flags.scoped(cache=False):
        built = pipeline.build(dense_training())
    text = inspection.times_text(built, most=2)
    assert f"{len(built.kernels) - 2} more" in text and sum("kc_" in line for line in text.splitlines()) == 2


def test_debug_2_prints_it(capsys):
    with flags.scoped(cache=False, debug=2):
        pipeline.build(dense_training())
    assert "kernels new" in capsys.readouterr().err
