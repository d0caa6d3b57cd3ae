"""LLVM's assembly language for the words of a stream: SeedSequence and Philox4x64-10, as NumPy has them.

A stream is a sequence of words of 32 bits, eight for each counter from 1 on (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011). Its key comes from four numbers by O'Neill's `seed_seq_fe`
(https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html).
"""

from __future__ import annotations

from collections.abc import Callable

ROUNDS = 10
BUFFER = 1024  # words that are made at a time
_KEYS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # added to the key from round to round
_FACTORS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WORD = 2**32
_INIT_A, _MULT_A = 0x43B0D7E5, 0x931E8875
_INIT_B, _MULT_B = 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R = 0xCA01F9DD, 0x4973F715


def words_assembly() -> str:
    """The type %stream, and functions on it.

    ``@begin(ptr stream, i32, i32, i32, i32, i64 at, i64 words)`` sets it to the stream of four numbers, behind `at`
    words, with about as many words made as are wanted. ``@refill(ptr stream, i64 words)`` moves those that are left to
    the front of its buffer, and makes others. Its elements 2 to 5 are the block behind the buffer, the place in the
    buffer, the end of what it holds, and the buffer.
    """
    stream = f"%stream = type {{ i64, i64, i64, i64, i64, [{BUFFER} x i32] }}"
    return "\n".join([stream, _philox(), _begin(), _REFILL])


class _Lines:
    """Names the values of expressions."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def let(self, expression: str) -> str:
        self.lines.append(f"%t{len(self.lines)} = {expression}")
        return f"%t{len(self.lines) - 1}"


def _philox() -> str:
    """Fills `out` with so many blocks of eight words, from a counter on."""
    code = _Lines()
    let = code.let
    words = ["%counter", "0", "0", "0"]
    for turn in range(ROUNDS):
        keys = [let(f"add i64 %key{k}, {step * turn % 2**64}") for k, step in enumerate(_KEYS)]
        low, high = [], []
        for word, factor in zip(words[::2], _FACTORS, strict=True):
            product = let(f"mul i128 {let(f'zext i64 {word} to i128')}, {factor}")
            low.append(let(f"trunc i128 {product} to i64"))
            high.append(let(f"trunc i128 {let(f'lshr i128 {product}, 64')} to i64"))
        mixed = [let(f"xor i64 {let(f'xor i64 {high[1 - k]}, {words[1 + 2 * k]}')}, {keys[k]}") for k in range(2)]
        words = [mixed[0], low[1], mixed[1], low[0]]
    for k, word in enumerate(words):
        place = let(f"getelementptr [4 x i64], ptr %out, i64 %i, i64 {k}")
        code.lines.append(f"store i64 {word}, ptr {place}")
    body = "\n".join(code.lines)
    return f"""
define internal void @philox(i64 %key0, i64 %key1, i64 %first, i64 %blocks, ptr noalias %out) noinline nounwind {{
entry:
br label %loop
loop:
%i = phi i64 [0, %entry], [%next, %loop]
%counter = add i64 %first, %i
{body}
%next = add i64 %i, 1
%more = icmp ult i64 %next, %blocks
br i1 %more, label %loop, label %done
done:
ret void
}}"""


def _seeded() -> str:
    """%key0 and %key1 of the stream of %a, %b, %c and %d."""
    code = _Lines()
    let = code.let

    def hashing(constant: int, factor: int) -> Callable[[str], str]:
        def mix(word: str) -> str:
            nonlocal constant
            word = let(f"xor i32 {word}, {constant}")
            constant = constant * factor % _WORD
            return shifted(let(f"mul i32 {word}, {constant}"))

        return mix

    def shifted(word: str) -> str:
        return let(f"xor i32 {word}, {let(f'lshr i32 {word}, 16')}")

    begin, end = hashing(_INIT_A, _MULT_A), hashing(_INIT_B, _MULT_B)
    pool = [begin(word) for word in ("%a", "%b", "%c", "%d")]
    for source in range(4):
        for to in (k for k in range(4) if k != source):
            left, right = let(f"mul i32 {pool[to]}, {_MIX_L}"), let(f"mul i32 {begin(pool[source])}, {_MIX_R}")
            pool[to] = shifted(let(f"sub i32 {left}, {right}"))
    state = [let(f"zext i32 {end(word)} to i64") for word in pool]
    for k in range(2):
        code.lines.append(f"%key{k} = or i64 {state[2 * k]}, {let(f'shl i64 {state[2 * k + 1]}, 32')}")
    return "\n".join(code.lines)


def _begin() -> str:
    """Sets a %stream to a place: its key, the block behind its buffer, place and end of the words in this."""
    return f"""
define internal void @begin(ptr %s, i32 %a, i32 %b, i32 %c, i32 %d, i64 %at, i64 %words) noinline nounwind {{
{_seeded()}
%block = lshr i64 %at, 3
%begun = and i64 %at, 7
%p.key1 = getelementptr %stream, ptr %s, i64 0, i32 1
%p.block = getelementptr %stream, ptr %s, i64 0, i32 2
%p.place = getelementptr %stream, ptr %s, i64 0, i32 3
%p.end = getelementptr %stream, ptr %s, i64 0, i32 4
store i64 %key0, ptr %s
store i64 %key1, ptr %p.key1
store i64 %block, ptr %p.block
store i64 0, ptr %p.place
store i64 0, ptr %p.end
%sum = add i64 %words, %begun
call void @refill(ptr %s, i64 %sum)
store i64 %begun, ptr %p.place
ret void
}}"""


_REFILL = f"""
define internal void @refill(ptr %s, i64 %words) noinline nounwind {{
%p.key1 = getelementptr %stream, ptr %s, i64 0, i32 1
%p.block = getelementptr %stream, ptr %s, i64 0, i32 2
%p.place = getelementptr %stream, ptr %s, i64 0, i32 3
%p.end = getelementptr %stream, ptr %s, i64 0, i32 4
%buffer = getelementptr %stream, ptr %s, i64 0, i32 5
%key0 = load i64, ptr %s
%key1 = load i64, ptr %p.key1
%block = load i64, ptr %p.block
%place = load i64, ptr %p.place
%end = load i64, ptr %p.end
%rest = sub i64 %end, %place
%from = getelementptr i32, ptr %buffer, i64 %place
%bytes = shl i64 %rest, 2
call void @llvm.memmove.p0.p0.i64(ptr %buffer, ptr %from, i64 %bytes, i1 false)
%spare = lshr i64 %words, 6
%some = add i64 %words, %spare
%more = add i64 %some, 23
%wanted = lshr i64 %more, 3
%room = sub i64 {BUFFER}, %rest
%most = lshr i64 %room, 3
%blocks = call i64 @llvm.umin.i64(i64 %wanted, i64 %most)
%to = getelementptr i32, ptr %buffer, i64 %rest
%first = add i64 %block, 1
call void @philox(i64 %key0, i64 %key1, i64 %first, i64 %blocks, ptr %to)
%block.now = add i64 %block, %blocks
%new = shl i64 %blocks, 3
%end.now = add i64 %rest, %new
store i64 %block.now, ptr %p.block
store i64 0, ptr %p.place
store i64 %end.now, ptr %p.end
ret void
}}
declare i64 @llvm.umin.i64(i64, i64)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)"""
