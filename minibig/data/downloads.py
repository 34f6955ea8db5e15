"""Files from the network, fetched once by name and held against their checksum."""

from pathlib import Path

from ..files import FileError
from .text import read_text

CACHE = Path("data-cache")  # in the working folder, not in the user's home
_FASHION = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DOWNLOADS = {
    # name: (file name, SHA-256, addresses tried in this order)
    "tiny-shakespeare": (
        "tiny-shakespeare.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
            "tinyshakespeare/input.txt",
            "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
        ),
    ),
    **{
        f"fashion-mnist-{name}": (
            f"fashion-mnist-{name}.gz",
            digest,
            tuple(f"{folder}{name}-ubyte.gz" for folder in _FASHION),
        )
        for name, digest in {
            "train-images-idx3": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1": (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        }.items()
    },
}


class DownloadError(FileError):
    """A file that could not be fetched whole; says what was tried."""


def download(name, folder=CACHE):
    """The path of a file by name, fetched unless it is in `folder` already.

    Raises KeyError for an unknown name, DownloadError where no address answers with the
    right bytes.
    """
    if name not in DOWNLOADS:
        raise KeyError(f"no file is called {name!r}; there is {', '.join(DOWNLOADS)}")
    file_name, digest, addresses = DOWNLOADS[name]
    pooch = _pooch()
    path = _made(Path(folder)) / file_name
    problems = []
    for address in addresses:
        try:
            pooch.retrieve(address, f"sha256:{digest}", fname=file_name, path=folder)
            return path
        except (OSError, ValueError) as error:  # no network; other bytes
            problems.append(f"{address.split('/')[2]}: {_reason(error)}")
    if path.exists():
        problems.append(f"{path} is damaged: it holds other bytes than expected")
    raise DownloadError(
        f"{name} could not be fetched ({'; '.join(problems)}); everything else here "
        "works without a network"
    )


def _made(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{folder} cannot be the folder of downloads: {error.strerror}"
        ) from None
    return folder


def _reason(error):
    """Why one address did not help, in a few words."""
    if isinstance(error, ValueError):
        return "other bytes than expected"
    status = getattr(getattr(error, "response", None), "status_code", None)
    return type(error).__name__ if status is None else f"HTTP status {status}"


def tiny_shakespeare():
    """1,115,394 characters of Shakespeare's plays, as char-rnn and nanoGPT use them."""
    from .corpora import Corpus

    text = read_text(download("tiny-shakespeare"))
    return Corpus("tiny-shakespeare", (text,), ("input.txt",))


def _pooch():
    try:
        import pooch
    except ImportError as error:
        raise DownloadError(
            'fetching files needs pooch: pip install "minibig[data]"'
        ) from error
    pooch.get_logger().setLevel("WARNING")
    return pooch
