"""Finds what exporters write as several nodes and Thimble has as one function: hard swish.

x * HardSigmoid(x), x * Clip(x + 3, 0, 6) / 6 and its variants become one HardSwish node.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from model_packager.importers.onnx.source import SourceModel, SourceNode

_SIXTH = 1 / 6


def fuse_patterns(source: SourceModel) -> None:
    """Rewrite the nodes of `source` in place; the positions that the nodes know stay those of the file."""
    finder = _Finder(source)
    for node in source.nodes:
        found = finder.hard_swish(node)
        if found is not None:
            name, parts = found
            node.kind, node.inputs, node.attributes = "HardSwish", [name], {}
            finder.dropped.update(part.index for part in parts)
    source.nodes[:] = [node for node in source.nodes if node.index not in finder.dropped]


class _Finder:
    """Looks back from a node through its inputs; only nodes whose output nobody else reads may vanish."""

    def __init__(self, source: SourceModel) -> None:
        self.source = source
        self.dropped: set[int] = set()
        self._makers = {name: node for node in source.nodes for name in node.outputs}
        self._reads = Counter(name for node in source.nodes for name in node.inputs)
        self._reads.update(port.name for port in source.outputs)

    def hard_swish(self, node: SourceNode) -> tuple[str, list[SourceNode]] | None:
        """(name of x, nodes that vanish) if `node` is the last one of a hard swish."""
        if node.kind == "Mul":
            for x, other in (node.inputs, node.inputs[::-1]) if len(node.inputs) == 2 else ():
                parts = self._hard_sigmoid(other, x)
                if parts is not None:
                    return x, parts
        product = self._sixth_of(node)
        if product is None or product.kind != "Mul" or len(product.inputs) != 2:
            return None
        for x, other in (product.inputs, product.inputs[::-1]):
            parts = self._clipped_sum(other, x)
            if parts is not None:
                return x, [product, *parts]
        return None

    def _sole(self, name: str, kind: str = "") -> SourceNode | None:
        """The node that makes `name`, if it has one output that is read once, and the wanted kind."""
        node = self._makers.get(name)
        if node is None or len(node.outputs) != 1 or self._reads[name] != 1 or node.index in self.dropped:
            return None
        return node if kind in ("", node.kind) else None

    def _number(self, name: str) -> float | None:
        """The value of a constant of one element."""
        maker = self._makers.get(name)
        values = self.source.constants.get(name)
        if maker is not None and maker.kind == "Constant":
            values = maker.attributes.get("value", maker.attributes.get("value_float"))
        array = np.asarray(values) if values is not None else np.zeros(0)
        return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fiu" else None

    def _sixth_of(self, node: SourceNode) -> SourceNode | None:
        """The node whose output `node` divides by 6."""
        if len(node.inputs) != 2:
            return None
        for operand, constant in (node.inputs, node.inputs[::-1] if node.kind == "Mul" else node.inputs):
            number = self._number(constant)
            if number is not None and (
                (node.kind == "Div" and number == 6) or (node.kind == "Mul" and abs(number - _SIXTH) < 1e-6)
            ):
                return self._sole(operand)
        return None

    def _hard_sigmoid(self, name: str, x: str) -> list[SourceNode] | None:
        """The nodes of clip(x / 6 + 1/2, 0, 1), in either writing."""
        node = self._sole(name)
        if node is None:
            return None
        if node.kind == "HardSigmoid" and node.inputs == [x]:
            alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
            return [node] if abs(alpha - _SIXTH) < 1e-6 and beta == 0.5 else None
        inner = self._sixth_of(node)
        parts = self._clipped_sum(inner.outputs[0], x) if inner is not None else None
        return None if parts is None else [node, *parts]

    def _clipped_sum(self, name: str, x: str) -> list[SourceNode] | None:
        """The nodes of clip(x + 3, 0, 6)."""
        clip = self._sole(name, "Clip")
        total = self._sole(clip.inputs[0], "Add") if clip is not None and clip.inputs else None
        if clip is None or total is None or len(total.inputs) != 2 or self._bounds(clip) != (0.0, 6.0):
            return None
        for operand, constant in (total.inputs, total.inputs[::-1]):
            if operand == x and self._number(constant) == 3:
                return [clip, total]
        return None

    def _bounds(self, clip: SourceNode) -> tuple[float | None, float | None]:
        low, high = (clip.attributes.get(name) for name in ("min", "max"))
        if len(clip.inputs) > 1:
            low = self._number(clip.inputs[1])
        if len(clip.inputs) > 2:
            high = self._number(clip.inputs[2])
        return low, high
