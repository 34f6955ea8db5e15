"""The exercises of notebook 13: their solutions are what the library does."""

import numpy as np
import pytest

import minibig as mb
from minibig.exercises.course import nb13
from minibig.models import ViT, ViTConfig
from minibig.models.vit import patches_of


def cases(exercise):
    return pytest.mark.parametrize("case", exercise.cases, ids=lambda case: case.name)


@cases(nb13.patches)
def test_patches_are_the_librarys(case):
    images, size = case.make()
    theirs = patches_of(mb.tensor(images), size).numpy()
    np.testing.assert_array_equal(nb13.patches.solution(images, size), theirs)


@cases(nb13.gradients)
def test_gradients_are_those_of_backward(case):
    (dx,) = case.make()
    batch, length, width = dx.shape
    patches, token, positions = (
        mb.zeros(*shape, width, dtype="float64", requires_grad=True)
        for shape in ((batch, length - 1), (1, 1), (1, length))
    )
    x = mb.cat([token.expand(batch, 1, width), patches], 1) + positions
    x.backward(mb.tensor(dx))
    found = nb13.gradients.solution(dx)
    for ours, tensor in zip(found, (patches, token, positions), strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), atol=1e-12)


@cases(nb13.positions)
def test_positions_are_interpolated_as_pytorch_does(case):
    torch = pytest.importorskip("torch")
    table, rows, columns = case.make()
    side = int(np.sqrt(len(table) - 1))
    grid = torch.tensor(table[1:].reshape(1, side, side, -1)).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        grid, size=(rows, columns), mode="bilinear", align_corners=False
    )
    theirs = theirs.permute(0, 2, 3, 1).reshape(rows * columns, -1).numpy()
    ours = nb13.positions.solution(table, rows, columns)
    np.testing.assert_allclose(ours[1:], theirs, atol=1e-12)
    np.testing.assert_array_equal(ours[0], table[0])


@cases(nb13.rollout)
def test_rollout_shares_out_what_the_class_token_has_not_kept(case):
    (maps,) = case.make()
    found = nb13.rollout.solution(maps)
    assert (found >= 0).all() and found.sum() <= 1 - 0.5 ** len(maps) + 1e-12


def test_rollout_is_what_reaches_the_class_token_where_attention_is_all_there_is():
    """Blocks that add half of what they attend to: the outputs are the rollout's."""
    mb.seed(0)
    model = ViT(ViTConfig(8, 4, 3, 3, 2, 8, 12)).eval()
    images = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype("float32")
    with mb.no_grad():
        maps = [weights.numpy()[0] for weights in model.attention_maps(images)]
    tokens = np.random.default_rng(1).standard_normal((5, 4))
    x = tokens
    for weights in maps:
        x = (x + weights.mean(0) @ x) / 2
    share = nb13.rollout.solution(maps)
    unit = np.concatenate([[1 - share.sum()], share])
    np.testing.assert_allclose(unit @ tokens, x[0], atol=1e-6)
