"""RNN and LSTM: names, lengths, directions, layers."""

import math

import numpy as np
import pytest

import minibig as mb
from minibig import backend, nn, optim, threads
from minibig import functional as F
from minibig.ops import recurrence

LENGTHS = [2, 5, 1]


def rows(width=4, seed=0, dtype="float64"):
    x = np.random.default_rng(seed).standard_normal((3, 5, width))
    return mb.tensor(x.astype(dtype))


def drawn(layer):
    """The layer in float64, so that results can be compared to the last digits."""
    return layer.to("float64")


def last_of(states):
    return [
        s.detach().numpy() for s in (states if type(states) is tuple else (states,))
    ]


LAYERS = {
    "RNN": lambda: nn.RNN(4, 3, 2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(4, 3, 2, bidirectional=True),
}


def test_parameters_bear_pytorchs_names_and_shapes():
    state = nn.LSTM(4, 3, 2, bidirectional=True).state_dict()
    expected = {
        f"{kind}_l{layer}{direction}": shape
        for layer, width in ((0, 4), (1, 6))
        for direction in ("", "_reverse")
        for kind, shape in (
            ("weight_ih", (12, width)), ("weight_hh", (12, 3)), ("bias_ih", (12,)),
            ("bias_hh", (12,)),
        )
    }  # fmt: skip
    assert {name: array.shape for name, array in state.items()} == expected
    assert list(state) == list(expected)
    assert list(nn.RNN(4, 3, bias=False).state_dict()) == [
        "weight_ih_l0", "weight_hh_l0",
    ]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS, [5, 4, 4]])
def test_outputs_and_states_equal_pytorch_with_packed_sequences(
    kind, bidirectional, lengths
):
    torch = pytest.importorskip("torch")
    ours = drawn(getattr(nn, kind)(4, 3, 3, bidirectional=bidirectional))
    theirs = getattr(torch.nn, kind)(
        4, 3, 3, batch_first=True, bidirectional=bidirectional, dtype=torch.float64
    )
    state = ours.state_dict()
    theirs.load_state_dict({name: torch.tensor(a) for name, a in state.items()})
    x = rows()
    given = torch.tensor(x.numpy().copy())
    tools = torch.nn.utils.rnn
    if lengths:
        given = tools.pack_padded_sequence(
            given, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
    y, last = theirs(given)
    if lengths:
        y = tools.pad_packed_sequence(y, batch_first=True, total_length=5)[0]
    found, states = ours(x, lengths=lengths)
    np.testing.assert_allclose(found.detach().numpy(), y.detach().numpy(), atol=1e-12)
    for a, b in zip(last_of(states), last_of(last), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_what_stands_beyond_a_length_changes_nothing(kind):
    layer, x = drawn(LAYERS[kind]()), rows()
    other = x.numpy().copy()
    for row, n in enumerate(LENGTHS):
        other[row, n:] = np.nan
    results = [layer(mb.tensor(a), lengths=LENGTHS) for a in (x.numpy(), other)]
    for y, states in results:
        for row, n in enumerate(LENGTHS):
            assert not y.numpy()[row, n:].any()
            alone, last = layer(x[row : row + 1, :n])
            np.testing.assert_allclose(y.numpy()[row, :n], alone.numpy()[0], atol=1e-12)
            for a, b in zip(last_of(states), last_of(last), strict=True):
                np.testing.assert_allclose(a[:, row], b[:, 0], atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_beyond_a_length_are_zero(kind):
    layer, x = drawn(LAYERS[kind]()), rows().requires_grad_()
    y, _ = layer(x, lengths=mb.tensor(LENGTHS))
    y.exp().sum().backward()
    for row, n in enumerate(LENGTHS):
        assert not x.grad.numpy()[row, n:].any() and x.grad.numpy()[row, :n].all()


@pytest.mark.parametrize("kind", LAYERS)
def test_a_sequence_can_be_read_in_two_parts(kind):
    layer = drawn(getattr(nn, kind)(4, 3, 2))
    x = rows()
    whole, last = layer(x)
    first, states = layer(x[:, :2])
    second, states = layer(x[:, 2:], states)
    parts = mb.cat([first, second], dim=1)
    np.testing.assert_allclose(
        parts.detach().numpy(), whole.detach().numpy(), atol=1e-12
    )
    for a, b in zip(last_of(states), last_of(last), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_dropout_stands_between_the_layers_in_training_alone():
    layer = drawn(nn.RNN(4, 3, 2, dropout=1.0))
    x = rows()
    first = [getattr(layer, f"{name}_l0") for name in layer._shapes(1)]
    alone, _ = F.rnn(x, mb.zeros(3, 3, dtype="float64"), *first)
    y, h_n = layer(x)
    np.testing.assert_array_equal(
        h_n[0].detach().numpy(), alone[:, -1].detach().numpy()
    )
    assert not np.array_equal(y.detach().numpy(), layer.eval()(x)[0].detach().numpy())


def test_weights_start_as_pytorchs():
    for name, p in nn.LSTM(30, 100).named_parameters():
        assert np.abs(p.numpy()).max() <= 0.1 * (1 + 1e-6), name
        assert p.numpy().std() == pytest.approx(0.1 / math.sqrt(3), rel=0.1), name


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_shares_of_the_batch_change_nothing(kind, lengths, monkeypatch):
    def run():
        mb.seed(3)
        layer, x = drawn(LAYERS[kind]()), rows().requires_grad_()
        y, states = layer(x, lengths=lengths)
        (y.exp().sum() + sum((s * s).sum() for s in states)).backward()
        return [
            y.numpy(),
            x.grad.numpy(),
            *(p.grad.numpy() for p in layer.parameters()),
        ]

    whole = run()
    monkeypatch.setattr(recurrence, "SHARED", 1)
    monkeypatch.setattr(backend, "BLOCK", 3)
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    try:
        shared = run()
    finally:
        threads.set_num_threads(before)
    for a, b in zip(whole, shared, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_layers_train_on_the_device_as_on_the_cpu(kind, strict):
    def run(device):
        mb.seed(2)
        layer = LAYERS[kind]().to(device)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        x = rows(dtype="float32").to(device)
        for _ in range(2):
            optimizer.zero_grad()
            layer(x, lengths=LENGTHS)[0].exp().sum().backward()
            optimizer.step()
        return [p.numpy() for p in layer.parameters()]

    for a, b in zip(run("cpu"), run("cuda"), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.LSTM(4, 0), "hidden_size .*not 0"),
        (lambda: nn.RNN(4, 3, nonlinearity="gelu"), 'nonlinearity .*"relu"'),
        (lambda: nn.RNN(4, 3, dropout=2), "dropout .*2"),
        (lambda: nn.LSTM(4, 3)(mb.ones(2, 5)), r"\(batch, length, 4\), not \(2, 5\)"),
        (lambda: nn.LSTM(4, 3)(mb.ones(1, 2, 5)), r"4\), not \(1, 2, 5\)"),
        (lambda: nn.RNN(4, 3)(mb.ones(1, 2, 4), mb.ones(1, 3)), r"\(1, 1, 3\)"),
        (lambda: nn.RNN(4, 3)(mb.ones(1, 2, 4), lengths=[3]), "to 3, .* 1 to 2"),
    ],
)
def test_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_state_that_is_no_pair_is_refused():
    with pytest.raises(TypeError, match="pair"):
        nn.LSTM(4, 3)(mb.ones(1, 2, 4), mb.zeros(1, 1, 3))
