"""The library's random numbers in float64 NumPy: which they are no paper says, so that an oracle has to draw the same.

A 32-bit hash of a seed, made of step and leaf, and of the index of the entry; two words make one normal number.
"""

import numpy as np

WORD = 0xFFFFFFFF
INDEX, STEP, LEAF = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35


def mixed(h: np.ndarray | int) -> np.ndarray:
    """A 32-bit finalizer: shift by 16, times 0x21f0aaad, shift by 15, times 0x735a2d97, shift by 15."""
    h = np.asarray(h, np.uint64) & WORD
    h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x21F0AAAD)) & WORD
    h = ((h ^ (h >> np.uint64(15))) * np.uint64(0x735A2D97)) & WORD
    return h ^ (h >> np.uint64(15))


def seed_of(turn: int, leaf: int) -> int:
    """The seed of one leaf at one turn, both counted as the library does: turns from 1, leaves from 0."""
    return int(mixed((turn * STEP + leaf * LEAF) & WORD))


def normals(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal numbers by Box and Muller, of two times 23 random bits each."""
    index = (np.arange(int(np.prod(shape)), dtype=np.uint64).reshape(shape) * np.uint64(INDEX)) & WORD
    u, w = ((np.floor(mixed(index ^ np.uint64(salt)) / 512.0) + 0.5) / 2.0**23 for salt in (seed, int(mixed(seed + 1))))
    return np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * w)


def coin(seed: int) -> float:
    """A number in [0, 1) of 24 random bits."""
    return float(mixed((seed * INDEX & WORD) ^ int(mixed(0))) >> np.uint64(8)) / 2**24
