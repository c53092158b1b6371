"""Regression with the idioms of tf.keras 2: early stopping, a checkpoint in HDF5, training continued from the file."""

import tempfile
from pathlib import Path

from sklearn.datasets import load_diabetes

from kcompile import keras
from kcompile.keras.callbacks import EarlyStopping, ModelCheckpoint
from kcompile.keras.layers import Dense, Dropout
from kcompile.keras.models import Sequential, load_model


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = load_diabetes(return_X_y=True)
    x, y = (x / x.std(axis=0)).astype("float32"), ((y - y.mean()) / y.std()).astype("float32")
    model = Sequential()
    model.add(Dense(32, activation="relu", input_shape=(10,), kernel_regularizer=keras.regularizers.l2(0.001)))
    model.add(Dropout(0.1))
    model.add(Dense(16, activation="relu"))
    model.add(Dense(1))
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.h5"
        callbacks = [
            EarlyStopping(patience=8, restore_best_weights=True),
            ModelCheckpoint(str(path), save_best_only=True),
        ]
        model.fit(x, y, batch_size=16, epochs=60, validation_split=0.2, callbacks=callbacks, verbose=2)
        again = load_model(path)
        again.fit(x, y, batch_size=16, epochs=2, verbose=2)
        loss, mae = again.evaluate(x, y, verbose=0)
    print(f"mean absolute error: {mae:.3f} standard deviations (loss {loss:.3f})")


if __name__ == "__main__":
    main()
