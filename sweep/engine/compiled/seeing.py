"""Around the kernels, where every trial has images of its own: weights packed, images into lanes, what scores say."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.engine.compiled.llvm import Code

FACTS = 5  # of each image: see `Facts`


@dataclass(frozen=True)
class Rearrange:
    """Packs the weights of a trial: ``rearrange(ptr x, ptr i, ptr y)``, with y[k] = x[i[k]] and i int32.

    Attributes:
        row: floats of a trial in x.
        size: floats in y, a multiple of `lanes`.
    """

    row: int
    size: int

    def emit(self, code: Code) -> None:
        """All of them."""

        def each(j: str) -> None:
            i, y = (code.at(pointer, 0, j, code.lanes) for pointer in ("%i", "%y"))
            for k in range(code.lanes):
                number = code.let(f"load i32, ptr {code.at(i, k)}")
                x = code.at("%x", 0, code.let(f"sext i32 {number} to i64"), 1)
                value = code.let(f"load float, ptr {x}")
                code.lines.append(f"store float {value}, ptr {code.at(y, k)}")

        code.loop(self.size // code.lanes, each)


@dataclass(frozen=True)
class Gather:
    """Brings one image for each lane from where images lie one after the other into the array of a block.

    ``gather(ptr x, ptr i, ptr y)``: all images, the numbers (lanes,) int32 of those wanted, the array. The zeros around
    an activation are left as they are.

    Attributes:
        rows: of an image that are read one by one; 1 where nothing stands between them.
        row: floats of a row.
        y_from, y_row: floats of the array before its first row, and from one row to the next.
        size: floats of the array.
    """

    rows: int
    row: int
    y_from: int
    y_row: int
    size: int

    def emit(self, code: Code) -> None:
        """All rows, as many floats at a time as there are lanes: read along images, stored across them."""
        lanes, size = code.lanes, self.rows * self.row
        images = []
        for lane in range(lanes):
            number = code.let(f"load i32, ptr {code.at('%i', lane)}")
            images.append(code.at("%x", 0, code.let(f"sext i32 {number} to i64"), size))

        def each_row(i: str) -> None:
            y = code.at("%y", self.y_from, i, self.y_row)
            rows = [code.at(image, 0, i, self.row) for image in images]
            if self.row < lanes:
                for k in range(self.row):
                    self._emit_column(code, rows, y, k)
                return

            def each_part(j: str) -> None:
                self._emit_square(code, [code.at(row, 0, j, lanes) for row in rows], code.at(y, 0, j, lanes * lanes))

            code.loop(self.row // lanes, each_part)
            if self.row % lanes:  # the last ones, some of them once more
                last = self.row - lanes
                self._emit_square(code, [code.at(row, last) for row in rows], code.at(y, last * lanes))

        code.loop(self.rows, each_row)

    def _emit_square(self, code: Code, rows: list[str], y: str) -> None:
        """Transposes lanes × lanes floats: pairs of registers exchange halves, quarters, ..."""
        lanes, step = code.lanes, code.lanes // 2
        square = [code.load(row, aligned=False) for row in rows]
        while step:
            for k in (k for k in range(lanes) if not k & step):
                a, b = square[k], square[k + step]
                square[k] = code.shuffle(a, b, [lanes + j - step if j & step else j for j in range(lanes)])
                square[k + step] = code.shuffle(a, b, [lanes + j if j & step else j + step for j in range(lanes)])
            step //= 2
        for k, column in enumerate(square):
            code.store(column, code.at(y, k * lanes))

    def _emit_column(self, code: Code, rows: list[str], y: str, k: int) -> None:
        column = "undef"
        for lane, row in enumerate(rows):
            value = code.let(f"load float, ptr {code.at(row, k)}")
            column = code.let(f"insertelement {code.vector} {column}, float {value}, i32 {lane}")
        code.store(column, code.at(y, k * code.lanes))


@dataclass(frozen=True)
class Facts:
    """What the scores of a block say: ``facts(ptr x, ptr y)``.

    For each image the largest score and the next one, the smallest, the number of the first that is largest, and 0, or
    NaN where a score is no finite number. Where one is, the others mean nothing.

    Attributes:
        outputs: scores of an image, at least 2.
    """

    outputs: int

    def emit(self, code: Code) -> None:
        """One block."""

        def each(i: str, best: str, second: str, lowest: str, choice: str, odd: str, number: str) -> list[str]:
            x = code.load(code.at("%x", code.lanes, i, code.lanes))
            second = code.maximum(second, code.minimum(best, x))
            lowest = code.minimum(lowest, x)
            odd = code.binary("fadd", odd, code.binary("fsub", x, x))
            greater = code.let(f"fcmp ogt {code.vector} {x}, {best}")
            kind = f"<{code.lanes} x i1>"
            choice = code.let(f"select {kind} {greater}, {code.vector} {number}, {code.vector} {choice}")
            best = code.let(f"select {kind} {greater}, {code.vector} {x}, {code.vector} {best}")
            return [best, second, lowest, choice, odd, code.binary("fadd", number, code.constant(1))]

        first = code.load("%x")
        none, odd = code.constant(float("-inf")), code.binary("fsub", first, first)
        start = [first, none, first, "zeroinitializer", odd, code.constant(1)]
        for k, fact in enumerate(code.loop(self.outputs - 1, each, start)[:FACTS]):
            code.store(fact, code.at("%y", k * code.lanes))
