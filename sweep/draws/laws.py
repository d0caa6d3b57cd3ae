"""LLVM's assembly language for the laws of NumPy's Generator, to the last bit.

- `uniform`: float32, a word's upper 24 bits · 2⁻²⁴;
- `double`: float64, the upper 53 of two words' 64 bits · 2⁻⁵³, the place being even;
- `normal`: float32 by the ziggurat. A word has a strip (8 bits), a sign, and a place in the strip (23 bits). As many
  draws as a SIMD register holds are made at a time. The first that is not surely under the density, which is one of a
  hundred, is made anew by itself: it is accepted below the density's own height, at the cost of another word, or drawn
  from the tail at the cost of two for each attempt.
"""

from __future__ import annotations

import ctypes

from sweep.draws.words import words_assembly
from sweep.draws.ziggurat import EDGE, STRIPS, strips


def assembly_of(lanes: int, exp: int, log1pf: int) -> str:
    """A module with ``i64 LAW(i32, i32, i32, i32, i64 at, ptr out, i64 n)`` for each law, by name.

    The four numbers are those of the stream, `at` is how many words were taken from it, `out` takes the draws, and the
    result is how many words are taken then. `lanes` is the number of floats in a SIMD register; `exp` and `log1pf` are
    the addresses of the C library's functions of these names that NumPy calls.
    """
    strip = strips()
    joined = [int(sure) << 32 | int(width) for sure, width in zip(strip.sure, strip.width.view("u4"), strict=True)]
    heights = [single_of(float(height)) for height in strip.height]
    return "\n".join(
        [
            f"@strips = internal constant [{STRIPS} x i64] [{', '.join(f'i64 {both}' for both in joined)}], align 64",
            f"@heights = internal constant [{STRIPS} x float] [{', '.join(f'float {h}' for h in heights)}], align 64",
            words_assembly(),
            _plain("uniform", "float", 24, lanes),
            _plain("double", "double", 53, lanes // 2),
            f"@exp = internal constant ptr inttoptr (i64 {exp} to ptr)",
            f"@log1pf = internal constant ptr inttoptr (i64 {log1pf} to ptr)",
            _normal(lanes),
        ]
    )


def single_of(value: float) -> str:
    """A float as LLVM writes it."""
    bits = ctypes.c_uint64.from_buffer(ctypes.c_double(ctypes.c_float(value).value)).value
    return f"0x{bits:016X}"


def _all(value: str, lanes: int) -> str:
    """The same in all lanes; `value` has its type before it."""
    return "<" + ", ".join([value] * lanes) + ">"


def _law(name: str, kind: str, words: int, lanes: int, many: str, one: str) -> str:
    """A law of draws of a kind, each of which takes so many words at least.

    `many` makes as many draws as there are lanes, of the words at %words, writes them to %draws, and ends at %whole; or
    at %one, with how many of them stand in %sure, which is 0 else. `one` makes a single draw of the words at %word, of
    which there are %there, writes it to %draw, and ends at %accepted or %rejected with the words that it took in %used;
    or at %refill, where it needs more words.
    """
    return f"""
define i64 @{name}(i32 %a, i32 %b, i32 %c, i32 %d, i64 %at, ptr noalias %out, i64 %n) nounwind {{
%s = alloca %stream, align 64
%used = alloca i64
%sure = alloca i64
%p.done = alloca i64
%p.block = getelementptr %stream, ptr %s, i64 0, i32 2
%p.place = getelementptr %stream, ptr %s, i64 0, i32 3
%p.end = getelementptr %stream, ptr %s, i64 0, i32 4
%buffer = getelementptr %stream, ptr %s, i64 0, i32 5
%in.all = mul i64 %n, {words}
call void @begin(ptr %s, i32 %a, i32 %b, i32 %c, i32 %d, i64 %at, i64 %in.all)
store i64 0, ptr %p.done
store i64 0, ptr %sure
br label %next
next:
%place = load i64, ptr %p.place
%end = load i64, ptr %p.end
%done = load i64, ptr %p.done
%left = sub i64 %n, %done
%rest = sub i64 %end, %place
%finished = icmp eq i64 %left, 0
br i1 %finished, label %exit, label %going
going:
%words = getelementptr i32, ptr %buffer, i64 %place
%draws = getelementptr {kind}, ptr %out, i64 %done
%wanted = icmp uge i64 %left, {lanes}
%enough = icmp uge i64 %rest, {lanes * words}
%both = and i1 %wanted, %enough
br i1 %both, label %many, label %few
many:
{many}
whole:
%place.whole = add i64 %place, {lanes * words}
%done.whole = add i64 %done, {lanes}
store i64 %place.whole, ptr %p.place
store i64 %done.whole, ptr %p.done
br label %next
few:
%any = icmp uge i64 %rest, {words}
br i1 %any, label %one, label %refill
one:
%skipped = load i64, ptr %sure
store i64 0, ptr %sure
%place.one = add i64 %place, %skipped
%done.one = add i64 %done, %skipped
%there = sub i64 %end, %place.one
store i64 %place.one, ptr %p.place
store i64 %done.one, ptr %p.done
%word = getelementptr i32, ptr %buffer, i64 %place.one
%draw = getelementptr {kind}, ptr %out, i64 %done.one
{one}
accepted:
%done.more = add i64 %done.one, 1
store i64 %done.more, ptr %p.done
br label %rejected
rejected:
%took = load i64, ptr %used
%place.more = add i64 %place.one, %took
store i64 %place.more, ptr %p.place
br label %next
refill:
%done.now = load i64, ptr %p.done
%undone = sub i64 %n, %done.now
%needed = mul i64 %undone, {words}
call void @refill(ptr %s, i64 %needed)
br label %next
exit:
%block = load i64, ptr %p.block
%made = shl i64 %block, 3
%taken = sub i64 %made, %rest
ret i64 %taken
}}"""


def _plain(name: str, kind: str, bits: int, lanes: int) -> str:
    """The law of the upper bits of a word, as a fraction of one."""
    word = "i32" if kind == "float" else "i64"
    lower, step = f"{word} {int(word[1:]) - bits}", f"{kind} {single_of(2.0**-bits)}"
    words, draws = f"<{lanes} x {word}>", f"<{lanes} x {kind}>"
    many = f"""%a.word = load {words}, ptr %words, align 4
%a.upper = lshr {words} %a.word, {_all(lower, lanes)}
%a.number = sitofp {words} %a.upper to {draws}
%a.value = fmul {draws} %a.number, {_all(step, lanes)}
store {draws} %a.value, ptr %draws, align 4
br label %whole"""
    one = f"""%b.word = load {word}, ptr %word, align 4
%b.upper = lshr {lower.replace(" ", " %b.word, ")}
%b.number = sitofp {word} %b.upper to {kind}
%b.value = fmul {step.replace(" ", " %b.number, ")}
store {kind} %b.value, ptr %draw, align 4
store i64 {int(word[1:]) // 32}, ptr %used
br label %accepted"""
    return _law(name, kind, int(word[1:]) // 32, lanes, many, one)


def _normal(lanes: int) -> str:
    """The standard normal law."""
    words, places = f"<{lanes} x i32>", f"<{lanes} x i64>"
    many = f"""%m.word = load {words}, ptr %words, align 4
%m.strip = and {words} %m.word, {_all("i32 255", lanes)}
%m.moved = shl {words} %m.word, {_all("i32 23", lanes)}
%m.sign = and {words} %m.moved, {_all("i32 -2147483648", lanes)}
%m.step = lshr {words} %m.word, {_all("i32 9", lanes)}
%m.index = zext {words} %m.strip to {places}
%m.entry = getelementptr i64, ptr @strips, {places} %m.index
%m.both = call {places} @llvm.masked.gather.v{lanes}i64.v{lanes}p0(<{lanes} x ptr> %m.entry, i32 8,
 <{lanes} x i1> {_all("i1 true", lanes)}, {places} undef)
%m.bits = trunc {places} %m.both to {words}
%m.upper = lshr {places} %m.both, {_all("i64 32", lanes)}
%m.limit = trunc {places} %m.upper to {words}
%m.width = bitcast {words} %m.bits to <{lanes} x float>
%m.number = sitofp {words} %m.step to <{lanes} x float>
%m.value = fmul <{lanes} x float> %m.number, %m.width
%m.plain = bitcast <{lanes} x float> %m.value to {words}
%m.signed = xor {words} %m.plain, %m.sign
store {words} %m.signed, ptr %draws, align 4
%m.under = icmp slt {words} %m.step, %m.limit
%m.mask = bitcast <{lanes} x i1> %m.under to i{lanes}
%m.beyond = xor i{lanes} %m.mask, -1
%m.all = icmp eq i{lanes} %m.beyond, 0
br i1 %m.all, label %whole, label %part
part:
%m.first = call i{lanes} @llvm.cttz.i{lanes}(i{lanes} %m.beyond, i1 true)
%m.count = zext i{lanes} %m.first to i64
store i64 %m.count, ptr %sure
br label %one"""
    return (
        _law("normal", "float", 1, lanes, many, _ONE_NORMAL)
        + f"""
declare {places} @llvm.masked.gather.v{lanes}i64.v{lanes}p0(<{lanes} x ptr>, i32, <{lanes} x i1>, {places})
declare i{lanes} @llvm.cttz.i{lanes}(i{lanes}, i1)"""
    )


_ONE_NORMAL = f"""%o.word = load i32, ptr %word
%o.strip = and i32 %o.word, 255
%o.moved = shl i32 %o.word, 23
%o.sign = and i32 %o.moved, -2147483648
%o.step = lshr i32 %o.word, 9
%o.index = zext i32 %o.strip to i64
%o.entry = getelementptr i64, ptr @strips, i64 %o.index
%o.both = load i64, ptr %o.entry
%o.bits = trunc i64 %o.both to i32
%o.upper = lshr i64 %o.both, 32
%o.limit = trunc i64 %o.upper to i32
%o.width = bitcast i32 %o.bits to float
%o.number = sitofp i32 %o.step to float
%o.value = fmul float %o.number, %o.width
%o.plain = bitcast float %o.value to i32
%o.signed = xor i32 %o.plain, %o.sign
store i32 %o.signed, ptr %draw
store i64 1, ptr %used
%o.under = icmp slt i32 %o.step, %o.limit
br i1 %o.under, label %accepted, label %unsure
unsure:
%lowest = icmp eq i32 %o.strip, 0
br i1 %lowest, label %tail, label %wedge
wedge:
%w.enough = icmp uge i64 %there, 2
br i1 %w.enough, label %height, label %refill
height:
%w.place = getelementptr i32, ptr %word, i64 1
%w.word = load i32, ptr %w.place
%w.upper = lshr i32 %w.word, 8
%w.number = sitofp i32 %w.upper to float
%w.share = fmul float %w.number, {single_of(2.0**-24)}
%w.above = sub i64 %o.index, 1
%w.p.top = getelementptr float, ptr @heights, i64 %w.above
%w.p.bottom = getelementptr float, ptr @heights, i64 %o.index
%w.top = load float, ptr %w.p.top
%w.bottom = load float, ptr %w.p.bottom
%w.high = fsub float %w.top, %w.bottom
%w.part = fmul float %w.high, %w.share
%w.height = fadd float %w.part, %w.bottom
%w.own = fpext float %w.height to double
%w.x = fpext float %o.value to double
%w.half = fmul double %w.x, -5.000000e-01
%w.power = fmul double %w.half, %w.x
%w.exp = load ptr, ptr @exp
%w.density = call double %w.exp(double %w.power)
store i64 2, ptr %used
%w.below = fcmp olt double %w.own, %w.density
br i1 %w.below, label %accepted, label %rejected
tail:
%t.taken = phi i64 [1, %unsure], [%t.end, %attempt]
%t.second = add i64 %t.taken, 1
%t.end = add i64 %t.taken, 2
%t.enough = icmp uge i64 %there, %t.end
br i1 %t.enough, label %attempt, label %refill
attempt:
%t.p.x = getelementptr i32, ptr %word, i64 %t.taken
%t.p.y = getelementptr i32, ptr %word, i64 %t.second
%t.word.x = load i32, ptr %t.p.x
%t.word.y = load i32, ptr %t.p.y
%t.upper.x = lshr i32 %t.word.x, 8
%t.upper.y = lshr i32 %t.word.y, 8
%t.number.x = sitofp i32 %t.upper.x to float
%t.number.y = sitofp i32 %t.upper.y to float
%t.share.x = fmul float %t.number.x, {single_of(-(2.0**-24))}
%t.share.y = fmul float %t.number.y, {single_of(-(2.0**-24))}
%t.log = load ptr, ptr @log1pf
%t.log.x = call float %t.log(float %t.share.x)
%t.log.y = call float %t.log(float %t.share.y)
%t.x = fmul float %t.log.x, {single_of(-1 / EDGE)}
%t.y = fneg float %t.log.y
%t.twice = fadd float %t.y, %t.y
%t.square = fmul float %t.x, %t.x
%t.below = fcmp ogt float %t.twice, %t.square
br i1 %t.below, label %far, label %tail
far:
%t.far = fadd float %t.x, {single_of(EDGE)}
%t.minus = fneg float %t.far
%t.bit = and i32 %o.step, 256
%t.left = icmp ne i32 %t.bit, 0
%t.value = select i1 %t.left, float %t.minus, float %t.far
store float %t.value, ptr %draw
store i64 %t.end, ptr %used
br label %accepted"""
