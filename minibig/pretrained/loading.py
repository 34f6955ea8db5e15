"""`load` and `save`, the same for every family of models."""

from contextlib import nullcontext

from .. import checks, models
from ..backend import to_device
from ..nn.init import skip_init
from . import bert, gpt2, llama, vit
from .folder import read_arrays, read_config, write_folder
from .names import gather, scatter, tidied, untie
from .settings import Settings

# A family is a file with TYPES (the model_type of its configs), ARCHITECTURES (ours →
# the class in `transformers`), TIED (copies of weights → originals) and the functions
# config_of, least, settings_of, make, tidy_rules, prefix_of, weights_of: see gpt2.py.
FAMILIES = {
    models.GPT: gpt2,
    models.BERT: bert,
    models.BERTForMaskedLM: bert,
    models.BERTForSequenceClassification: bert,
    models.BERTForTokenClassification: bert,
    models.Llama: llama,
    models.ViT: vit,
}
CLASSIFIER = "classifier."


def load(cls, folder, n_classes=None):
    """A model of class `cls`, in evaluation, from a folder in Hugging Face's format.

    config.json and model.safetensors, or the parts that model.safetensors.index.json
    names; float16 and bfloat16 become float32. With `n_classes` the classifier is a new
    one of that many classes, else it is the folder's. Raises FileNotFoundError for
    missing files, FileError for damaged ones and pickles, ValueError for settings that
    the model does not have and, in one error, for all names that do not fit.
    """
    known = _published(cls)
    family = FAMILIES[known]
    table = read_config(folder)
    settings = Settings(table, folder)
    settings.need("model_type")
    settings.demand("model_type", *family.TYPES)
    settings.demand("quantization_config", None)
    if n_classes is not None:
        table["num_labels"] = checks.whole("from_pretrained: n_classes", n_classes, 1)
    config = family.config_of(settings)
    found = tidied(read_arrays(folder), *family.tidy_rules(known))
    if getattr(config, "tied", False):
        untie(found, family.TIED, folder)
    given = (n_classes or 0) * config.n_embd  # asked for by the caller, not the file
    _check_size(family.least(config) - given, config, found, folder)
    with nullcontext() if n_classes else skip_init():
        model = family.make(cls, config, found)
    weights = family.weights_of(model)
    if n_classes is not None:
        _check_classifier(cls, weights)
        weights = [w for w in weights if not w.ours.startswith(CLASSIFIER)]
        found = {n: a for n, a in found.items() if not n.startswith(CLASSIFIER)}
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    state = gather(weights, found, shapes, folder)
    model.load_state_dict(state, strict=n_classes is None)
    return model.eval()


def save(model, folder):
    """Writes config.json and model.safetensors, which `transformers` loads too."""
    known = _published(type(model))
    family = FAMILIES[known]
    state = {name: to_device(a, "cpu") for name, a in model.state_dict().items()}
    arrays = scatter(family.weights_of(model), state)
    settings = family.settings_of(model) | {
        "architectures": [family.ARCHITECTURES[known]],
        "model_type": family.TYPES[0],
    }
    prefix = family.prefix_of(model)
    named = {prefix(name): array for name, array in arrays.items()}
    write_folder(folder, settings, named)


def _check_size(needed, config, found, folder):
    """Refuses, before it is made, a model far larger than what it is to be filled with.

    What differs by less is made, and then `gather` names all that does not fit.
    """
    held = sum(array.size for array in found.values())
    if needed > 2 * held or config.n_layer > len(found):
        raise ValueError(
            f"{folder}: config.json asks for {config.n_layer:,} layers and at least "
            f"{needed:,} numbers, but the weights are {held:,} numbers in "
            f"{len(found):,} arrays: do the two belong together?"
        )


def _published(cls):
    """The class of ours that `cls` is or is built on."""
    return next(c for c in cls.__mro__ if c in FAMILIES)


def _check_classifier(cls, weights):
    if not any(w.ours.startswith(CLASSIFIER) for w in weights):
        raise ValueError(f"{cls.__name__} has no classifier: n_classes means nothing")
