"""CRC-32C (Castagnoli) in NumPy: the sums of TensorFlow's files. Knows bytes only."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # reflected
ROW = 256  # bytes that one lane runs through
CHUNK = 1 << 24

Words: TypeAlias = NDArray[np.uint32]


def _table() -> Words:
    table: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = ((table >> 1) ^ ((table & 1) * POLYNOMIAL)).astype(np.uint32)
    return table


TABLE = _table()
BYTES = TABLE.tolist()


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of the bytes."""
    state = 0xFFFFFFFF
    for start in range(0, len(data), CHUNK):
        state = _advanced(state, data[start : start + CHUNK])
    return state ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form in which LevelDB's and TensorFlow's files store a sum."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _advanced(state: int, data: bytes | memoryview) -> int:
    """The register behind the bytes. Of many bytes: the register is linear in state and message,
    so that rows are run side by side from zero, and joined in pairs."""
    if len(data) < 4 * ROW:
        for byte in data:
            state = BYTES[(state ^ byte) & 255] ^ (state >> 8)
        return state
    lanes = 1 << (-(-len(data) // ROW) - 1).bit_length()
    # Zeros in front leave a register of zero as it is; a state is the same as its bytes, added to
    # the first four of the message.
    rows = np.zeros(lanes * ROW, np.uint8)
    begin = len(rows) - len(data)
    rows[begin:] = np.frombuffer(data, np.uint8)
    rows[begin : begin + 4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    columns = np.ascontiguousarray(rows.reshape(lanes, ROW).T)
    registers = np.zeros(lanes, np.uint32)
    for column in columns:
        registers = TABLE[(registers ^ column) & 255] ^ (registers >> 8)
    # What ROW zero bytes make of each single bit.
    shift = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(ROW):
        shift = TABLE[shift & 255] ^ (shift >> 8)
    while len(registers) > 1:
        registers = _times(shift, registers[0::2]) ^ registers[1::2]
        shift = _times(shift, shift)  # twice as many zeros
    return int(registers[0])


def _times(shift: Words, registers: Words) -> Words:
    """A linear map, given by what it makes of each bit."""
    result: NDArray[Any] = np.zeros_like(registers)
    for bit in range(32):
        result ^= np.where((registers >> np.uint32(bit)) & 1, shift[bit], np.uint32(0))
    return result
