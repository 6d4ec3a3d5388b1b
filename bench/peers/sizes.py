"""Sizes of the gLMs that are compared; the one place where they stand."""

# Encoders of the BERT family: layers, width, heads, feed-forward width, rows of the embedding.
ENCODERS = {
    "nt50m": dict(layers=12, width=512, heads=16, feed_forward=2048, vocabulary=4105),
    "nt500m": dict(layers=24, width=1280, heads=20, feed_forward=5120, vocabulary=4105),
    "nt-v2-50m": dict(layers=12, width=512, heads=16, feed_forward=2048, vocabulary=4107),
    "bertbase": dict(layers=12, width=768, heads=12, feed_forward=3072, vocabulary=4101),
    "dnabert2": dict(layers=12, width=768, heads=12, feed_forward=3072, vocabulary=4096),
}

# HyenaDNA: layers, width, longest input in tokens.
HYENADNA = {
    "hyenadna-tiny-d256": dict(layers=2, width=256, positions=1026),
    "hyenadna-small-32k": dict(layers=4, width=256, positions=32770),
    "hyenadna-medium-160k": dict(layers=8, width=256, positions=160002),
}

# GPN, the ConvNet of gpn-brassicales.
GPN = {"gpn": dict(layers=25, width=512, taps=9, cycle=6, dilation_max=32, vocabulary=7)}


def dilations(size):
    """Distance between taps, layer by layer."""
    return [min(size["dilation_max"], 2 ** (i % size["cycle"])) for i in range(size["layers"])]
