"""What models check of what they are given, in one place."""

from ..creation import tensor


def checked_ids(name, ids, device, most=None, start=0):
    """ids as a Tensor (B, T) on a device.

    ValueError for another shape, or where `start` tokens and these are above `most`.
    """
    ids = tensor(ids, device=device)
    if ids.ndim != 2 or not ids.shape[1]:
        raise ValueError(f"{name} takes ids of (batch, length), not {ids.shape}")
    if most is not None and start + ids.shape[1] > most:
        raise ValueError(
            f"{name}: {start + ids.shape[1]} tokens are more than the context of {most}"
        )
    return ids


def checked_mask(name, mask, shape, device):
    """A padding mask (B, S) as booleans, True = real token; None stays None.

    Whole numbers count as in Hugging Face's files: 1 = real, 0 = padding.
    """
    if mask is None:
        return None
    mask = tensor(mask, device=device)
    if mask.dtype.kind not in "biu" or mask.shape != tuple(shape):
        raise ValueError(
            f"{name}: the padding mask is {mask.dtype} of {mask.shape}; needed are "
            f"booleans (True = real token) of {tuple(shape)}, (batch, tokens)"
        )
    return mask != 0
