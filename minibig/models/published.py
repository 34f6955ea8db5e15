"""Models whose weights others have published, in Hugging Face's names."""

from .. import nn


class Published(nn.Module):
    """A model that reads and writes folders of config.json and model.safetensors."""

    @classmethod
    def from_pretrained(cls, folder, *, n_classes=None):
        """The model in `folder`, in evaluation; see `minibig.pretrained.load`.

        `n_classes` starts a new classifier of so many classes on a published body.
        """
        from ..pretrained import load  # above the models: imported when asked for

        return load(cls, folder, n_classes)

    def save_pretrained(self, folder):
        """Writes the model into `folder`, for here and for `transformers`."""
        from ..pretrained import save

        save(self, folder)
