"""What a published config.json may say, and what of it we can do."""

from .. import checks

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_CHECKS = {
    bool: checks.switch,
    int: lambda name, value: checks.whole(name, value, 1),
    float: checks.number,
}
PUBLISHED = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}


class Settings:
    """A published config, asked for one setting at a time.

    Every question has the default that `transformers` has. ValueError where a setting
    is missing or asks for what minibig's model does not do.
    """

    def __init__(self, table, where):
        self.table, self.where = table, where

    def get(self, name, default=None):
        """A setting, which must be of the default's kind, or the default."""
        value = self.table.get(name, default)
        if type(default) in _CHECKS:
            self._told(_CHECKS[type(default)], name, value)
        return value

    def make(self, cls, **values):
        """A config of ours, whose errors name the folder."""
        return self._told(cls, **values)

    def _told(self, function, *arguments, **settings):
        try:
            return function(*arguments, **settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.where}: config.json: {error}") from None

    def need(self, name):
        """A setting that must be there."""
        if self.table.get(name) is None:
            raise ValueError(f"{self.where}: config.json lacks {name}")
        return self.table[name]

    def part(self, name):
        """The settings within a setting; none where it is missing or null."""
        table = self.table.get(name)
        if table is not None and not isinstance(table, dict):
            raise ValueError(
                f"{self.where}: config.json: {name} must be a table of settings, not "
                f"{checks.shown(table)}"
            )
        return Settings(table or {}, self.where)

    def __bool__(self):
        return bool(self.table)

    def demand(self, name, *allowed):
        """Nothing, where a setting is missing or one of the `allowed` values."""
        value = self.table.get(name, allowed[0])
        if not any(value == a and type(value) is type(a) for a in allowed):
            said = " or ".join(repr(a) for a in allowed)
            raise ValueError(
                f"{self.where}: config.json has {name} {value!r:.60}; minibig's model "
                f"has {said} alone"
            )

    def activation(self, name, default):
        """Our name of the activation that `name` sets."""
        given = self.table.get(name, default)
        if not isinstance(given, str) or given not in ACTIVATIONS:
            raise ValueError(
                f"{self.where}: the activation {given!r:.60} of config.json ({name}) "
                f"is none of {', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[given]

    def classes(self):
        """The number of labels."""
        labels = self.table.get("id2label")
        count = (len(labels) if isinstance(labels, dict) else 0) or 2
        return self.get("num_labels", count) if self.table.get("num_labels") else count


def label_settings(count):
    """How `transformers` writes the number of classes."""
    return {
        "id2label": {str(i): f"LABEL_{i}" for i in range(count)},
        "label2id": {f"LABEL_{i}": i for i in range(count)},
    }
