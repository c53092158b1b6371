"""Handwritten digits: train a compiled convolutional network, export it, call it from C.

The data are scikit-learn's 1,797 scanned digits of 8 x 8 pixels. Run as it is.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from kcompile import keras
from kcompile.keras import layers

MAIN_C = """
#include <stdio.h>
#include "libdigits.h"

int main(void) {
    float image[64], chances[10];
    for (int i = 0; i < 64; i++) scanf("%f", &image[i]);
    libdigits_model *model;
    int32_t code = libdigits_create(&model, 1);
    if (!code) code = libdigits_predict(model, 1, image, chances);
    if (code) { fprintf(stderr, "%s\\n", libdigits_error(code)); return 1; }
    for (int i = 0; i < 10; i++) printf("%.6f ", chances[i]);
    libdigits_destroy(model);
    return 0;
}
"""


def digits():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    return train_test_split(images, labels.astype("int32"), test_size=0.2, random_state=0, stratify=labels)


def build():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ]
    )


def run_from_c(folder: Path, image: np.ndarray) -> np.ndarray:
    (folder / "main.c").write_text(MAIN_C)
    program = folder / "digits"
    subprocess.run(
        ["cc", "-I", folder, "-o", program, folder / "main.c", folder / "libdigits.so", f"-Wl,-rpath,{folder}"],
        check=True,
    )
    text = " ".join(f"{v:.9g}" for v in image.reshape(-1))
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    return np.array(done.stdout.split(), dtype="float32")


def main() -> int:
    keras.utils.set_random_seed(0)
    x_train, x_test, y_train, y_test = digits()
    model = build()
    model.summary()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit=True)
    model.fit(x_train, y_train, batch_size=32, epochs=20, validation_split=0.1)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test accuracy: {accuracy:.4f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.export(folder / "libdigits.so")
        from_c = run_from_c(folder, x_test[0])
        from_python = model.predict(x_test[:1], verbose=0)[0]
        print("from C:     ", np.round(from_c, 4))
        print("from Python:", np.round(from_python, 4))
        assert np.allclose(from_c, from_python, atol=1e-6)
    return 0 if accuracy >= 0.97 else 1


if __name__ == "__main__":
    sys.exit(main())
