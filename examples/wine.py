"""A Functional model with two inputs and two outputs: the cultivar of a wine, and its alcohol."""

import numpy as np
from sklearn.datasets import load_wine

from kcompile import keras
from kcompile.keras import layers


def main() -> None:
    keras.utils.set_random_seed(0)
    table, cultivar = load_wine(return_X_y=True)
    table = ((table - table.mean(axis=0)) / table.std(axis=0)).astype("float32")
    shuffled = np.random.default_rng(0).permutation(len(table))
    table, cultivar = table[shuffled], cultivar[shuffled].astype("int32")
    alcohol, acids, rest = table[:, :1], table[:, 1:5], table[:, 5:]

    acid_input = keras.Input((4,), name="acids")
    rest_input = keras.Input((8,), name="rest")
    shared = layers.Concatenate()([
        layers.Dense(16, activation="relu")(acid_input),
        layers.Dense(16, activation="relu")(rest_input),
    ])  # fmt: skip
    shared = layers.LayerNormalization()(shared)
    outputs = {
        "cultivar": layers.Dense(3, activation="softmax", name="cultivar")(shared),
        "alcohol": layers.Dense(1, name="alcohol")(shared),
    }
    model = keras.Model({"acids": acid_input, "rest": rest_input}, outputs)
    model.summary()
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"cultivar": "sparse_categorical_crossentropy", "alcohol": "mse"},
        loss_weights={"cultivar": 1.0, "alcohol": 0.5},
        metrics={"cultivar": ["accuracy"], "alcohol": ["mae"]},
    )
    data = {"acids": acids, "rest": rest}
    targets = {"cultivar": cultivar, "alcohol": alcohol}
    model.fit(data, targets, batch_size=16, epochs=30, validation_split=0.25, verbose=2)
    print(model.evaluate(data, targets, verbose=0, return_dict=True))


if __name__ == "__main__":
    main()
