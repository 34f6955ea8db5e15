"""Pictures changed at random, so that a model sees few of them in many ways.

Each transform takes pictures (B, C, H, W) and a NumPy Generator, draws for every
picture anew, and returns new pictures of the same dtype. `Augmented` gives each batch a
generator of its own, of (seed, step): a run that is resumed sees the same pictures.
"""

import functools
from dataclasses import dataclass

import numpy as np

from .. import random
from ..checks import number, probability, switch, whole
from .fingerprint import fingerprint
from .loader import Loader


def affine(images, degrees=0.0, shift=(0.0, 0.0), scale=1.0):
    """Pictures turned about their centre, scaled, then moved: (B, C, H, W), the same.

    `degrees` counter-clockwise; `shift` in pixels (down, right); `scale` above 1 makes
    larger; each one for all, or an array with one a picture (shift: (B, 2)). Between
    pixels values are interpolated linearly, beyond the edges they are 0.
    """
    images = check_images("affine", images)
    count, _, height, width = images.shape
    _check_settings(count, degrees, shift, scale)
    angle = np.deg2rad(np.broadcast_to(degrees, count))[:, None, None]
    down, right = np.broadcast_to(shift, (count, 2)).T[:, :, None, None]
    size = np.broadcast_to(scale, count)[:, None, None]
    # For each pixel of the result, the place in the picture that it shows.
    y = np.arange(height)[:, None] - (height - 1) / 2 - down  # (B, H, 1)
    x = np.arange(width) - (width - 1) / 2 - right  # (B, 1, W)
    rows = (np.sin(angle) * x + np.cos(angle) * y) / size + (height - 1) / 2
    columns = (np.cos(angle) * x - np.sin(angle) * y) / size + (width - 1) / 2
    return _between_pixels(images, rows, columns)


def _check_settings(count, degrees, shift, scale):
    for name, value, shapes in (
        ("degrees", degrees, ((), (count,))),
        ("shift", shift, ((2,), (count, 2))),
        ("scale", scale, ((), (count,))),
    ):
        if np.shape(value) not in shapes:
            raise ValueError(
                f"affine: {name} is one for all, {shapes[0]}, or one a picture, "
                f"{shapes[1]}, not {np.shape(value)}"
            )
    if np.min(scale, initial=1) <= 0:
        raise ValueError(f"affine: scale must be above 0, not {np.min(scale)}")


def _between_pixels(images, rows, columns):
    """The pictures' values at real places (B, H, W) each, linear in both directions."""
    count, _, height, width = images.shape
    which = np.arange(count)[:, None, None]
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    out = np.zeros_like(images)
    for y, share_y in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for x, share_x in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            weight = np.where(inside, share_y * share_x, 0).astype(images.dtype)
            found = images[which, :, y.clip(0, height - 1), x.clip(0, width - 1)]
            out += weight[:, None] * found.transpose(0, 3, 1, 2)  # (B, C, H, W)
    return out


@dataclass(frozen=True)
class RandomAffine:
    """`affine` with an angle in ±`degrees`, shifts in ±`shift` pixels each way, and a
    scale in 1 ± `scale`, all uniform."""

    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0

    def __post_init__(self):
        for name in ("degrees", "shift"):
            number(f"RandomAffine: {name}", getattr(self, name), 0)
        number("RandomAffine: scale", self.scale, 0, 1, without=1)

    def __call__(self, images, generator):
        images = check_images("RandomAffine", images)
        drawn = generator.uniform(-1, 1, (len(images), 4))
        return affine(
            images,
            drawn[:, 0] * self.degrees,
            drawn[:, 1:3] * self.shift,
            1 + drawn[:, 3] * self.scale,
        )


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Left and right exchanged, with probability `p`."""

    p: float = 0.5

    def __post_init__(self):
        probability("RandomHorizontalFlip: p", self.p)

    def __call__(self, images, generator):
        images = check_images("RandomHorizontalFlip", images)
        chosen = generator.random(len(images)) < self.p
        return np.where(chosen[:, None, None, None], images[..., ::-1], images)


@dataclass(frozen=True)
class RandomCrop:
    """A square of `size` pixels a side, its place uniform, out of each picture with
    `padding` zeros around it."""

    size: int
    padding: int = 0

    def __post_init__(self):
        whole("RandomCrop: size", self.size, 1)
        whole("RandomCrop: padding", self.padding, 0)

    def __call__(self, images, generator):
        images = check_images("RandomCrop", images)
        margin = (self.padding, self.padding)
        padded = np.pad(images, ((0, 0), (0, 0), margin, margin))
        room = np.array(padded.shape[2:]) - self.size  # (rows, columns)
        if room.min() < 0:
            raise ValueError(
                f"RandomCrop: size {self.size} is more than pictures of "
                f"{images.shape[2:]} with padding {self.padding} have"
            )
        starts = generator.integers(0, room + 1, (len(images), 2))
        reach = np.arange(self.size)
        rows = (starts[:, :1] + reach)[:, :, None]  # (B, size, 1)
        columns = (starts[:, 1:] + reach)[:, None, :]  # (B, 1, size)
        which = np.arange(len(images))[:, None, None]
        return padded[which, :, rows, columns].transpose(0, 3, 1, 2).copy()


@dataclass(frozen=True)
class GaussianNoise:
    """Normal noise of deviation `sigma` on each pixel, cut back to [0, 1] by `clip`."""

    sigma: float = 0.1
    clip: bool = True

    def __post_init__(self):
        number("GaussianNoise: sigma", self.sigma, 0)
        switch("GaussianNoise: clip", self.clip)

    def __call__(self, images, generator):
        images = check_images("GaussianNoise", images)
        noise = self.sigma * generator.standard_normal(images.shape)
        noisy = (images + noise).astype(images.dtype)
        return noisy.clip(0, 1) if self.clip else noisy


class Augmented(Loader):
    """Another loader's batches, whose first array, pictures, goes through transforms.

    Every epoch shows each picture changed anew; step and `seed` (the other loader's if
    None) decide how. The hash changes with the transforms.
    """

    def __init__(self, loader, *transforms, seed=None):
        if not isinstance(loader, Loader):
            raise TypeError(f"Augmented takes a loader, not {type(loader).__name__}")
        for transform in transforms:
            if not callable(transform):
                raise TypeError(
                    f"Augmented: {transform!r} is no transform of pictures and a "
                    "generator"
                )
        seed = loader.seed if seed is None else seed
        super().__init__(batch_size=loader.batch_size, seed=seed)
        self.loader, self.transforms = loader, transforms

    @functools.cached_property
    def hash(self):
        """16 hexadecimal digits that change with the data and with the transforms."""
        return fingerprint(self.loader.hash, *map(repr, self.transforms))

    def __len__(self):
        return len(self.loader)

    def batch(self, step):
        """The arrays of one batch; all but the first are the loader's own."""
        images, *rest = self.loader.batch(step)
        generator = random.at("augmentation", step, self.seed)
        for transform in self.transforms:
            images = transform(images, generator)
        return images, *rest


def check_images(name, images):
    """`images` as an array (B, C, H, W) of real numbers; else TypeError, ValueError."""
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"{name} takes pictures (B, C, H, W), not {images.shape}")
    if images.dtype.kind != "f":
        raise TypeError(
            f"{name}: pictures of {images.dtype}; needed are real numbers: divide "
            "bytes by 255 first"
        )
    return images
