"""Trains the published one-hot binding CNN in Keras on a data set of the archive, several times.

    python chip_cnn.py REST_200.h5 --repeats 5

Layers, order of examples and callbacks are those of the published script; prints each repeat's AUROC.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import h5py
import keras
import tensorflow as tf

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("file", help="x_train, y_train, ... as (N, 4, 200) and (N, 1)")
parser.add_argument("--repeats", type=int, default=5)
options = parser.parse_args()
layers = keras.layers

with h5py.File(options.file) as file:
    splits = {
        split: (
            file[f"x_{split}"][:].transpose(0, 2, 1).astype("float32"),
            file[f"y_{split}"][:].astype("float32").reshape(-1, 1),
        )
        for split in ("train", "valid", "test")
    }


def batches(split):
    """The sliding buffer of the published script."""
    return tf.data.Dataset.from_tensor_slices(splits[split]).shuffle(1024).batch(256)


def network():
    """Three convolutions, a dense layer, a sigmoid."""
    x = given = keras.Input((200, 4))
    for filters, taps, pool in ((64, 7, 4), (96, 5, 4), (128, 5, 2)):
        draw = keras.initializers.HeUniform()
        x = layers.Conv1D(filters, taps, padding="same", kernel_initializer=draw)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Dropout(0.2)(layers.MaxPooling1D(pool)(x))
    x = layers.BatchNormalization()(layers.Dense(256)(layers.Flatten()(x)))
    x = layers.Dropout(0.5)(layers.Activation("relu")(x))
    return keras.Model(given, layers.Activation("sigmoid")(layers.Dense(1)(x)))


for repeat in range(options.repeats):
    model = network()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss="binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auroc")],
    )
    stop = keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True)
    fall = keras.callbacks.ReduceLROnPlateau(factor=0.2, patience=5, min_lr=1e-6)
    past = model.fit(
        batches("train"),
        validation_data=batches("valid"),
        epochs=100,
        callbacks=[stop, fall],
        verbose=0,
    )
    auroc = model.evaluate(batches("test"), verbose=0)[1]
    print(repeat, f"AUROC {auroc:.4f}", f"epochs {len(past.history['loss'])}", flush=True)
