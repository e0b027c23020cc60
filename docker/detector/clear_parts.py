"""What lies behind the clear parts of a picture: a ground that its own colours stand out from.

Stickers are white letters on nothing as often as black ones: on white, the former are gone.
"""

import numpy as np
from PIL import Image

# In order of preference; grey is for pictures that have both white and black beside clear parts.
GROUNDS = (255, 0, 128)
# Levels of grey by which something must differ from what is behind it to be seen.
CONTRAST = 64
# Another ground than white has to show so much more of what touches clear parts.
CLEARLY_BETTER = 0.05


def on_ground(layered: Image.Image) -> Image.Image:
    """An RGBA picture as RGB, laid on white, black or grey."""
    ground = Image.new("RGBA", layered.size, (best_ground(layered),) * 3 + (255,))
    return Image.alpha_composite(ground, layered).convert("RGB")


def best_ground(layered: Image.Image) -> int:
    """The level of grey, one of GROUNDS, that hides least of what stands beside clear parts; white where none does."""
    alpha = np.asarray(layered.getchannel("A"))
    solid = alpha > max(1, int(alpha.max())) / 2
    edge = solid & ~_inner(solid)
    if not edge.any():
        return GROUNDS[0]
    levels = np.asarray(layered.convert("RGB").convert("L"), dtype=np.int16)[edge]
    hidden = [float((np.abs(levels - ground) < CONTRAST).mean()) for ground in GROUNDS]
    best = min(hidden)
    return next(
        ground
        for ground, share in zip(GROUNDS, hidden, strict=True)
        if share <= best + CLEARLY_BETTER * (ground == 255)
    )


def _inner(solid: np.ndarray) -> np.ndarray:
    """Where all four neighbours are solid, too; beyond the picture's edge all counts as solid."""
    padded = np.pad(solid, 1, constant_values=True)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
