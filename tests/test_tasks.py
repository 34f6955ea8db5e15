"""Named runs of every family: trained, kept in a folder, read back, gone on with."""

import dataclasses
import json

import numpy as np
import pytest

import minibig as mb
from minibig import data, models, nn, recipes
from minibig.files import FileError
from minibig.presets import PRESETS
from minibig.tasks import (
    CNNPreset,
    DigitsPreset,
    LanguagePreset,
    MLPPreset,
    ViTPreset,
)
from minibig.tasks import Preset as Base
from minibig.tasks.folder import MODELS
from minibig.training import Evaluation, classification_loss

NUMBERS = {
    "about": "a test", "batch_size": 16, "steps": 6, "lr": 1e-2, "min_lr": 1e-3,
    "warmup": 1, "degrees": 5, "shift": 0.5,
}  # fmt: skip
TINY = {
    "mlp": MLPPreset(hidden=(12, 12), batch_norm=True, dropout=0.1, **NUMBERS),
    "lenet": CNNPreset(widths=(2, 3), hidden=(8, 8), dropout=0.1, **NUMBERS),
    "vit": ViTPreset(
        n_layer=1, n_head=2, n_embd=8, dim_feedforward=8, patch_size=4, **NUMBERS
    ),
}
family = pytest.mark.parametrize("kind", TINY)


def train(kind, folder, **changes):
    preset = dataclasses.replace(TINY[kind], **changes)
    return recipes.train(preset, folder, say=lambda line: None)


def logits(model, images=None):
    if images is None:
        images = mb.tensor(data.digit_images().validation.features[:20])
    with mb.no_grad():
        return model.eval()(images).numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runs = {}
    for kind in TINY:
        folder = tmp_path_factory.mktemp(kind)
        runs[kind] = train(kind, folder), folder
    return runs


@family
def test_folder_gives_back_the_same_model(kind, trained):
    run, folder = trained[kind]
    model, tokenizer = recipes.load_model(folder)
    assert tokenizer is None and not (folder / "tokenizer.json").exists()
    assert type(model) is type(run.model) is MODELS[kind][0]
    assert model.config == run.model.config and not model.training
    np.testing.assert_array_equal(logits(model), logits(run.model))


@family
def test_config_names_the_model_its_preset_and_its_results(kind, trained):
    run, folder = trained[kind]
    noted = json.loads((folder / "config.json").read_text())
    assert noted["model"] == kind and noted["results"] == run.results
    ours = dataclasses.asdict(TINY[kind])
    assert noted["preset"] == json.loads(json.dumps(ours))


@family
def test_results_are_those_of_the_test_rows_and_watching_never_sees_them(kind, trained):
    run, _ = trained[kind]
    digits = data.digit_images()
    with mb.no_grad():
        scores = run.model.eval()(mb.tensor(digits.test.features)).numpy()
    right = (scores.argmax(1) == digits.test.targets).mean()
    assert run.results["accuracy"] == pytest.approx(right)
    task = recipes.prepare(TINY[kind])
    assert isinstance(task.watching, Evaluation)
    seen = np.concatenate([images for images, _ in task.watching.loader])
    np.testing.assert_array_equal(seen, digits.validation.features)
    assert len(task.training) == -(-len(digits.train.targets) // 16)


@family
def test_an_interrupted_run_ends_as_a_whole_one(kind, trained, tmp_path, monkeypatch):
    def stop(run):
        if run.step == 3:
            raise KeyboardInterrupt

    fit = recipes.fit
    with monkeypatch.context() as patch:
        patch.setattr(
            recipes,
            "fit",
            lambda *a, **k: fit(*a, **{"save_every": 2, "callbacks": [stop]}, **k),
        )
        with pytest.raises(KeyboardInterrupt):
            train(kind, tmp_path)
    resumed, (whole, _) = train(kind, tmp_path), trained[kind]
    assert resumed.history.loss == whole.history.loss
    assert resumed.results == whole.results
    np.testing.assert_array_equal(logits(resumed.model), logits(whole.model))


@family
def test_the_seed_decides_weights_and_order_and_another_run_is_refused(kind, trained):
    _, folder = trained[kind]
    mb.seed(5)
    mb.randn(3)
    first, again = (recipes.prepare(TINY[kind]) for _ in range(2))
    np.testing.assert_array_equal(logits(first.model), logits(again.model))
    with pytest.raises(ValueError, match="belongs to another run"):
        train(kind, folder, seed=1)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(kind, folder, shift=0.25)


def test_the_loss_is_smoothed_in_training_alone():
    plain, smooth = (
        recipes.prepare(dataclasses.replace(TINY["mlp"], label_smoothing=share))
        for share in (0.0, 0.2)
    )
    for task in (plain, smooth):
        task.model.eval()
    images, labels = map(mb.tensor, data.digit_images().validation)
    expected = classification_loss(plain.model, images, labels).item()
    assert plain.loss(plain.model, images, labels).item() == pytest.approx(expected)
    scores = logits(plain.model, images).astype("float64")
    spread = (np.log(np.exp(scores).sum(1)) - scores.mean(1)).mean()
    found = smooth.loss(smooth.model, images, labels).item()
    assert found == pytest.approx(0.8 * expected + 0.2 * spread, abs=1e-5)
    assert abs(spread - expected) > 1e-3
    assert smooth.watching(smooth.model)["loss"] == pytest.approx(expected, rel=1e-5)


def test_pictures_are_changed_only_where_the_preset_says_so():
    still = dataclasses.replace(TINY["mlp"], degrees=0, shift=0)
    assert isinstance(recipes.prepare(still).training, data.ArrayBatches)
    assert isinstance(recipes.prepare(TINY["mlp"]).training, data.Augmented)


def test_only_a_language_model_takes_a_text(tmp_path):
    with pytest.raises(TypeError, match="MLPPreset has data of its own"):
        recipes.train(TINY["mlp"], tmp_path / "new", text="abc", say=print)
    assert not (tmp_path / "new").exists()


def test_a_model_of_no_known_kind_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="a model is one of mlp, lenet"):
        recipes.save_model(nn.Linear(2, 2), None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_size_are_one_sentence(trained, tmp_path):
    run, _ = trained["mlp"]
    recipes.save_model(run.model, None, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"sizes": [64, 3, 10]}))
    with pytest.raises(FileError, match="do not go together"):
        recipes.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model": ["mlp"]}))
    with pytest.raises(FileError, match="not of a model from here"):
        recipes.load_model(tmp_path)


def test_every_model_class_has_its_kind():
    unkept = {models.BERT, models.BERTForTokenClassification}  # parts of others' runs
    named = {m for m in vars(models).values() if isinstance(m, type)}
    named = {m for m in named if issubclass(m, nn.Module)}
    assert {model for model, _ in MODELS.values()} == named - unkept


def test_a_family_must_say_how_to_prepare():
    numbers = {k: v for k, v in NUMBERS.items() if k not in ("degrees", "shift")}
    for preset in (Base(**numbers), DigitsPreset(**numbers)):
        with pytest.raises(NotImplementedError, match="must say how"):
            preset.prepare()
    assert Base(**numbers).describe({"error": 0.25}) == "error 0.2500"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_written_into_json(name):
    preset = PRESETS[name]
    assert preset.about and preset.warmup < preset.steps and preset.min_lr < preset.lr
    fields = json.loads(json.dumps(dataclasses.asdict(preset)))
    for key in fields.keys() & {"hidden", "widths"}:
        fields[key] = tuple(fields[key])
    assert type(preset)(**fields) == preset
    assert preset.language is isinstance(preset, LanguagePreset)


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_digits_presets_have_their_published_sizes(name):
    sizes = {"mlp": 38_410, "cnn": 60_670, "vit": 58_570}
    model = recipes.prepare(PRESETS[name]).model
    assert model.num_parameters() == sizes[name]
