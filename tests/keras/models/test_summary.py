"""W-3: the exact text of the summary."""

from kcompile.keras import Input, Model, Sequential, layers
from kcompile.keras.backend import clear_session

W3 = """\
Model: "sequential"
_________________________________________________________________
Layer (type)                 Output Shape              Param #   
=================================================================
layer1 (Dense)               (None, 5)                 25        
_________________________________________________________________
layer2 (Dense)               (None, 3)                 18        
_________________________________________________________________
layer3 (Dense)               (None, 1)                 4         
=================================================================
Total params: 47
Trainable params: 47
Non-trainable params: 0
_________________________________________________________________
"""  # noqa: W291


def text(model, **kwargs):
    lines = []
    model.summary(print_fn=lines.append, **kwargs)
    return "\n".join(lines) + "\n"


def test_classic_text(capsys):
    clear_session()
    model = Sequential(
        [
            layers.Dense(5, "relu", name="layer1", input_shape=(4,)),
            layers.Dense(3, "relu", name="layer2"),
            layers.Dense(1, name="layer3"),
        ]
    )
    assert text(model) == W3
    model.summary()
    assert capsys.readouterr().out == W3


def test_long_entries_are_cut():
    clear_session()
    model = Sequential(
        [
            Input((10, 10, 64)),
            layers.MaxPooling2D(name="max_pooling2d_1"),
        ]
    )
    assert "max_pooling2d_1 (MaxPooling2 (None, 5, 5, 64)          0         " in text(model).splitlines()


def test_thousands_and_frozen_weights():
    frozen = layers.Dense(100, input_dim=99, trainable=False)
    lines = text(Sequential([frozen, layers.BatchNormalization()])).splitlines()
    assert lines[-4:-1] == ["Total params: 10,400", "Trainable params: 200", "Non-trainable params: 10,200"]


def test_open_sizes():
    assert "(None, None, 32)          320000" in text(Sequential([layers.Embedding(10000, 32)]))


def test_connections_are_shown_where_they_do_not_go_without_saying():
    a, b = Input((2,), name="a"), Input((2,), name="b")
    lines = text(Model([a, b], layers.Add(name="sum")([a, b]), name="m")).splitlines()
    fields = "Layer (type)".ljust(32) + "Output Shape".ljust(21) + "Param #".ljust(12) + "Connected to".ljust(33)
    assert lines[2] == fields
    assert "a (InputLayer)                  [(None, 2)]          0                                            " in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("sum (Add)"))
    assert lines[at].endswith("a[0][0]" + " " * 26) and lines[at + 1].strip() == "b[0][0]"


def test_subclassed_models_show_the_shapes_of_their_calls():
    class Net(Model):
        def __init__(self):
            super().__init__(name="net")
            self.out = layers.Dense(2, name="out")

        def call(self, x):
            return self.out(x)

    model = Net()
    assert "out (Dense)                  ?                         unbuilt   " in text(model)
    model.build((None, 3))
    assert "out (Dense)                  (None, 2)                 8         " in text(model)


def test_nested_layers_on_request():
    inner = Sequential([layers.Dense(2, name="deep")], name="inner")
    model = Sequential([Input((3,)), inner])
    assert "deep" not in text(model) and "| deep (Dense)" in text(model, expand_nested=True)
