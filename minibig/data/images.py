"""Small pictures to learn from, in parts that are fixed."""

import functools
from dataclasses import replace

import numpy as np

from ..files import FileError
from .downloads import CACHE, download
from .fingerprint import fingerprint
from .idx import read_idx
from .tabular import Split, TabularData, digits, stratified_split

CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
    "Bag", "Ankle boot",
)  # fmt: skip


@functools.cache
def digit_images():
    """The set of `digits` as pictures: features (N, 1, 8, 8), 0 (paper) to 1 (ink)."""
    table = digits()
    parts = {
        name: part._replace(features=part.features.reshape(-1, 1, 8, 8))
        for name in ("train", "validation", "test")
        for part in (getattr(table, name),)
    }
    return replace(table, name="digit_images", **parts)


@functools.cache
def fashion_mnist(folder=CACHE):
    """70,000 pictures of clothes, 28x28 pixels, 0 to 1, of ten kinds: 31 MB to fetch.

    features (N, 1, 28, 28) float32, 220 MB in memory. The test rows are the published
    10,000; validation is 6,000 of the published 60,000, 600 of each kind. `indices`
    count through both, training rows first. From H. Xiao et al., arXiv:1708.07747.
    Raises DownloadError without a network, unless the files are in `folder` already.
    """
    published = [_fashion(part, folder) for part in ("train", "t10k")]
    images, labels = map(np.concatenate, zip(*published, strict=True))
    train, validation = stratified_split(published[0][1], (0.9, 0.1))
    test = np.arange(len(published[0][1]), len(labels))
    indices = train, validation, test
    parts = [
        Split(
            np.float32(images[rows, None]) / np.float32(255),
            labels[rows].astype(np.int64),
        )
        for rows in indices
    ]
    for array in (*indices, *(array for part in parts for array in part)):
        array.flags.writeable = False
    names = tuple(f"pixel_{row}_{column}" for row in range(28) for column in range(28))
    digest = fingerprint(images, labels, *indices)
    return TabularData("fashion_mnist", *parts, names, CLOTHES, indices, digest)


def _fashion(part, folder):
    """Pictures (N, 28, 28) and their labels (N,), bytes."""
    arrays = []
    for kind, shape in (("images-idx3", (28, 28)), ("labels-idx1", ())):
        path = download(f"fashion-mnist-{part}-{kind}", folder)
        arrays.append(array := read_idx(path))
        if array.dtype != np.uint8 or array.shape != (len(arrays[0]), *shape):
            raise FileError(f"{path} holds {array.dtype} of shape {array.shape}")
    return arrays
