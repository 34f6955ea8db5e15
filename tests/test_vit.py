"""ViT: patches, positions at other sizes, attention maps, and that it learns."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import nn, optim
from minibig.models import ViT, ViTConfig
from minibig.models.vit import bicubic, patches_of

SIZES = {"image_size": 8, "patch_size": 4, "n_classes": 3, "n_layer": 2, "n_head": 2,
         "n_embd": 8, "dim_feedforward": 12}  # fmt: skip


def vit(**changes):
    return ViT(ViTConfig(**{**SIZES, **changes}))


def drawn(**changes):
    """A ViT in float64, in evaluation, with every number drawn at random."""
    model, rng = vit(**changes).to("float64"), np.random.default_rng(5)
    state = model.state_dict()
    model.load_state_dict({n: 0.4 * rng.normal(size=a.shape) for n, a in state.items()})
    return model.eval()


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_patches_are_squares_row_by_row_and_channel_by_channel():
    x = mb.tensor(images(2, 3, 4, 6))
    found = patches_of(x, 2).numpy()
    assert found.shape == (2, 6, 12)
    for i, (row, column) in enumerate(np.ndindex(2, 3)):
        square = x.numpy()[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(found[:, i], square.reshape(2, 12))


@pytest.mark.oracle
def test_patch_embedding_is_a_convolution():
    torch = pytest.importorskip("torch")
    model, x = drawn(), images(2, 3, 8, 8)
    state = model.state_dict()
    weight = torch.tensor(state["patch_embedding.weight"].reshape(8, 3, 4, 4))
    bias = torch.tensor(state["patch_embedding.bias"])
    expected = torch.nn.functional.conv2d(torch.tensor(x), weight, bias, stride=4)
    found = model.patch_embedding(patches_of(mb.tensor(x), 4)).detach().numpy()
    np.testing.assert_allclose(
        found, expected.flatten(2).transpose(1, 2).numpy(), atol=1e-12
    )


@pytest.mark.oracle
@pytest.mark.parametrize("sizes", [(4, 7), (7, 4), (1, 5), (5, 1), (2, 9), (14, 24)])
def test_positions_are_interpolated_as_pytorch_does(sizes):
    torch = pytest.importorskip("torch")
    before, after = sizes
    x = images(1, 2, before, before)
    weights = bicubic(before, after)
    expected = torch.nn.functional.interpolate(
        torch.tensor(x), size=(after, after), mode="bicubic", align_corners=False
    )
    np.testing.assert_allclose(weights @ x @ weights.T, expected.numpy(), atol=1e-12)


def test_interpolated_positions_sum_to_1_and_teach_the_learnt_ones():
    np.testing.assert_allclose(bicubic(3, 8).sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(bicubic(5, 5), np.eye(5))
    model = vit()
    model(images(2, 3, 12, 8).astype("float32")).sum().backward()
    assert (np.abs(model.position_embedding.grad.numpy()).sum(2) > 0).all()


@pytest.mark.parametrize("shape", [(8, 8), (12, 8), (4, 4), (16, 20)])
def test_pictures_of_other_sizes_are_taken(shape):
    model, count = drawn(), (shape[0] // 4) * (shape[1] // 4)
    x = images(2, 3, *shape)
    assert model(x).shape == (2, 3)
    assert model.hidden_states(x).shape == (2, 1 + count, 8)


def test_rows_and_columns_keep_their_places_when_interpolated():
    model = drawn()
    rows = np.zeros((1, 5, 8))
    rows[0, 1:] = np.array([0, 0, 1, 1])[:, None]  # 2 × 2: what grows downwards
    model.load_state_dict(model.state_dict() | {"position_embedding": rows})
    with mb.no_grad():
        found = model.positions(4, 3).numpy()[0, 1:].reshape(4, 3, 8)
    np.testing.assert_allclose(found, found[:, :1].repeat(3, 1), atol=1e-12)
    assert (np.diff(found[:, 0, 0]) > 0).all()


def test_attention_maps_say_where_the_class_token_looks():
    model, x = drawn(), images(2, 3, 8, 12)
    maps = model.attention_maps(x)
    assert len(maps) == 2
    for weights in maps:
        assert weights.shape == (2, 2, 7, 7)
        np.testing.assert_allclose(weights.numpy().sum(3), 1, atol=1e-12)
    block = model.blocks[0]
    with mb.no_grad():
        normed = block.norm1(model._embedded(x))
        v = block.self_attn._heads(normed, None, None)[2]
        y = (maps[0] @ v).transpose(1, 2).reshape(normed.shape)
        np.testing.assert_allclose(
            block.self_attn.out_proj(y).numpy(), block.self_attn(normed).numpy(),
            atol=1e-12,
        )  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
def test_attention_weights_respect_masks_and_memories(causal):
    mb.seed(0)
    layer = nn.MultiheadAttention(8, 2).to("float64")
    x, memory = mb.tensor(images(2, 4, 8)), mb.tensor(images(2, 5, 8, seed=1))
    real = mb.tensor(np.arange(5) < np.array([[5], [3]]))
    weights = layer.attention_weights(
        x, memory, key_padding_mask=real, is_causal=causal
    ).detach()
    assert weights.shape == (2, 2, 4, 5)
    np.testing.assert_allclose(weights.numpy().sum(3), 1, atol=1e-12)
    assert (weights.numpy()[1, :, :, 3:] == 0).all()
    v = layer._heads(x, memory, memory)[2]
    y = layer.out_proj((weights @ v).transpose(1, 2).reshape(x.shape))
    whole = layer(x, memory, key_padding_mask=real, is_causal=causal)
    np.testing.assert_allclose(y.detach().numpy(), whole.detach().numpy(), atol=1e-12)


def test_it_learns_where_a_bright_square_stands():
    mb.seed(2)
    model = vit(n_channels=1, n_classes=4, n_layer=1, n_embd=32)
    optimizer = optim.AdamW(model.parameters(), lr=5e-3)
    rng = np.random.default_rng(0)

    def drawn_batch(count):
        x = rng.standard_normal((count, 1, 8, 8)).astype("float32")
        labels = rng.integers(0, 4, count)
        for picture, label in zip(x[:, 0], labels, strict=True):
            row, column = 4 * (label // 2), 4 * (label % 2)
            picture[row : row + 4, column : column + 4] += 4
        return x, labels

    for _ in range(120):
        x, labels = drawn_batch(32)
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    x, labels = drawn_batch(200)
    assert (model.eval()(x).numpy().argmax(1) == labels).mean() > 0.95


def test_gradients_reach_every_weight_in_float32_on_a_device(device):
    model = vit().to(device)
    y = model(images(2, 3, 12, 8).astype("float32"))
    (y * y).sum().backward()
    assert y.dtype == np.float32 and y.device == device
    for name, p in model.named_parameters():
        assert p.grad.dtype == np.float32 and float(p.grad.abs().sum().item()) > 0, name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: vit(patch_size=3), ValueError, "patch_size 3 does not divide .* 8"),
        (lambda: vit(n_head=3), ValueError, "n_head 3 does not divide n_embd 8"),
        (lambda: vit(n_classes=0), ValueError, "n_classes .*at least 1, not 0"),
        (lambda: vit(image_size=[8, 8]), TypeError, "image_size .*whole number"),
        (lambda: vit()(images(3, 8, 8)), ValueError, r"not \(3, 8, 8\)"),
        (lambda: vit()(images(2, 1, 8, 8)), ValueError, r"3, height.*not \(2, 1, 8"),
        (lambda: vit()(images(2, 3, 8, 9)), ValueError, r"4 pixels .*\(8, 9\)"),
        (lambda: vit()(images(2, 3, 0, 8)), ValueError, r"4 pixels .*\(0, 8\)"),
        (lambda: vit()(images(2, 3, 8, 8)), TypeError, "float32.*float64"),
    ],
)
def test_mistake_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
