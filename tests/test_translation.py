"""The encoder–decoder Transformer: what it sees, its cache, greedy and beam search."""

import functools
import itertools
import math

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import optim
from minibig.beam_search import Best, beam_search, log_softmax
from minibig.models import Transformer, TransformerConfig

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 8, "dim_feedforward": 12}
V = 6
PAD, BEGIN, END = 0, 1, 2


def transformer(vocab_size=V, **changes):
    return Transformer(TransformerConfig(vocab_size, **{**SIZES, **changes}))


def drawn(seed=5, **changes):
    """A Transformer in float64, in evaluation, with strong weights drawn at random."""
    model, rng = transformer(**changes).to("float64"), np.random.default_rng(seed)
    state = model.state_dict()
    model.load_state_dict({n: 0.5 * rng.normal(size=a.shape) for n, a in state.items()})
    return model.eval()


def ids_of(*shape, seed=0, low=3):
    return np.random.default_rng(seed).integers(low, V, shape)


# ---- what it computes ---------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")  # of PyTorch
@pytest.mark.parametrize("norm_first", [False, True])
def test_logits_equal_pytorchs_transformer(norm_first):
    torch = pytest.importorskip("torch")
    model = drawn(norm_first=norm_first)
    twin = torch.nn.Transformer(
        8, 2, 2, 2, 12, 0.0, norm_first=norm_first, batch_first=True,
        dtype=torch.float64,
    ).eval()  # fmt: skip
    state, found = model.state_dict(), {}
    for stack, layers in (("encoder", model.encoder), ("decoder", model.decoder)):
        for i, layer in enumerate(layers):
            for name, array in layer.state_dict().items():
                name = name.replace("cross_attn", "multihead_attn")
                name = name.replace("in_proj.", "in_proj_").replace("feed_forward.", "")
                found[f"{stack}.layers.{i}.{name}"] = array
        for kind, plain in (("weight", np.ones(8)), ("bias", np.zeros(8))):
            array = state.get(f"{stack}_norm.{kind}", plain)
            found[f"{stack}.norm.{kind}"] = array
    if not norm_first:  # theirs ends in norms also then
        twin.encoder.norm = twin.decoder.norm = None
        found = {n: a for n, a in found.items() if not n.startswith(
            ("encoder.norm", "decoder.norm"))}  # fmt: skip
    twin.load_state_dict({n: torch.tensor(a) for n, a in found.items()})
    source, target = ids_of(3, 5), ids_of(3, 4, seed=1)
    source[1, 3:] = PAD
    table = torch.tensor(state["source_embedding.weight"])
    waves = torch.tensor(mb.nn.sinusoidal_positions(5, 8, dtype="float64").numpy())
    hidden = twin(
        table[torch.tensor(source)] * math.sqrt(8) + waves,
        table[torch.tensor(target)] * math.sqrt(8) + waves[:4],
        tgt_mask=torch.ones(4, 4, dtype=torch.bool).triu(1),
        src_key_padding_mask=torch.tensor(source == PAD),
        memory_key_padding_mask=torch.tensor(source == PAD),
        tgt_is_causal=True,
    )  # fmt: skip
    expected = (hidden @ table.T).detach().numpy()
    np.testing.assert_allclose(
        model(source, target).detach().numpy(), expected, atol=1e-10
    )


def test_a_token_changes_no_logit_before_it_and_padding_none():
    model, source, target = drawn(), ids_of(2, 4), ids_of(2, 5, seed=1)
    before = model(source, target).numpy()
    for place in range(5):
        changed = target.copy()
        changed[:, place] = 3 + (target[:, place] - 2) % 3
        after = model(source, changed).numpy()
        np.testing.assert_array_equal(after[:, :place], before[:, :place])
        assert np.abs(after[:, place] - before[:, place]).max() > 1e-6
    longer = np.concatenate([source, np.zeros((2, 3), int)], 1)
    np.testing.assert_allclose(model(longer, target).numpy(), before, atol=1e-12)
    mask = np.ones((2, 7), bool)
    assert np.abs(model(longer, target, mask).numpy() - before).max() > 1e-6


def test_target_mask_hides_tokens():
    model, source, target = drawn(), ids_of(2, 4), ids_of(2, 5, seed=1)
    mask = np.ones((2, 5), bool)
    mask[:, 1] = False
    found = model(source, target, target_mask=mask).numpy()
    other = target.copy()
    other[:, 1] = 3 + (target[:, 1] - 2) % 3
    changed = model(source, other, target_mask=mask).numpy()
    np.testing.assert_array_equal(changed[:, 2:], found[:, 2:])


@pytest.mark.parametrize(
    ("changes", "tables"),
    [
        ({}, {"source_embedding": 6}),
        ({"target_vocab_size": 9}, {"source_embedding": 6, "target_embedding": 9}),
        ({"tied": False}, {"source_embedding": 6, "target_embedding": 6, "output": 6}),
    ],
)
def test_tied_weights_are_one(changes, tables):
    model = transformer(**changes)
    found = {
        name.partition(".")[0]: len(array)
        for name, array in model.state_dict().items()
        if name.partition(".")[0] in ("source_embedding", "target_embedding", "output")
    }
    assert found == tables
    size = changes.get("target_vocab_size", V)
    assert model(ids_of(2, 3), ids_of(2, 4)).shape == (2, 4, size)


def test_embeddings_enter_with_about_unit_variance():
    model = transformer(vocab_size=500, n_embd=64)
    x = model.source_embedding(np.arange(500)) * math.sqrt(64)
    assert x.numpy().std() == pytest.approx(1, abs=0.03)


@functools.cache
def trained(steps):
    """A Transformer that has learnt for so long to turn texts of 1 to 4 letters round.

    In float64, in evaluation. After 60 steps it has doubts, after 400 hardly any.
    """
    mb.seed(1)
    model = transformer(n_layer=1, n_embd=32, dim_feedforward=64, dropout=0.0)
    optimizer = optim.AdamW(model.parameters(), lr=2e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        source, target = turned_round(rng, 32)
        begun = np.concatenate([np.full((32, 1), BEGIN), target[:, :-1]], 1)
        optimizer.zero_grad()
        F.cross_entropy(model(source, begun), target, ignore_index=PAD).backward()
        optimizer.step()
    return model.to("float64").eval()


def turned_round(rng, count):
    """Sources (count, 4), padded, and their targets (count, 5), which END ends."""
    source, target = np.zeros((count, 4), int), np.zeros((count, 5), int)
    for row, text in zip(source, target, strict=True):
        letters = rng.integers(3, V, rng.integers(1, 5))
        row[: len(letters)] = letters
        text[: len(letters) + 1] = [*letters[::-1], END]
    return source, target


@pytest.mark.parametrize("beams", [1, 3])
def test_it_learns_to_turn_texts_round(beams):
    source, expected = turned_round(np.random.default_rng(7), 64)
    found = trained(400).generate(source, 7, beams=beams).numpy()
    found = np.pad(found, ((0, 0), (0, 7 - found.shape[1])))
    assert (found[:, :5] == expected).all(1).mean() > 0.9


# ---- writing ------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_cache_changes_nothing(beams):
    source = turned_round(np.random.default_rng(3), 12)[0]
    for model in (trained(60), trained(400), drawn(norm_first=True, n_layer=3)):
        cached = model.generate(source, 9, beams=beams)
        plain = model.generate(source, 9, beams=beams, use_cache=False)
        assert cached.tolist() == plain.tolist()
    texts = trained(60).generate(source, 9, beams=beams).tolist()
    assert len(set(map(tuple, texts))) > 4  # they depend on what is read


def test_memory_is_projected_once(monkeypatch):
    model, widths = drawn(), []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, w, b=None: (
        widths.append((x.shape[1], w.shape)), linear(x, w, b))[1])  # fmt: skip
    model.generate(ids_of(2, 5), 6)
    heads = [shape for length, shape in widths if length == 5 and shape == (8, 8)]
    # Out-projections of 2 encoder layers; keys and values of 2 decoder layers.
    assert len(heads) == 2 + 2 * 2


def test_rows_do_not_see_each_other():
    model, source = trained(60), turned_round(np.random.default_rng(4), 8)[0]
    for beams in (1, 3):
        together = model.generate(source, 7, beams=beams).numpy()
        for row, text in zip(source, together, strict=True):
            alone = model.generate(row[row != PAD], 7, beams=beams).numpy()
            assert alone.ndim == 1
            np.testing.assert_array_equal(text[: len(alone)], alone)
            assert (text[len(alone) :] == PAD).all()


def test_greedy_takes_the_likeliest_token_until_the_end():
    model, source = trained(60), turned_round(np.random.default_rng(5), 12)[0]
    found, ends = model.generate(source, 3).numpy(), 0
    for row, text in zip(source, found, strict=True):
        ids = [BEGIN]
        while len(ids) < 4 and ids[-1] != END:
            ids.append(model(row[None], [ids]).numpy()[0, -1].argmax())
        ends += ids[-1] == END
        assert text.tolist() == ids[1:] + [PAD] * (len(text) - len(ids) + 1)
    assert 0 < ends < 12  # some reach their end, some do not


def scored(model, row, text, alpha):
    """log P of a text over the length penalty, computed in one piece."""
    logits = model(row[None], [[BEGIN, *text[:-1]]]).numpy()[0]
    total = log_softmax(logits)[np.arange(len(text)), list(text)].sum()
    return total / ((5 + len(text)) / 6) ** alpha


def every_text(longest):
    """All texts: ended by END and without it inside, or as long as may be."""
    others = [i for i in range(V) if i != END]
    for n in range(longest):
        for text in itertools.product(others, repeat=n):
            yield (*text, END)
    yield from itertools.product(others, repeat=longest)


@pytest.mark.parametrize("steps", [0, 60, 400])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
def test_wide_beams_find_the_best_of_all_texts(alpha, steps):
    model, source = trained(steps), np.array([[3, 4], [5, PAD], [4, 4]])
    found = model.generate(source, 3, beams=25, length_penalty=alpha).numpy()
    for row, text in zip(source, found, strict=True):
        with mb.no_grad():
            scores = {t: scored(model, row, t, alpha) for t in every_text(3)}
        best = max(scores, key=scores.get)
        assert text.tolist() == [*best, *[PAD] * (len(text) - len(best))]


def table_step(table):
    """A model that knows the last token alone: logits are a table's logarithms."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(table))
    return lambda ids, parents: logits[ids[:, -1]]


# From BEGIN (0) "a" (2) looks better, but "b" (3) leads on to a sure end (1).
TRAP = [[0, 0, 0.6, 0.4], [0, 1, 0, 0], [0, 0.3, 0.4, 0.3], [0, 0.95, 0, 0.05]]


def search(beams, alpha=0.0, most=4):
    return beam_search(
        table_step(TRAP), 1, most, beams=beams, begin_id=0, end_id=1, pad_id=-1,
        length_penalty=alpha,
    ).tolist()  # fmt: skip


def test_two_beams_see_what_greed_misses():
    assert search(1)[0][0] == 2
    assert search(2) == [[3, 1]]


def test_length_penalty_prefers_longer_texts():
    """0.4 · 0.95 for two tokens against less for three or more."""
    lengths = [len(search(16, alpha)[0]) for alpha in (0.0, 1.0, 8.0)]
    assert lengths[0] == 2 and lengths == sorted(lengths) and lengths[-1] == 4


def test_length_penalty_is_that_of_the_paper():
    for alpha in (0.5, 1.0):
        best = Best(1, alpha, 20)
        best.add(np.zeros((1, 1, 8), int), np.array([[-3.0]]), np.array([[True]]), 7)
        assert best.scores[0] == pytest.approx(-3 / 2**alpha)
        assert best.penalty(1) == 1


def test_search_works_on_a_device(device):
    model, source = drawn(), ids_of(2, 4)
    expected = model.generate(source, 5, beams=3).tolist()
    assert model.to(device).generate(source, 5, beams=3).tolist() == expected


# ---- mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: transformer(n_head=3), ValueError, "n_embd 8 .*multiple of n_head 3"),
        (lambda: transformer(n_embd=7, n_head=1), ValueError, "n_embd 7 must be even"),
        (lambda: transformer(n_layer=0), ValueError, "n_layer .*at least 1, not 0"),
        (lambda: transformer(dropout=1.0), ValueError, "dropout .*not 1.0"),
        (lambda: transformer(activation="swish"), ValueError, "activation .*'swish'"),
        (lambda: transformer(end_id=6), ValueError, "end_id 6 is outside .* of 6"),
        (lambda: transformer(tied=1), TypeError, "tied must be True or False"),
        (lambda: transformer()([[6]], [[1]]), IndexError, "id 6 is outside 0 … 5"),
        (lambda: transformer()([3], [[1]]), ValueError, r"not \(1,\)"),
        (lambda: transformer()([[3]], [[]]), ValueError, r"not \(1, 0\)"),
        (lambda: transformer()([[3]], [[1]], [[True, True]]), ValueError,
         r"bool of \(1, 2\).*\(1, 1\)"),
        (lambda: transformer().generate([[3]], 0), ValueError, "at least 1, not 0"),
        (lambda: transformer().generate([[3]], 2, beams=0), ValueError, "beams"),
        (lambda: transformer().generate([[3]], 2, beams=2, length_penalty=-1.0),
         ValueError, "length_penalty .*not -1.0"),
    ],
)  # fmt: skip
def test_mistake_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_damaged_weights_stop_the_search():
    model = drawn()
    model.state_dict()["source_embedding.weight"][4] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        model.generate([[3, 4]], 3)
