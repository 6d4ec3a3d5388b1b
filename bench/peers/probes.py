"""Times one training step of the representation CNN (forward, backward, Adam) in Keras or torch.

    KERAS_BACKEND=tensorflow python probes.py --shape 256x41x2560 --reduce 196
    python probes.py --shape 64x230x512 --reduce 128 --impl torch

The layers are those of `glmeval bench --probe rep-cnn`; targets and inputs are normal draws.
"""

import os

from measuring import arguments, measure

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

parser = arguments(__doc__.split("\n")[0])
parser.add_argument("--shape", required=True, help="batch x positions x channels")
parser.add_argument("--reduce", type=int, default=128, help="channels of the first convolution")
parser.add_argument("--impl", choices=["keras", "torch"], default="keras")
options = parser.parse_args()
BATCH, LENGTH, WIDTH = (int(extent) for extent in options.shape.split("x"))
if options.dtype != "f32":
    raise SystemExit("Keras and torch train these layers in f32")


def keras_step():
    """The step and what computed it."""
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras
    import numpy as np

    layers = keras.layers
    x = given = keras.Input((LENGTH, WIDTH))
    x = layers.Conv1D(options.reduce, 1)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv1D(196, 7, padding="same")(x))
    x = layers.Dropout(0.2)(layers.Activation("exponential")(x))
    x = layers.Conv1D(256, 7, padding="same")(layers.MaxPooling1D(5)(x))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Flatten()(layers.Dropout(0.2)(layers.MaxPooling1D(4)(x)))
    for width in (512, 256):
        x = layers.BatchNormalization()(layers.Dense(width)(x))
        x = layers.Dropout(0.5)(layers.Activation("relu")(x))
    model = keras.Model(given, layers.Dense(1)(x))
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse")
    draws = np.random.default_rng(0)
    inputs = draws.standard_normal((BATCH, LENGTH, WIDTH), dtype="float32")
    targets = draws.standard_normal((BATCH, 1), dtype="float32")
    return lambda: model.train_on_batch(inputs, targets), f"keras-{keras.backend.backend()}"


def torch_step():
    """The step and what computed it."""
    import torch
    from torch import nn

    class Exponential(nn.Module):
        def forward(self, x):
            return torch.exp(x)

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    flat = 256 * (LENGTH // 5 // 4)
    # torch counts momentum from the other end, and divides by N - 1 in the running variance.
    norm = lambda width: nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)
    blocks = [norm(WIDTH), nn.Conv1d(WIDTH, options.reduce, 1)]
    blocks += [nn.Conv1d(options.reduce, 196, 7, padding="same"), norm(196), Exponential()]
    blocks += [nn.Dropout(0.2), nn.MaxPool1d(5), nn.Conv1d(196, 256, 7, padding="same"), norm(256)]
    blocks += [nn.ReLU(), nn.MaxPool1d(4), nn.Dropout(0.2), nn.Flatten()]
    for before, after in ((flat, 512), (512, 256)):
        blocks += [nn.Linear(before, after), norm(after), nn.ReLU(), nn.Dropout(0.5)]
    model = nn.Sequential(*blocks, nn.Linear(256, 1)).train()
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    # The store holds rows by position; the transposed view is what Conv1d takes.
    inputs, targets = torch.randn(BATCH, LENGTH, WIDTH), torch.randn(BATCH, 1)

    def step():
        adam.zero_grad(set_to_none=True)
        loss = ((model(inputs.transpose(1, 2)) - targets) ** 2).mean()
        loss.backward()
        adam.step()

    return step, "torch"


step, implementation = keras_step() if options.impl == "keras" else torch_step()
case = f"rep-cnn_{options.shape}"
measure(options, "probe", case, implementation, step, BATCH, BATCH * LENGTH)
