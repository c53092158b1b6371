"""Lines of LLVM IR: text of the small functions that call kernels; sizes are computed where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.ir import dim
from kcompile.ir.dim import DimLike, FloorDiv, Symbol
from kcompile.ir.rules import Largest, Rule


class Lines:
    """The body of one function; numbers its values; computes sizes once."""

    def __init__(self, symbols: dict[str, str]):
        self.lines: list[str] = []
        self.count = 0
        self.known: dict[DimLike, str] = {}
        self.symbols = symbols  # size name -> the value that holds it

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def value(self, text: str) -> str:
        self.count += 1
        self.line(f"%v{self.count} = {text}")
        return f"%v{self.count}"

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def size(self, value: DimLike) -> str:
        """The number a size stands for."""
        if dim.is_static(value):
            return str(value)
        if value not in self.known:
            self.known[value] = self._sum(value)
        return self.known[value]

    def _sum(self, value) -> str:
        total = "0"
        for monomial, coefficient in value.terms.items():
            product = str(coefficient)
            for atom in monomial:
                factor = self._atom(atom)
                product = factor if product == "1" else self.value(f"mul nsw i64 {product}, {factor}")
            total = product if total == "0" else self.value(f"add nsw i64 {total}, {product}")
        return total

    def _atom(self, atom) -> str:
        if isinstance(atom, Symbol):
            return self.symbols[atom.name]
        assert isinstance(atom, FloorDiv)
        key = dim.Dim({(atom,): 1})
        if key not in self.known:  # sizes are not negative, so sdiv is floor division
            top, bottom = self.size(atom.numerator), self.size(atom.denominator)
            self.known[key] = self.value(f"sdiv i64 {top}, {bottom}")
        return self.known[key]

    def address(self, base: str, offset: str) -> str:
        return base if offset == "0" else self.value(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load_sizes(self, symbols: tuple[str, ...]) -> None:
        for n, name in enumerate(symbols):
            self.symbols[name] = self.element("i64", "%sizes", n)

    def define(self, rules: Sequence[Rule]) -> None:
        """Work out what the names in offsets stand for."""
        compared: dict[tuple[DimLike, DimLike], str] = {}
        for rule in rules:
            if isinstance(rule, Largest):
                highest, *others = map(self.size, rule.of)
                for other in others:
                    highest = self.value(f"call i64 @llvm.smax.i64(i64 {highest}, i64 {other})")
                self.symbols[rule.name] = highest
                continue
            totals = rule.low, rule.high
            if totals not in compared:
                compared[totals] = self.value(f"icmp sle i64 {self.size(rule.low)}, {self.size(rule.high)}")
            first, second = self.size(rule.first), self.size(rule.second)
            chosen = f"select i1 {compared[totals]}, i64 {first}, i64 {second}"
            self.symbols[rule.name] = self.value(chosen)

    def element(self, type_: str, base: str, n: int | str) -> str:
        place = self.value(f"getelementptr {type_}, ptr {base}, i64 {n}")
        return self.value(f"load {type_}, ptr {place}")

    def store(self, type_: str, value: str, base: str, n: int | str) -> None:
        place = self.value(f"getelementptr {type_}, ptr {base}, i64 {n}")
        self.line(f"store {type_} {value}, ptr {place}")

    def copy(self, target: str, source: str, nbytes: str) -> None:
        self.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {nbytes}, i1 false)")

    def text(self, header: str) -> str:
        # nounwind: without it the object carries unwind tables, which a JIT has to register and which
        # libgcc's registry aborts on when other libraries have replaced it
        return header + " nounwind {\nentry:\n" + "\n".join(self.lines) + "\n}\n"
