"""What is computed: typed, pure, append-only graphs with symbolic sizes.

types.py      DType table, Type (dtype + shape)
dim.py        Dim: integer polynomials over named sizes and floor divisions
op.py         Op, Kind, the OPS table
roles.py      what a source is
graph.py      Value, Node, Graph
body.py       Body: a graph as an attribute, for loops
pattern.py    wildcards, Rule, match, rewrite
text.py       print a graph; parse.py reads it back
verify.py     what every graph must satisfy
interpret.py  run a graph with the NumPy references
"""
