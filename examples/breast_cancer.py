"""A subclassed model with a layer of its own: compiled forward and backward without further words."""

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from kcompile import keras
from kcompile.keras import layers, ops


class Gated(layers.Layer):
    """tanh(x W) * sigmoid(x V)."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.value = self.add_weight(name="value", shape=shape)
        self.gate = self.add_weight(name="gate", shape=shape)

    def call(self, x):
        return ops.tanh(ops.matmul(x, self.value)) * ops.sigmoid(ops.matmul(x, self.gate))


class Classifier(keras.Model):
    def __init__(self):
        super().__init__(name="classifier")
        self.normalise = layers.BatchNormalization()
        self.hidden = Gated(16)
        self.drop = layers.Dropout(0.2)
        self.out = layers.Dense(1, activation="sigmoid")

    def call(self, x, training=False):
        x = self.hidden(self.normalise(x, training=training))
        return self.out(self.drop(x, training=training))


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x.astype("float32"), y.astype("float32"), test_size=0.25, random_state=0
    )
    model = Classifier()
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=32, epochs=30, validation_split=0.1)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test accuracy: {accuracy:.3f}")


if __name__ == "__main__":
    main()
