"""The order in which people read the lines of a picture: columns, panels, rows in pieces, tilt, turned pictures.

Lines are laid straight along the direction in which most of them run. Lines that follow one another with nothing
beside them are a block; what stays is cut along the gaps between blocks, the clearest first (a recursive X-Y cut, Nagy
and Seth 1984). A frame drawn between two panels is a gap clearer than any empty space.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Boxes stand out a little over their letters: so much of their height is taken off above and below.
TRIM = 0.15
# In line heights: pieces of a row stand no further apart, lines of a block follow no later; from so much on, rows of
# panels are apart whatever is between columns.
SAME_ROW, SAME_BLOCK, PANELS_APART = 0.4, 1.0, 3.0
# Heights of two lines of a block differ by no more than this factor.
SAME_HEIGHT = 1.7
# In line heights: gaps that differ by less are the same.
ALIKE = 0.1
# So much of the smaller of two ranges is shared where one block is above, or beside, the other.
BESIDE = 0.3
# Columns are read one after another where so many of their blocks have another beside them; a chat has few.
SIDE_BY_SIDE = 0.5
# A frame: so many levels of grey (0 to 255) of difference along so much of the way between two panels, and along so
# much more of it than across.
FRAME_LEVELS, FRAME_SHARE, FRAME_LEAD = 30, 0.8, 0.4
FRAME_SIDE = 400  # pixels; the picture is looked at this small

Frames = Callable[[list["Block"], list["Block"], int], float]


@dataclass(frozen=True)
class Block:
    """An upright rectangle around lines, in reading order."""

    low: tuple[float, float]  # left and top
    high: tuple[float, float]  # right and bottom
    height: float  # of a line in it
    lines: tuple[int, ...]

    def gap(self, other: "Block", axis: int) -> float:
        """From here to `other` along x (0) or y (1), negative where they overlap."""
        return other.low[axis] - self.high[axis]

    def shares(self, other: "Block", axis: int) -> float:
        """How much of the smaller of both ranges is in the other's."""
        shared = min(self.high[axis], other.high[axis]) - max(self.low[axis], other.low[axis])
        return shared / max(1e-6, min(self.high[axis] - self.low[axis], other.high[axis] - other.low[axis]))


def reading_order(boxes: list[np.ndarray], directions: list[float], grey: np.ndarray | None = None) -> list[int]:
    """Numbers of the lines in reading order.

    `boxes` are corners [4, 2] (x, y), in pixels; `directions` the angles along which each line is read, in degrees from
    x towards y; `grey` the picture, [height, width], where frames are looked for if the lines are not tilted.
    """
    if len(boxes) < 2:
        return list(range(len(boxes)))
    angle = main_direction(boxes, directions)
    turns = round(angle / 90)
    tilt = angle - 90 * turns
    centre = np.zeros(2) if grey is None else np.array([grey.shape[1], grey.shape[0]]) / 2
    turn = _rotation(-90 * turns) @ _rotation(-tilt)
    straight = [(box - centre) @ turn.T for box in boxes]
    found_frame: Frames = _no_frame
    if grey is not None and abs(tilt) < 1:
        turned = np.rot90(grey, turns)  # against the clock, as y points down
        shift = np.array([turned.shape[1], turned.shape[0]]) / 2
        straight = [box + shift for box in straight]
        found_frame = PictureFrames(turned).between
    blocks = [_block_of(box, number) for number, box in enumerate(straight)]
    return [line for block in _ordered(_merged(blocks), found_frame) for line in block.lines]


def main_direction(boxes: list[np.ndarray], directions: list[float]) -> float:
    """Degrees, -180 to 180: the quarter in which the longest lines run, by the median of their angles in it."""
    lengths = np.array([max(np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[2] - box[1])) for box in boxes])
    angles = np.array(directions)
    quarters = np.round(angles / 90).astype(int) % 4
    main = int(np.bincount(quarters, lengths, minlength=4).argmax())
    off = (angles - 90 * main + 180) % 360 - 180
    inside = np.flatnonzero((quarters == main) & (lengths >= lengths[quarters == main].max() / 2))
    angle = float(np.median(off[inside])) + 90 * main
    return (angle + 180) % 360 - 180


def _rotation(degrees: float) -> np.ndarray:
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _block_of(box: np.ndarray, number: int) -> Block:
    (left, top), (right, bottom) = box.min(0), box.max(0)
    # Of a box that is not quite straight, the height between the middles of its long sides.
    height = max(1.0, float(min(np.linalg.norm(box[3] - box[0]), np.linalg.norm(box[1] - box[0]), bottom - top)))
    middle, half = (top + bottom) / 2, height * (0.5 - TRIM)
    return Block((float(left), float(middle - half)), (float(right), float(middle + half)), height, (number,))


def _together(blocks: list[Block]) -> Block:
    low = (min(block.low[0] for block in blocks), min(block.low[1] for block in blocks))
    high = (max(block.high[0] for block in blocks), max(block.high[1] for block in blocks))
    height = float(np.median([block.height for block in blocks]))
    return Block(low, high, height, tuple(line for block in blocks for line in block.lines))


def _merged(lines: list[Block]) -> list[Block]:
    """Pieces of a row as one, then lines that follow one another with nothing beside them."""
    return _joined(_joined(lines, axis=0, reach=SAME_ROW), axis=1, reach=SAME_BLOCK)


def _joined(blocks: list[Block], axis: int, reach: float) -> list[Block]:
    """Blocks put together along `axis`, the nearest first, where each is all that the other has next to it."""
    while len(blocks) > 1:
        gaps = _gaps_of_only_neighbours(blocks, axis, reach)
        least = gaps.min()
        if not np.isfinite(least):
            break
        nearest = gaps <= least + ALIKE * blocks[int(gaps.min(axis=1).argmin())].height
        following = {int(first): int(second) for first, second in np.argwhere(nearest)}
        starts = [number for number in range(len(blocks)) if number not in following.values()]
        blocks = [_together([blocks[number] for number in _chain(start, following)]) for start in starts]
    return blocks


def _chain(start: int, following: dict[int, int]) -> list[int]:
    chain = [start]
    while chain[-1] in following:
        chain.append(following[chain[-1]])
    return chain


def _gaps_of_only_neighbours(blocks: list[Block], axis: int, reach: float) -> np.ndarray:
    """[from, to]: the gap along `axis` between two blocks that may be one; infinite where they may not."""
    low, high = np.array([block.low for block in blocks]), np.array([block.high for block in blocks])
    height, size = np.array([block.height for block in blocks]), high - low
    across = 1 - axis
    shared = np.minimum.outer(high[:, across], high[:, across]) - np.maximum.outer(low[:, across], low[:, across])
    beside = shared >= BESIDE * np.minimum.outer(size[:, across], size[:, across])
    smaller, larger = np.minimum.outer(height, height), np.maximum.outer(height, height)
    gap = low[None, :, axis] - high[:, None, axis]
    gaps = np.where(beside & (gap > -smaller / 2) & np.less.outer(low[:, axis], low[:, axis]), gap, np.inf)
    near = gaps <= gaps.min(axis=1, keepdims=True) + height[:, None] / 2
    near_back = gaps <= gaps.min(axis=0, keepdims=True) + height[None] / 2
    only = (near & np.isfinite(gaps)).sum(1, keepdims=True) == 1
    only_back = (near_back & np.isfinite(gaps)).sum(0, keepdims=True) == 1
    fits = near & near_back & only & only_back & (gaps <= reach * smaller) & (larger <= SAME_HEIGHT * smaller)
    return np.where(fits, gaps, np.inf)


def _ordered(blocks: list[Block], frame: Frames) -> list[Block]:
    done: list[Block] = []
    waiting = [blocks]
    while waiting:
        part = waiting.pop()
        cut = _clearest_cut(part, frame) if len(part) > 1 else None
        if cut:
            waiting += [cut.second, cut.first]
        else:
            done += _one_by_one(part)
    return done


def _clearest_cut(blocks: list[Block], frame: Frames) -> "Cut | None":
    columns, rows = _cut(blocks, 0, _no_frame), _cut(blocks, 1, _no_frame)
    if columns and rows:
        columns, rows = _cut(blocks, 0, frame) or columns, _cut(blocks, 1, frame) or rows
        return columns if _columns_first(columns, rows) else rows
    return columns or rows


@dataclass(frozen=True)
class Cut:
    """Blocks on both sides of the clearest gap along an axis."""

    first: list[Block]
    second: list[Block]
    gap: float  # pixels
    frame: float  # share of it along which a line is drawn, 0 to 1

    @property
    def clearness(self) -> tuple[bool, float]:
        return self.frame >= FRAME_SHARE, self.gap


def _cut(blocks: list[Block], axis: int, frame: Frames) -> Cut | None:
    """The widest gap that no block reaches into, one with a frame before all others; None where there is none."""
    ordered = sorted(blocks, key=lambda block: block.low[axis])
    best, reached = None, ordered[0].high[axis]
    for number, block in enumerate(ordered[1:], 1):
        gap = block.low[axis] - reached
        if gap > 0:
            cut = Cut(ordered[:number], ordered[number:], gap, frame(ordered[:number], ordered[number:], axis))
            if best is None or cut.clearness > best.clearness:
                best = cut
        reached = max(reached, block.high[axis])
    return best


def _columns_first(columns: Cut, rows: Cut) -> bool:
    """Whether what is left is read before what is right of it, or what is above before what is below."""
    if max(columns.frame, rows.frame) >= FRAME_SHARE and abs(columns.frame - rows.frame) >= FRAME_LEAD:
        return columns.frame > rows.frame
    beside = [any(block.shares(other, 1) > BESIDE for other in columns.second) for block in columns.first]
    others = [any(block.shares(other, 1) > BESIDE for other in columns.first) for block in columns.second]
    if min(np.mean(beside), np.mean(others)) < SIDE_BY_SIDE:
        return False
    height = float(np.median([block.height for block in columns.first + columns.second]))
    return rows.frame < FRAME_SHARE and columns.gap > rows.gap and rows.gap < PANELS_APART * height


def _one_by_one(blocks: list[Block]) -> list[Block]:
    """Where nothing can be cut: the topmost block that has none left above it or, in its row, to its left."""
    left = sorted(blocks, key=lambda block: block.low[1])
    behind = [[place for place, other in enumerate(left) if _comes_before(block, other)] for block in left]
    before = np.zeros(len(left))
    for others in behind:
        before[others] += 1
    order = []
    for _ in left:
        order.append(int(before.argmin()))
        before[behind[order[-1]]] -= 1
        before[order[-1]] = np.inf
    return [left[place] for place in order]


def _comes_before(block: Block, other: Block) -> bool:
    if block.shares(other, 1) > BESIDE:
        return block.low[0] < other.low[0] and block.gap(other, 0) > -other.height
    return block.low[1] < other.low[1] and block.shares(other, 0) > 0


def _no_frame(first: list[Block], second: list[Block], axis: int) -> float:
    return 0.0


class PictureFrames:
    """Finds frames in a picture, [height, width], grey."""

    def __init__(self, grey: np.ndarray):
        import cv2

        self.scale = min(1.0, FRAME_SIDE / max(grey.shape))
        size = [max(1, round(side * self.scale)) for side in grey.shape[::-1]]
        small = cv2.resize(np.ascontiguousarray(grey), size, interpolation=cv2.INTER_AREA).astype(np.int16)
        # Over two pixels: an edge between panels may lie within one.
        across, down = np.abs(small[:, 2:] - small[:, :-2]), np.abs(small[2:] - small[:-2])
        self.edges = [across > FRAME_LEVELS, (down > FRAME_LEVELS).T]  # [along the gap, across it] of a cut along x, y

    def between(self, first: list[Block], second: list[Block], axis: int) -> float:
        """Share of the way, as far as the blocks reach, along which an edge runs through the gap between them."""
        edges = self.edges[axis]
        start = round(max(block.high[axis] for block in first) * self.scale)
        end = round(min(block.low[axis] for block in second) * self.scale)
        low = round(min(block.low[1 - axis] for block in first + second) * self.scale)
        high = round(max(block.high[1 - axis] for block in first + second) * self.scale)
        gap = edges[max(0, low) : high, max(0, start - 1) : end]
        return float(gap.mean(axis=0).max()) if gap.size else 0.0
