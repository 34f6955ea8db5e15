"""Augmentation: what each transform does to a picture, and that it can be repeated."""

import numpy as np
import pytest

from minibig import data
from minibig.data import (
    ArrayBatches,
    Augmented,
    GaussianNoise,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    affine,
)

PICTURE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
MANY = np.random.default_rng(0).random((40, 2, 6, 5), np.float32)
TRANSFORMS = (
    RandomAffine(degrees=20, shift=1, scale=0.2),
    RandomHorizontalFlip(),
    RandomCrop(4, padding=1),
    GaussianNoise(0.2),
)


def rng(seed=0):
    return np.random.default_rng(seed)


# ---- affine -------------------------------------------------------------------------


def test_quarter_turn_is_counter_clockwise():
    for turns in (-1, 0, 1, 2, 3, 4):
        expected = np.rot90(PICTURE, turns, (2, 3))
        np.testing.assert_allclose(affine(PICTURE, 90 * turns), expected, atol=1e-5)


def test_shift_moves_down_and_right_and_leaves_zeros_behind():
    expected = np.zeros((4, 4))
    expected[1:, 2:] = PICTURE[0, 0, :-1, :-2]
    np.testing.assert_array_equal(affine(PICTURE, shift=(1, 2))[0, 0], expected)
    np.testing.assert_array_equal(affine(PICTURE, shift=(-4, 0)), 0 * PICTURE)


def test_half_a_pixel_is_the_mean_of_two():
    moved = affine(PICTURE, shift=(0, 0.5))[0, 0]
    np.testing.assert_allclose(moved[0], [0.5, 1.5, 2.5, 3.5])


def test_twice_the_size_is_read_at_half_the_distance():
    line = np.array([0.0, 1.0, 3.0, 0.0])
    picture = np.tile(line, (4, 1))[None, None]
    # The centre is at 1.5: pixel 0 shows the place 1.5 - 1.5 / 2 = 0.75.
    np.testing.assert_allclose(
        affine(picture, scale=2)[0, 0, 1], [0.75, 1.5, 2.5, 2.25]
    )


def test_each_picture_has_its_own_angle_shift_and_scale():
    degrees, shift = np.array([0.0, 90.0, 30.0]), np.array([[0, 1], [2, 0], [0.5, -1]])
    scale = np.array([1.0, 1.0, 0.8])
    together = affine(MANY[:3], degrees, shift, scale)
    for i in range(3):
        alone = affine(MANY[i : i + 1], degrees[i], shift[i], scale[i])
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)
    assert not np.allclose(together[1], together[2])


def test_two_opposite_turns_give_back_the_middle_of_a_smooth_picture():
    y, x = np.mgrid[-1:1:21j, -1:1:21j]
    picture = np.exp(-4 * ((x - 0.2) ** 2 + (y + 0.1) ** 2))[None, None]
    back = affine(affine(picture, 30), -30)
    wrong = affine(affine(picture, 30), 30)
    middle = (..., slice(5, -5), slice(5, -5))
    assert np.abs(back - picture)[middle].max() < 0.04  # what interpolation blurs
    assert np.abs(wrong - picture)[middle].max() > 0.2


# ---- what is drawn ------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_transform_is_a_function_of_its_generator_and_keeps_the_input(transform):
    before = MANY.copy()
    first, again = transform(MANY, rng(3)), transform(MANY, rng(3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, transform(MANY, rng(4)))
    np.testing.assert_array_equal(MANY, before)
    assert first.dtype == np.float32 and not np.shares_memory(first, MANY)
    assert first.shape[:2] == (40, 2)
    assert len(transform(MANY[:0], rng())) == 0


def test_random_affine_stays_within_its_bounds():
    dot = np.zeros((2000, 1, 9, 9))
    dot[..., 4, 4] = 1
    moved = RandomAffine(shift=1.5)(dot, rng())[:, 0]
    places = np.arange(9) - 4.0
    for axis, total in ((1, moved.sum(2) @ places), (2, moved.sum(1) @ places)):
        assert total.min() == pytest.approx(-1.5, abs=0.02), axis
        assert total.max() == pytest.approx(1.5, abs=0.02)
        assert abs(total.mean()) < 0.1
    line = np.zeros((2000, 1, 9, 9))
    line[..., 4, :] = 1
    turned = RandomAffine(degrees=10)(line, rng())[:, 0, :, 8]
    heights = 4 - turned @ np.arange(9) / turned.sum(1)
    slope = np.degrees(np.arctan(heights / 4))
    assert 8.5 < slope.max() < 11 and -11 < slope.min() < -8.5
    np.testing.assert_array_equal(RandomAffine()(MANY, rng()), MANY)


def test_flip_exchanges_left_and_right_of_about_p():
    flipped = RandomHorizontalFlip(0.25)(np.repeat(PICTURE, 4000, 0), rng())
    same = (flipped == PICTURE).all((1, 2, 3))
    assert 0.22 < 1 - same.mean() < 0.28
    np.testing.assert_array_equal(flipped[~same][0, 0], PICTURE[0, 0, :, ::-1])
    always, never = (RandomHorizontalFlip(p)(PICTURE, rng()) for p in (1, 0))
    np.testing.assert_array_equal(always, PICTURE[..., ::-1])
    np.testing.assert_array_equal(never, PICTURE)


def test_crops_are_pieces_of_the_padded_picture_from_every_place():
    crops = RandomCrop(3, padding=1)(np.repeat(PICTURE, 500, 0), rng())
    padded = np.pad(PICTURE[0, 0], 1)
    pieces = {
        padded[y : y + 3, x : x + 3].tobytes() for y in range(4) for x in range(4)
    }
    assert {crop[0].tobytes() for crop in crops} == pieces
    np.testing.assert_array_equal(RandomCrop(4)(PICTURE, rng()), PICTURE)


def test_channels_are_cropped_at_the_same_place():
    picture = np.stack([PICTURE[0, 0], PICTURE[0, 0] + 100])[None].repeat(9, 0)
    crops = RandomCrop(2)(picture, rng())
    np.testing.assert_array_equal(crops[:, 1], crops[:, 0] + 100)


def test_noise_has_its_deviation_and_is_cut_to_the_range():
    grey = np.full((50, 1, 20, 20), 0.5, np.float32)
    noisy = GaussianNoise(0.1)(grey, rng())
    assert noisy.std() == pytest.approx(0.1, rel=0.03)
    assert noisy.mean() == pytest.approx(0.5, abs=0.002)
    assert GaussianNoise(1.0)(grey, rng()).min() == 0
    assert GaussianNoise(1.0, clip=False)(grey, rng()).min() < -1


# ---- the loader ---------------------------------------------------------------------


def loader(*transforms, **settings):
    labels = np.arange(len(MANY))
    batches = ArrayBatches(MANY, labels, batch_size=16, seed=5)
    return Augmented(batches, *transforms, **settings)


def test_batches_are_a_function_of_step_and_seed():
    batches = loader(*TRANSFORMS)
    later = [batches.batch(step) for step in (7, 2, 7)]
    np.testing.assert_array_equal(later[0][0], later[2][0])
    fresh = loader(*TRANSFORMS).batch(7)
    np.testing.assert_array_equal(later[0][0], fresh[0])
    other = loader(*TRANSFORMS, seed=6).batch(7)
    np.testing.assert_array_equal(other[1], fresh[1])
    assert not np.array_equal(other[0], fresh[0])


def test_every_epoch_shows_a_picture_anew_and_keeps_its_label():
    batches = loader(RandomAffine(shift=1))
    assert len(batches) == 3 and batches.batch_size == 16
    seen = []
    for epoch in range(2):
        parts = [batches.batch(3 * epoch + i) for i in range(3)]
        images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        assert sorted(labels) == list(range(40))
        seen.append(images[np.argsort(labels)])
    assert not (seen[0] == seen[1]).all((1, 2, 3)).any()
    plain = loader()
    images, labels = plain.batch(1)
    np.testing.assert_array_equal(images, MANY[labels])


def test_hash_changes_with_the_transforms():
    hashes = {
        loader().hash,
        loader(GaussianNoise(0.1)).hash,
        loader(GaussianNoise(0.2)).hash,
        loader(RandomCrop(4), GaussianNoise(0.1)).hash,
        loader(GaussianNoise(0.1), RandomCrop(4)).hash,
    }
    assert len(hashes) == 5 and loader().hash == loader(seed=9).hash


def test_digit_images_are_the_rows_of_digits():
    table, pictures = data.digits(), data.digit_images()
    assert pictures.train.features.shape == (1258, 1, 8, 8)
    np.testing.assert_array_equal(
        pictures.test.features.reshape(-1, 64), table.test.features
    )
    assert pictures.test.targets is table.test.targets
    assert not pictures.train.features.flags.writeable


# ---- mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_what_is_no_batch_of_pictures_is_refused(transform):
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), not \(40, 6, 5\)"):
        transform(MANY[:, 0], rng())
    with pytest.raises(TypeError, match=r"uint8.*divide bytes by 255"):
        transform((MANY * 255).astype(np.uint8), rng())


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: affine(PICTURE, scale=0), "scale must be above 0, not 0"),
        (lambda: affine(PICTURE, [0, 90]), "degrees is one for all"),
        (lambda: affine(PICTURE, shift=1), "shift is one for all"),
        (lambda: RandomAffine(degrees=-1), "degrees"),
        (lambda: RandomAffine(scale=1.0), "scale"),
        (lambda: RandomHorizontalFlip(1.5), "p is a probability"),
        (lambda: RandomCrop(0), "size"),
        (lambda: RandomCrop(9)(PICTURE, rng()), "size 9 is more than pictures of"),
        (lambda: GaussianNoise(-0.1), "sigma"),
        (lambda: Augmented([PICTURE]), "takes a loader, not list"),
        (lambda: loader("flip"), "'flip' is no transform"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, fact):
    with pytest.raises((ValueError, TypeError), match=fact):
        make()
